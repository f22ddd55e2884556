"""What linear classifiers minimise: decision values and classes -> costs and their derivatives."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float32]


def columns_of(classes: int) -> int:
    """Decision values per row: one for two classes, as in scikit-learn, else one per class."""
    return 1 if classes == 2 else classes


class Loss(Protocol):
    """What a row costs, given its decision values."""

    penalises_intercept: bool
    steps: int
    """For which second derivatives hold well enough that new ones are not worth adding up."""

    def independent(self, problems: int, columns: int) -> int:
        """How many independent minimisations so many classifiers are."""

    def evaluate(self, decisions: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """(P, c, n) decisions -> (P, c or 1, n) costs and their (P, c, n) derivatives."""

    def curvature(self, derivatives: Floats) -> Floats:
        """Second derivatives, from the first: (P, c, n)."""


class LogLoss:
    """Minus the logarithm of the true class's probability: logistic regression.

    With two classes there is one decision value, as in scikit-learn; with more, one per class,
    and the softmax of them are the probabilities.
    """

    penalises_intercept = False
    steps = 3

    def independent(self, problems: int, columns: int) -> int:  # noqa: ARG002
        """The columns of a classifier are minimised together."""
        return problems

    def evaluate(self, decisions: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """One cost per row: (P, 1, n)."""
        if decisions.shape[1] == 1:
            signed = decisions * np.where(codes == 1, np.float32(-1), np.float32(1))
            costs = np.log1p(np.exp(-np.abs(signed))) + np.maximum(signed, 0)
            return costs, expit(decisions) - (codes == 1).astype(np.float32)
        own = np.arange(len(codes))
        highest = decisions.max(axis=1, keepdims=True)
        shares = np.exp(decisions - highest)
        total = shares.sum(axis=1, keepdims=True)
        costs = np.log(total) + highest - decisions[:, codes, own][:, None]
        shares /= total
        shares[:, codes, own] -= 1
        return costs, shares

    def curvature(self, derivatives: Floats) -> Floats:
        """Of probability p: p (1 - p)."""
        distance = np.abs(derivatives)  # p or 1 - p
        curvature: Floats = distance * (1 - distance)
        return curvature


class SquaredHinge:
    """The square of what a row lacks to a margin of one, each class against the rest: linear SVM.

    The intercept is penalised like any coefficient, as in ``sklearn.svm.LinearSVC``.
    """

    penalises_intercept = True
    steps = 1  # they jump wherever a row reaches its margin

    def independent(self, problems: int, columns: int) -> int:
        """Each column is minimised by itself."""
        return problems * columns

    def evaluate(self, decisions: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """One cost per row and column: (P, c, n)."""
        signs = self.signs(codes, decisions.shape[1])
        lacking = np.maximum(1 - signs * decisions, 0)
        return lacking**2, -2 * signs * lacking

    def signs(self, codes: NDArray[np.intp], columns: int) -> Floats:
        """(c, n): 1 for the rows of each column's class, -1 for others."""
        own = codes == 1 if columns == 1 else codes == np.arange(columns)[:, None]
        signs: Floats = np.where(own, np.float32(1), np.float32(-1))
        return signs.reshape(columns, -1)

    def curvature(self, derivatives: Floats) -> Floats:
        """2 where the margin is lacking."""
        curvature: Floats = 2 * (derivatives != 0).astype(np.float32)
        return curvature
