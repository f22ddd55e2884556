"""Second derivatives of the columns of classifiers, added up block by block -> their inverses."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas

from .losses import Floats

_VALUES: Final = 2**26
"""Of all matrices: 512 MB. Of 2,048 features that is 15 columns."""
_ROWS: Final = 64
"""Rows, in multiples of the columns of the matrix, that tell it as well as all: to a quarter. Where
there are many matrices, fewer of each."""
_FEW_ROWS: Final = 16
_STEEPEST: Final = 2.0**30
"""Ratio of second derivatives beyond which sums of float32 cannot tell their inverse."""


class Second:
    """For each column the (D + 1, D + 1) second derivatives of its losses, or one for all.

    The last row and column are of the intercept. They are means over classifiers, which differ
    little. Of many rows some are drawn, by their curvature: those that curve most are all there, as
    of separable classes, where it is but a few that curve anything at all.
    """

    def __init__(self, columns: int, width: int, rows: int) -> None:
        own = columns * width**2 <= _VALUES
        self._sums = [np.zeros((width, width), order="F") for _ in range(columns if own else 1)]
        self._curving, self._rows = np.zeros(columns), rows
        self._room = width * max(_FEW_ROWS, _ROWS // len(self._sums))
        self._generator = np.random.default_rng(0)

    def add(self, features: Floats, curvatures: Floats) -> None:
        """Of (n, D) features and (c, n) second derivatives by their decision values."""
        self._curving += curvatures.sum(axis=1, dtype=np.float64)
        if len(self._sums) < len(curvatures):
            curvatures = curvatures.mean(axis=0, keepdims=True)
        room = self._room * len(features) / self._rows
        for second, weights in zip(self._sums, curvatures, strict=True):
            total = weights.sum(dtype=np.float64)
            rows = np.flatnonzero(weights)
            if len(rows) > room:
                chance = np.minimum(weights[rows] * (room / total), 1)
                drawn = self._generator.uniform(size=len(rows)) < chance
                rows, chance = rows[drawn], chance[drawn]
                weights = weights[rows] / chance
            else:
                weights = weights[rows]
            some = features[rows]
            second[-1, :-1] += weights @ some
            second[-1, -1] += weights.sum(dtype=np.float64)
            some *= np.sqrt(weights)[:, None]
            second[:-1, :-1] += blas.ssyrk(1, some.T, lower=True)

    def inverse(self, strength: float) -> Callable[[Floats], NDArray[np.float64]]:
        """Multiplication of (P, c, D + 1) by the inverses of identity plus `strength` times these.

        What was added up is gone afterwards.
        """
        if len(self._sums) < len(self._curving):
            return self._inverse_of_one(strength)
        factors = []
        while self._sums:
            matrix = self._sums.pop(0)
            factors.append(factor(matrix, _bounded(strength, matrix)))

        def solve(vector: Floats) -> NDArray[np.float64]:
            columns = [
                linalg.cho_solve(one, of_column.T.astype(np.float64), check_finite=False).T
                for one, of_column in zip(factors, np.moveaxis(vector, 1, 0), strict=True)
            ]
            return np.stack(columns, axis=1)

        return solve

    def _inverse_of_one(self, strength: float) -> Callable[[Floats], NDArray[np.float64]]:
        """One matrix for all columns, times what each curves in the mean."""
        matrix = self._sums.pop()
        strength = _bounded(strength, matrix)
        values, vectors = linalg.eigh(matrix, lower=True, overwrite_a=True, check_finite=False)
        shares = self._curving / max(float(self._curving.mean()), 1e-30)
        shrinking = 1 / (1 + strength * np.maximum(values, 0) * np.maximum(shares, 1e-3)[:, None])

        def solve(vector: Floats) -> NDArray[np.float64]:
            along = vector.astype(np.float64) @ vectors
            solved: NDArray[np.float64] = (along * shrinking) @ vectors.T
            return solved

        return solve


def _bounded(strength: float, matrix: NDArray[np.float64]) -> float:
    return min(strength, _STEEPEST / max(float(np.trace(matrix)), 1e-30))


def factor(gram: NDArray[np.floating], weight: float | np.float32) -> Any:
    """Cholesky factor of ``I + weight * gram``, for `scipy.linalg.cho_solve`."""
    for more in (0, 1e-6, 1e-4, 1e-2):
        matrix = gram * weight
        # Of columns that are nearly one another's copies, rounding can make eigenvalues negative. A
        # larger diagonal costs steps and nothing else.
        matrix[np.diag_indices_from(matrix)] += 1 + more * np.trace(matrix)
        try:
            return linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise FloatingPointError("the features are too large or too alike to be computed with")
