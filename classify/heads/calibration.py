"""Decision values of held-out rows -> a map from decision values to probabilities."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.calibration import (
    CalibratedClassifierCV,
    _CalibratedClassifier,
    _SigmoidCalibration,
    _TemperatureScaling,
)

from .recipe import SIGMOID, TEMPERATURE, Decisions

ENOUGH: Final = 5000
"""Rows that tell one kind of calibration, or one choice of parameters, from another."""
_STEEPEST: Final = 10.0
"""Largest and smallest logarithm of a slope, as in scikit-learn."""


class Part(NamedTuple):
    """Rows that were held out together: a fold."""

    decisions: Decisions
    """(n, c), of a classifier that was not trained on them."""
    codes: NDArray[np.intp]
    """(n,) classes."""
    weights: NDArray[np.float64] | None
    """(n,), or all one."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A map from (n, c) decision values to (n, K) probabilities.

    With `TEMPERATURE` they are the softmax of all decision values times one slope (Guo et al. 2017,
    arXiv:1706.04599), so that the most probable class is the one that the machine decided for. With
    `SIGMOID` each column has a sigmoid of its own (Platt 1999), whose values are then made to sum
    to one; fitted to a handful of rows of each class, these put classes into another order.
    """

    method: str
    maps: list[Any]
    """scikit-learn's fitted calibrators: one for each column, or a single one."""

    def probabilities(self, decisions: Decisions) -> NDArray[np.float64]:
        """What scikit-learn makes of the decision values with the same calibrators."""
        values = decisions.astype(np.float64)
        if self.method == TEMPERATURE:
            return np.asarray(softmax(self.maps[0].beta_ * _logits(values), axis=1))
        columns = zip(self.maps, values.T, strict=True)
        shares = np.stack([one.predict(column) for one, column in columns], axis=1)
        if len(self.maps) == 1:
            return np.hstack([1 - shares, shares])
        total = shares.sum(axis=1, keepdims=True)
        uniform = np.full_like(shares, 1 / len(self.maps))
        return np.asarray(np.divide(shares, total, out=uniform, where=total > 0))

    def log_losses(self, part: Part) -> NDArray[np.float64]:
        """(n,) of its rows."""
        return log_losses(self.probabilities(part.decisions), part.codes)

    def after(self, classifier: Any) -> CalibratedClassifierCV:
        """The fitted classifier with this behind it.

        It is what ``CalibratedClassifierCV(classifier, ensemble=False)`` would be after a fit with
        the same folds, which would fit the classifier again in each of them.
        """
        names = classifier.classes_
        calibrated = CalibratedClassifierCV(classifier, method=self.method, ensemble=False)
        calibrated.classes_, calibrated.n_features_in_ = names, classifier.n_features_in_
        calibrated.calibrated_classifiers_ = [
            _CalibratedClassifier(classifier, self.maps, method=self.method, classes=names)
        ]
        return calibrated


def best_calibration(methods: Sequence[str], parts: Sequence[Part]) -> Calibration:
    """Calibrate by parts, none of which was used for what decided about it.

    Of two `methods`, two classes get sigmoids. More keep the order that the machine has put them
    in, unless sigmoids give rows that they were not fitted to a log loss that is lower by more than
    its standard error.
    """
    columns = parts[0].decisions.shape[1]
    sigmoids = len(methods) > 1 and columns > 1 and _sigmoids_help(parts)
    return calibration(SIGMOID if sigmoids else usual(methods, columns), parts)


def usual(methods: Sequence[str], columns: int) -> str:
    """What is taken without a look at held-out rows: of two, the first for one decision value."""
    return methods[0 if columns == 1 else -1]


def calibration(method: str, parts: Sequence[Part], enough: int | None = None) -> Calibration:
    """One kind of calibration, fitted to all rows, or to `enough` of them."""
    decisions, codes, weights = _joined(parts, enough)
    if method == TEMPERATURE:
        scaling = _TemperatureScaling()
        scaling.beta_ = np.float64(_slope(_logits(decisions), codes, weights))
        return Calibration(method, [scaling])
    columns = decisions.shape[1]
    maps = [
        _SigmoidCalibration().fit(column, (codes == one).astype(np.float64), weights)
        for column, one in zip(decisions.T, range(columns) if columns > 1 else [1], strict=True)
    ]
    return Calibration(method, maps)


def log_losses(probabilities: NDArray[np.floating], codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """(n,): minus the logarithm of the probability of the true class."""
    own = probabilities[np.arange(len(codes)), codes].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float64).tiny)))


def halves(number: int) -> list[tuple[slice, slice]]:
    """Which of so many parts to learn from, and which to judge by; then the other way round."""
    if number == 1:
        return [(slice(None), slice(None))]
    even, odd = slice(0, None, 2), slice(1, None, 2)
    return [(odd, even), (even, odd)]


def _sigmoids_help(parts: Sequence[Part]) -> bool:
    if len(parts) == 1:
        return False
    gains = []
    for known, judged in halves(len(parts)):
        if len(np.unique(_joined(parts[known], ENOUGH)[1])) < parts[0].decisions.shape[1]:
            return False
        kinds = [calibration(one, parts[known], ENOUGH) for one in (TEMPERATURE, SIGMOID)]
        for part in parts[judged]:
            without, within = (kind.log_losses(part) for kind in kinds)
            gain = without - within
            gains.append(gain if part.weights is None else gain * part.weights)
    gain = np.concatenate(gains)
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _joined(
    parts: Sequence[Part], enough: int | None
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64] | None]:
    every = sum(len(part.codes) for part in parts)
    spread = slice(None, None, 1 if enough is None else -(-every // enough))
    decisions = np.concatenate([part.decisions for part in parts])[spread]
    codes = np.concatenate([part.codes for part in parts])[spread]
    weights = [part.weights for part in parts if part.weights is not None]
    return decisions.astype(np.float64), codes, np.concatenate(weights)[spread] if weights else None


def _logits(decisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, K) of (n, c): a single column speaks for the second class and against the first."""
    return np.hstack([-decisions, decisions]) if decisions.shape[1] == 1 else decisions


def _slope(
    logits: NDArray[np.float64], codes: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> float:
    """The slope with the least log loss, as if half a row more had been of a class drawn by lot.

    Without it, rows that are all right ask for a slope without end: of 6 photographs of cats and
    dogs the log loss is then 2.0 instead of 0.24, and 0.26 or 0.31 with one row or two. (Half a row
    is the prior of Krichevsky & Trofimov 1981, doi:10.1109/TIT.1981.1056331.)
    """
    rows, doubt = len(codes), 0.5 / (len(codes) + 0.5)
    own = (1 - doubt) * logits[np.arange(rows), codes] + doubt * logits.mean(axis=1)

    def rise(logarithm: float) -> float:
        """The derivative of the mean log loss; it only grows."""
        shares = softmax(np.exp(logarithm) * logits, axis=1)
        return float(np.average((shares * logits).sum(axis=1) - own, weights=weights))

    if rise(-_STEEPEST) >= 0:
        return float(np.exp(-_STEEPEST))
    if rise(_STEEPEST) <= 0:
        return float(np.exp(_STEEPEST))
    return float(np.exp(brentq(rise, -_STEEPEST, _STEEPEST, xtol=1e-4)))
