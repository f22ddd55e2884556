"""Heads, or feature files, side by side: who is best, and by how much the others are behind."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluation import Scores
from .intervals import Groups, paired_difference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How one head, or a head on one feature file, did beside the best.

    Attributes
    ----------
    name : str
        The kind of head; path of the feature file, or ``"raw pixels"``.
    accuracy : float
        On images that were not trained on; cross-validation includes the choice of regularisation.
    interval : tuple of float
        Its 95% interval.
    log_loss, calibration_error, calibration_noise : float
        Of the same predictions, as in `Scores`.
    behind : tuple of float
        By how much its accuracy is below that of the best, and the interval of that, image by
        image. The intervals of all that are ranked hold together in 95% of cases.
    seconds : float
        Wall time of search and fit.
    parameters : dict of str to float
        Of a head: what its search chose.
    choice_log_loss : float or None
        Of a head: cross-validated on the training images; what the best head was chosen by.
    dimension : int or None
        Of a feature file: numbers per vector.
    baseline : str
        Of a feature file: ``"random weights"`` or ``"raw pixels"`` if its features are no
        pretrained backbone's, else ``""``.
    no_better_than : tuple of str
        Of a feature file: names of the baselines that it does not beat beyond doubt (such an
        interval of the difference reaches zero or less).
    """

    name: str
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    calibration_error: float
    calibration_noise: float = 0.0
    behind: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds: float
    parameters: dict[str, float] = dataclasses.field(default_factory=dict)
    choice_log_loss: float | None = None
    dimension: int | None = None
    baseline: str = ""
    no_better_than: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, scores: Scores, **more: Any) -> "Standing":
        """An entry with the figures of its scores, before it is ranked."""
        return cls(
            name=name,
            accuracy=scores.accuracy,
            interval=scores.interval,
            log_loss=scores.log_loss,
            calibration_error=scores.calibration_error,
            calibration_noise=scores.calibration_noise,
            **more,
        )


def ranked(
    entries: Sequence[tuple[Standing, NDArray[np.bool_]]],
    groups: Groups,
    by: Callable[[Standing], Any],
) -> tuple[Standing, ...]:
    """Sort by a key, lowest first, and compare each with the best and with the baselines.

    An entry comes with (N,) bool, which of the same N predictions are right; rows of one group are
    one image. The best is the best by luck too, so that intervals are those of
    `paired_difference` for as many as there are: of eight equal entries the first "beats" another
    in at most one of twenty cases, and not in every second as with intervals for two.
    """
    ordered = sorted(entries, key=lambda entry: by(entry[0]))
    best = ordered[0][1]
    baselines = [(one.name, right) for one, right in ordered if one.baseline]

    def ahead(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float, float]:
        return paired_difference(right, other, groups, len(ordered))

    return tuple(
        dataclasses.replace(
            one,
            behind=ahead(best, right),
            no_better_than=tuple(
                name
                for name, other in baselines
                if not one.baseline and ahead(right, other)[1] <= 0
            ),
        )
        for one, right in ordered
    )
