"""The nearest class mean: a head that needs next to nothing to learn from."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer, StandardScaler, normalize

from ...features.journal.progress import step
from .recipe import TEMPERATURE, Cut, Decisions, Parameters, Step, Task


@dataclasses.dataclass(frozen=True)
class Prototype:
    """The nearest of the class means of vectors that are centred and then of length one.

    A prototypical network (Snell et al. 2017, arXiv:1703.05175) with a frozen backbone; centring
    before the division is from Wang et al. 2019, arXiv:1911.04623. There is nothing to choose but
    how steep the probabilities are, which is a calibration. It is linear in those vectors.
    """

    name: str = "prototype"
    probabilities: None = None
    calibrations: tuple[str, ...] = (TEMPERATURE,)
    searches: bool = False
    streams: bool = False

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """A single step: there is nothing to search."""
        judge(self.at({}, task, cuts))

    def at(
        self,
        parameters: Parameters,
        task: Task,
        cuts: Sequence[Cut],
        start: Any = None,  # noqa: ARG002
    ) -> Step:
        """Means for every cut."""
        decisions = []
        with step("folds", len(cuts), "fold") as done:
            for cut in cuts:
                decisions.append(_decide(task, cut))
                done.add(1)
        return Step(parameters, decisions)

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:  # noqa: ARG002
        """Means of all rows."""
        everything = np.arange(len(task.codes))
        centre, coefficients, intercepts = _means(task, everything)
        scaler = StandardScaler(with_std=False).fit(task.features)
        scaler.mean_ = centre.astype(np.float64)
        normalise = Normalizer().fit(task.features)
        classifier = LogisticRegression(class_weight=task.class_weight)
        classifier.coef_, classifier.intercept_ = coefficients, intercepts
        classifier.classes_ = task.names
        classifier.n_features_in_ = len(centre)
        return [("centre", scaler), ("normalise", normalise), ("classify", classifier)]


def _decide(task: Task, cut: Cut) -> list[Decisions]:
    centre, coefficients, intercepts = _means(task, cut.training)
    return [
        normalize(task.features[rows] - centre) @ coefficients.T + intercepts
        for rows in cut.held_out
    ]


def _means(
    task: Task, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Where the centre is, and the nearest mean as a linear classifier: (D,), (c, D) and (c,).

    Half the squared distance to a mean is a constant less ``vector @ mean - |mean|^2 / 2``.
    """
    codes, classes, shares = task.codes[rows], len(task.names), task.shares(rows)
    members = np.zeros((classes, len(rows)), np.float32)
    members[codes, np.arange(len(rows))] = 1 if shares is None else shares
    members /= members.sum(axis=1, keepdims=True)
    # Of the class means, so that a frequent class is not at the centre.
    centre = (members @ task.features[rows]).mean(axis=0)
    means = members @ normalize(task.features[rows] - centre)
    intercepts = -np.einsum("ij,ij->i", means, means) / 2
    if classes == 2:
        means, intercepts = means[1:] - means[:1], intercepts[1:] - intercepts[:1]
    return centre, means, intercepts
