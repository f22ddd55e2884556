"""Features + classes + who trains on what -> many L2-regularised linear classifiers at once.

The classifiers of all folds differ only in the rows that they train on. Solved one by one, each
reads the whole matrix for every step of its optimiser; solved side by side, one matrix product
serves all of them, at the full speed of the cores. Regularisation is walked along with warm starts.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from scipy import linalg
from scipy.linalg import blas

from .losses import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .losses import Loss

    Floats = NDArray[np.float32]

_log = logging.getLogger("headstart")

_HISTORY: Final = 8  # pairs of L-BFGS; beyond about eight nothing is gained (Liu & Nocedal 1989)
_MOST_ITERATIONS: Final = 200
_MOST_TRIALS: Final = 8  # of a step length; the second is usually right
_GROUP: Final = 2**23
"""Decision values that are worked on at once: 32 MB for each of four arrays."""
_VECTORS: Final = 4
"""Rows up to which products with vectors, one by one, are faster than with a matrix."""
_BLOCK: Final = 2**17
"""Decision values that one thread works on at once: they stay in the cache."""


class LinearPath:
    """Linear classifiers on the same rows, each trained on some of them.

    Classifier p minimises ``C * (sum of the losses of its training rows) + |v|^2 / 2``, where v are
    the coefficients of features that are standardised over those same rows.

    Parameters
    ----------
    features : ndarray of shape (N, D)
        Vectors; computed with in float32.
    codes : ndarray of int, shape (N,)
        Classes, from 0; all `classes` of them occur in every training set.
    classes : int
        How many there are.
    trainings : sequence of P ndarrays of int
        The rows that each classifier is trained on.
    loss : Loss
        What is minimised.
    balanced : bool, default=False
        Weigh the rows of each training set so that all classes in it weigh the same.

    Notes
    -----
    L-BFGS (Nocedal & Wright, Numerical Optimization, 2nd ed., ch. 7.2) in coordinates where the
    penalty plus the mean curvature of the loss is the identity: two to ten steps instead of
    hundreds. The features of all rows enter that change of coordinates, but only how fast the
    minimum is found depends on it, not where it is. With fewer rows than columns it is done exactly
    in as many dimensions as there are rows (Woodbury's identity).
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        codes: NDArray[np.intp],
        classes: int,
        trainings: Sequence[NDArray[np.intp]],
        loss: Loss,
        *,
        balanced: bool = False,
    ) -> None:
        self.loss = loss
        self._codes = codes
        self._columns = columns_of(classes)
        self._weights = np.zeros((len(trainings), len(features)), np.float32)
        for weights, rows in zip(self._weights, trainings, strict=True):
            weights[rows] = balancing(codes[rows]) if balanced else 1
        members = (self._weights > 0).astype(np.float32)
        self._sizes = members.sum(axis=1)

        # Standardised once over all rows; what little a training set differs is put right in the
        # coefficients, so that no classifier needs a matrix of its own.
        self._features = np.array(features, np.float32, order="C")
        self._features -= self._features.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = np.sqrt(np.einsum("ij,ij->j", self._features, self._features) / len(features))
        self._features /= np.where(scale > 0, scale, 1)
        self._mean = members @ self._features / self._sizes[:, None]
        squares = np.zeros_like(self._mean)
        for start in range(0, len(features), 4096):
            block = slice(start, start + 4096)
            squares += members[:, block] @ self._features[block] ** 2
        squares /= self._sizes[:, None]
        variance = squares - self._mean**2
        # Without a scale a feature gets no coefficient. That is right if it is constant over the
        # training rows; its variance is then a rounding error of the difference.
        scales = np.where(variance > 1e-5 * squares, variance, np.inf) ** 0.5
        self._inverse_scale: Floats = (1 / scales).astype(np.float32)
        rows, dimension = self._features.shape
        self._few_rows = rows < dimension
        self._gram = blas.ssyrk(1, self._features.T, trans=self._few_rows, lower=True)
        # The last column is the intercept.
        self._solution = np.zeros((len(trainings), self._columns, dimension + 1), np.float32)
        self._path: list[tuple[float, Floats]] = []

    def solve(
        self,
        strength: float,
        asked: Sequence[Sequence[NDArray[np.intp]]] = (),
        *,
        tolerance: float = 1e-4,
    ) -> list[list[Floats]]:
        """Minimise with C = `strength`, starting from where the two solutions before lead.

        Parameters
        ----------
        strength : float
            C.
        asked : sequence of P sequences of ndarray of int, optional
            Rows that each classifier is asked about.
        tolerance : float, default=1e-4
            Of the objective, relative: as near to the minimum as a comparison of held-out losses
            needs.

        Returns
        -------
        list of P lists of ndarray of float32
            The (n, c) decision values asked for.
        """
        rows, problems = len(self._features), len(self._solution)
        size = max(1, 16 // self._columns, _GROUP // (rows * self._columns))
        self._extrapolate(strength)
        answers = []
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            for start in range(0, problems, size):
                group = slice(start, min(start + size, problems))
                decisions = self._minimise(group, strength, tolerance, threads)
                for own, wanted in zip(decisions, asked[group], strict=bool(asked)):
                    answers.append([own.T[rows] for rows in wanted])
        self._path = [*self._path[-1:], (strength, self._solution.copy())]
        return answers

    @property
    def solution(self) -> Floats:
        """(P, c, D + 1): coefficients, then the intercept."""
        return self._solution

    def start_from(self, solution: Floats) -> None:
        """Go back to an earlier solution."""
        self._solution, self._path = solution.copy(), []

    def _extrapolate(self, strength: float) -> None:
        """Go on along the path: solutions change steadily with the logarithm of C."""
        if len(self._path) == 2:
            (first, before), (second, now) = self._path
            share = np.log(strength / second) / np.log(second / first) if first != second else 0
            self._solution = now + np.float32(share) * (now - before)

    def coefficients(self, problem: int) -> tuple[Floats, Floats]:
        """(c, D) and (c,), for features standardised over the classifier's training rows."""
        return self._solution[problem, :, :-1].copy(), self._solution[problem, :, -1].copy()

    def _minimise(
        self, group: slice, strength: float, tolerance: float, threads: ThreadPoolExecutor
    ) -> Floats:
        """Minimise some of the problems; return the (P, c, N) decision values."""
        solution = self._solution[group]  # a view: changed in place
        units = self.loss.units(*solution.shape[:2])

        def dot(a: Floats, b: Floats) -> NDArray[np.float64]:
            products = np.einsum("ij,ij->i", a.reshape(units, -1), b.reshape(units, -1))
            return np.asarray(products, np.float64)

        def scaled(step: NDArray[np.float64], vector: Floats) -> Floats:
            flat = step.astype(np.float32)[:, None] * vector.reshape(units, -1)
            return flat.reshape(vector.shape)

        decisions = self._forward(solution, group)
        costs, derivatives = self._losses(decisions, group, threads)
        gradient = self._gradient(solution, derivatives, group, strength)
        precondition = self._preconditioner(derivatives, group, strength)
        history: list[tuple[Floats, Floats, NDArray[np.float64]]] = []
        scale = np.ones(units)
        for _ in range(_MOST_ITERATIONS):
            # The two loops of L-BFGS: steps, changes of the gradient, inverses of their products.
            direction = gradient.copy()
            weights = []
            for step, change, inverse in reversed(history):
                weights.append(inverse * dot(step, direction))
                direction -= scaled(weights[-1], change)
            direction = scaled(scale, precondition(direction))
            for (step, change, inverse), weight in zip(history, reversed(weights), strict=True):
                direction += scaled(weight - inverse * dot(change, direction), step)

            slope = -dot(gradient, direction)
            value = strength * costs.reshape(units, -1).sum(axis=1)
            value += dot(self._penalised(solution), solution) / 2
            # Half the slope is how far below here the minimum of the quadratic model is.
            unfinished = -slope / 2 > tolerance * value
            if not unfinished.any():
                break
            direction = scaled(np.where(unfinished, -1.0, 0.0), direction)

            # Decision values are linear along a direction: trying a length costs no product.
            ahead = self._forward(direction, group)
            across = dot(self._penalised(solution), direction)
            along = dot(self._penalised(direction), direction)
            lengths = _Lengths(slope)
            for _ in range(_MOST_TRIALS):
                length = lengths.tried
                trial = scaled(length, ahead)
                trial += decisions
                costs, derivatives = self._losses(trial, group, threads)
                climb = strength * dot(derivatives, ahead) + across + length * along
                if lengths.found(climb, unfinished):
                    break
            decisions = trial
            step = scaled(length, direction)
            solution += step
            change = -gradient
            gradient = self._gradient(solution, derivatives, group, strength)
            change += gradient
            curving = dot(step, change)
            usable = curving > 0  # not of those that are finished, nor where rounding rules
            inverse = np.divide(1, curving, out=np.zeros(units), where=usable)
            history = [*history[1 - _HISTORY :], (step, change, inverse)]
            if len(history) == 1:
                scale = length
        else:
            _log.info(
                "C = %g: no minimum to %g within %d steps; going on from what is reached",
                strength,
                tolerance,
                _MOST_ITERATIONS,
            )
        return decisions

    def _penalised(self, vector: Floats) -> Floats:
        """The part of a vector that the penalty sees: with or without the intercept."""
        if self.loss.penalises_intercept:
            return vector
        without = vector.copy()
        without[..., -1] = 0
        return without

    def _forward(self, solution: Floats, group: slice) -> Floats:
        """(P, c, D + 1) coefficients -> (P, c, N) decision values."""
        problems, columns, _ = solution.shape
        coefficients: Floats = solution[..., :-1] * self._inverse_scale[group, None]
        offset = solution[..., -1] - np.einsum("pcd,pd->pc", coefficients, self._mean[group])
        flat = product(coefficients.reshape(problems * columns, -1), self._features, across=True)
        flat += offset.reshape(-1, 1)
        return flat.reshape(problems, columns, -1)

    def _losses(
        self, decisions: Floats, group: slice, threads: ThreadPoolExecutor
    ) -> tuple[NDArray[np.float64], Floats]:
        """Sum of the costs over the training rows, (P, c or 1), and the derivatives, (P, c, N)."""
        derivatives = np.empty_like(decisions)
        weights = self._weights[group, None]
        problems, columns, rows = decisions.shape
        size = max(1, _BLOCK // (problems * columns))

        def work(start: int) -> NDArray[np.float64]:
            block = slice(start, start + size)
            costs, derivatives[..., block] = self.loss.evaluate(
                decisions[..., block], self._codes[block]
            )
            derivatives[..., block] *= weights[..., block]
            costs *= weights[..., block]
            return np.asarray(costs.sum(axis=2, dtype=np.float64))

        total = np.sum(list(threads.map(work, range(0, rows, size))), axis=0)
        return total, derivatives

    def _gradient(
        self, solution: Floats, derivatives: Floats, group: slice, strength: float
    ) -> Floats:
        gradient = np.empty_like(solution)
        problems, columns, rows = derivatives.shape
        total = derivatives.sum(axis=2)
        flat = product(derivatives.reshape(problems * columns, rows), self._features)
        gradient[..., :-1] = flat.reshape(problems, columns, -1)
        gradient[..., :-1] -= total[..., None] * self._mean[group, None]
        gradient[..., :-1] *= self._inverse_scale[group, None]
        gradient[..., -1] = total
        gradient *= np.float32(strength)
        gradient += self._penalised(solution)
        return gradient

    def _preconditioner(
        self, derivatives: Floats, group: slice, strength: float
    ) -> Callable[[Floats], Floats]:
        """Multiplication by about the inverse of the second derivatives at this point."""
        sizes, weights = self._sizes[group], self._weights[group, None]
        unweighted = np.divide(
            derivatives, weights, out=np.zeros_like(derivatives), where=weights > 0
        )
        unweighted = self.loss.curvature(unweighted) * weights
        curvature = float(unweighted.mean(dtype=np.float64)) * len(self._features) / sizes.mean()
        curvature = strength * max(curvature, 1e-5)
        weight = np.float32(curvature * sizes.mean() / len(self._features))
        factor = _factor(self._gram, weight)
        of_intercept = np.float32(curvature) * sizes[:, None]
        of_intercept += self.loss.penalises_intercept
        varies = self._inverse_scale[group, None] > 0

        def apply(vector: Floats) -> Floats:
            flat = vector[..., :-1].reshape(-1, vector.shape[2] - 1)
            if self._few_rows:
                inner = product(flat, self._features, across=True)
                inner = linalg.cho_solve(factor, inner.T, check_finite=False).T
                flat = flat - weight * product(inner, self._features)
            else:
                flat = linalg.cho_solve(factor, flat.T, check_finite=False).T
            result = np.empty_like(vector)
            result[..., :-1] = flat.reshape(vector[..., :-1].shape)
            result[..., :-1] *= varies
            result[..., -1] = vector[..., -1] / of_intercept
            return result

        return apply


def balancing(codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights of rows that make classes weigh the same; they sum to the number of rows.

    What scikit-learn means by ``class_weight="balanced"``.
    """
    counts = np.bincount(codes)
    weights: NDArray[np.float64] = len(codes) / np.count_nonzero(counts) / counts[codes]
    return weights


def product(few: Floats, many: Floats, *, across: bool = False) -> Floats:
    """``few @ many``, or ``few @ many.T`` if `across`; both in C order.

    The factors above are solved for by SciPy's BLAS, so this uses it too: NumPy brings another, and
    after each product its idle threads keep the cores busy for a while (56 ms against 24 ms for a
    step of the optimiser).
    """
    if len(few) <= _VECTORS:
        return np.stack([blas.sgemv(1, many.T, row, trans=across) for row in few])
    product: Floats = blas.sgemm(1, many.T, few.T, trans_a=across).T
    return product


def _factor(gram: Floats, weight: np.float32) -> Any:
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


class _Lengths:
    """Search along directions for where the slope, which only grows, has nearly vanished."""

    def __init__(self, slope: NDArray[np.float64]) -> None:
        self._goal = 0.3 * np.abs(slope)
        self._low, self._slope_low = np.zeros_like(slope), slope
        self._high, self._slope_high = np.full_like(slope, np.inf), np.full_like(slope, np.nan)
        self.tried = np.ones_like(slope)

    def found(self, slope: NDArray[np.float64], wanted: NDArray[np.bool_]) -> bool:
        """Take the slopes at the lengths tried; choose the next ones, unless all are good."""
        missing = wanted & (np.abs(slope) > self._goal)
        if not missing.any():
            return True
        short, far = missing & (slope < 0), missing & (slope >= 0)
        self._low = np.where(short, self.tried, self._low)
        self._slope_low = np.where(short, slope, self._slope_low)
        self._high = np.where(far, self.tried, self._high)
        self._slope_high = np.where(far, slope, self._slope_high)
        bracketed = np.isfinite(self._high)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self._slope_low / (self._slope_low - self._slope_high)
            between = self._low + np.clip(share, 0.1, 0.9) * (self._high - self._low)
        self.tried = np.where(missing, np.where(bracketed, between, 4 * self.tried), self.tried)
        return False
