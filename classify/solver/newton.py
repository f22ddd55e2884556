"""A linear SVM that is nearly solved -> its minimum for certain, by Newton's method.

Keerthi & DeCoste 2005, Journal of Machine Learning Research 6:341. Where classes can be separated,
L-BFGS is the wrong tool for the last stretch: few rows lack a margin, only they curve the
objective, and which they are changes from step to step. In the directions of all others the
curvature is 1, that of the penalty, so that what is left looks a hundred times smaller to L-BFGS
than it is. Here the minimum for the rows that lack a margin is computed exactly. Few of them make
that cheap, and a handful of such steps ends at the minimum.
"""

import logging
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from scipy.linalg import blas

from .losses import Floats

ENOUGH: Final = 5e-4
"""How far above the minimum, relative to it, a solution may be."""

_LEGS: Final = ((1.0, 10), (0.01, 50), (0.1, 50), (1.0, 50))
"""Shares of C, and the most steps for each. Where a few steps do not do, a start from lower C does:
too small a set of rows grows by a few rows a step, too large a one shrinks at once."""
_LOOSE: Final = 1e-2  # on the way
_BLOCK: Final = 1024

_log = logging.getLogger("headstart")

_Vector = NDArray[np.float64]


class SquaredHinges:
    """Minimises ``sum(strengths * max(0, 1 - signs * decisions)^2) + |solution|^2 / 2``.

    Decisions are ``(features - mean) * inverse_scale`` times the solution's coefficients, plus its
    intercept. All sums are in float64; what C multiplies needs it.

    Parameters
    ----------
    features : ndarray of shape (N, D)
    mean, inverse_scale : ndarray of shape (D,)
    signs : ndarray of shape (N,)
        1 for rows of the class, -1 for others.
    strengths : ndarray of shape (N,)
        C times the weight of each row; 0 where it is not trained on.
    """

    def __init__(
        self,
        features: Floats,
        mean: Floats,
        inverse_scale: Floats,
        signs: Floats,
        strengths: NDArray[np.floating],
    ) -> None:
        self._features, self._signs = features, signs.astype(np.float64)
        self._mean, self._inverse_scale = mean, inverse_scale
        self._strengths = strengths.astype(np.float64)

    def finish(self, solution: Floats, tolerance: float = ENOUGH) -> bool:
        """Improve (D + 1,) coefficients and intercept in place, unless they are good enough.

        The second derivatives are at least 1, the penalty's, so that the minimum is at most half
        the square of the gradient lower: that is compared with the tolerance. Returns whether it
        is met.
        """
        now = solution.astype(np.float64)
        done = False
        for share, most in _LEGS:
            goal = tolerance if share == 1 else max(tolerance, _LOOSE)
            now, done = self._walk(now, share * self._strengths, goal, most)
            if share == 1 and done:
                break
        else:
            _log.info("a linear SVM is not certain to be within %g of its minimum", tolerance)
        solution[:] = now
        return done

    def _walk(
        self, now: _Vector, strengths: _Vector, tolerance: float, most: int
    ) -> tuple[_Vector, bool]:
        signs = self._signs
        decisions = self._decide(now)
        for step in range(most + 1):
            lacking = np.maximum(1 - signs * decisions, 0)
            pull = 2 * strengths * signs * lacking
            counting = np.flatnonzero(pull)
            gradient = now - self._sum(counting, pull)
            value = strengths @ lacking**2 + now @ now / 2
            if gradient @ gradient / 2 <= tolerance * value:
                return now, True
            if step == most:
                break
            best = self._minimum(counting, strengths)
            direction, ahead = best - now, self._decide(best) - decisions
            length = _length(now, direction, decisions, ahead, signs, strengths)
            now = now + length * direction
            decisions += length * ahead
        return now, False

    def _rows(self, chosen: NDArray[np.intp] | slice) -> _Vector:
        """(n, D + 1): standardised rows, and the 1 that the intercept is multiplied by."""
        chosen_features = self._features[chosen]
        rows = np.ones((len(chosen_features), len(self._mean) + 1))
        np.subtract(chosen_features, self._mean, out=rows[:, :-1])
        rows[:, :-1] *= self._inverse_scale
        return rows

    def _decide(self, solution: _Vector) -> _Vector:
        coefficients = solution[:-1] * self._inverse_scale
        number = len(self._features)
        blocks = [slice(start, start + _BLOCK) for start in range(0, number, _BLOCK)]
        decisions = np.concatenate([self._features[block] @ coefficients for block in blocks])
        decisions += solution[-1] - coefficients @ self._mean
        return decisions

    def _sum(self, chosen: NDArray[np.intp], weights: _Vector) -> _Vector:
        total = np.zeros(len(self._mean) + 1)
        for start in range(0, len(chosen), _BLOCK):
            block = chosen[start : start + _BLOCK]
            total += weights[block] @ self._rows(block)
        return total

    def _minimum(self, chosen: NDArray[np.intp], strengths: _Vector) -> _Vector:
        """The minimum if the chosen rows had a cost whatever their margin, and others none."""
        twice, dimension = 2 * strengths[chosen], len(self._mean) + 1
        if len(chosen) <= dimension:
            rows = self._rows(chosen)
            gram = blas.dsyrk(1, rows.T, trans=True, lower=True)
            gram[np.diag_indices_from(gram)] += 1 / twice
            return _solved(gram, self._signs[chosen]) @ rows
        curvature = np.eye(dimension, order="F")
        for start in range(0, len(chosen), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = self._rows(chosen[block])
            rows *= np.sqrt(twice[block, None])
            curvature = blas.dsyrk(1, rows.T, beta=1, c=curvature, lower=True, overwrite_c=True)
        return _solved(curvature, self._sum(chosen, 2 * strengths * self._signs))


def _length(
    now: _Vector,
    direction: _Vector,
    decisions: _Vector,
    ahead: _Vector,
    signs: _Vector,
    strengths: _Vector,
) -> float:
    """Where along the direction, up to all of it, the objective is least."""

    def slope(length: float) -> float:
        lacking = np.maximum(1 - signs * (decisions + length * ahead), 0)
        climb = (now + length * direction) @ direction
        return float(climb - 2 * (strengths * signs * lacking) @ ahead)

    if slope(1.0) <= 0 or slope(0.0) >= 0:  # the latter by rounding, at the minimum
        return 1.0
    return float(optimize.brentq(slope, 0, 1, xtol=1e-10))


def _solved(matrix: Any, right: _Vector) -> _Vector:
    factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    solved: _Vector = linalg.cho_solve(factor, right, check_finite=False)
    return solved
