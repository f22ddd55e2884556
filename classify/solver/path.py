"""Features + classes + which rows to train on -> many L2-regularised linear classifiers at once.

The classifiers of all folds differ only in the rows that they train on. Solved one by one, each
reads the whole matrix for every step of its optimiser; solved side by side, one matrix product
serves all of them, at the full speed of the cores. Regularisation is walked along with warm starts.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas

from .lbfgs import MOST_ITERATIONS, MOST_TRIALS, minimise
from .losses import Floats, Loss, SquaredHinge, columns_of
from .newton import ENOUGH, SquaredHinges
from .standard import balancing, scales

_AT_ONCE: Final = 2**23
"""Decision values that are worked on at once: 32 MB for each of four arrays."""
_VECTORS: Final = 4
"""Rows up to which products with vectors, one by one, are faster than with a matrix."""
_STEEPEST: Final = 2**23
"""Ratio of second derivatives beyond which float32 cannot tell their inverse from its rounding."""
_BLOCK: Final = 2**17
"""Decision values that one thread works on at once: they stay in the cache."""


class LinearPath:
    """Linear classifiers on the same rows, each trained on some of them.

    Classifier p minimises ``C * (sum of the losses of its training rows) + |v|^2 / 2``, where v are
    the coefficients of features that are centred on, and divided by `scales` of, those same rows.

    `features` are (N, D) and computed with in float32. `codes` are (N,) classes from 0; all
    `classes` of them occur in each of the P `trainings`, the rows that a classifier is trained on.
    If `balanced`, the rows of a training set are weighed so that all classes in it weigh the same.
    Rows may count for less than one each, by (N,) `shares`: views of one image are all there or all
    not, and count for one.

    It is done by L-BFGS in coordinates where the penalty plus the mean curvature of the loss is the
    identity: two to ten steps instead of hundreds. The features of all rows enter that change of
    coordinates, but only how fast the minimum is found depends on it, not where it is. With fewer
    rows than columns it is done exactly in as many dimensions as there are rows (Woodbury's
    identity).
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
        shares: NDArray[np.float64] | None = None,
        at_once: int = _AT_ONCE,
    ) -> None:
        self.loss, self._codes = loss, codes
        self._columns, self._at_once = columns_of(classes), at_once
        self._weights = np.zeros((len(trainings), len(features)), np.float32)
        for weights, rows in zip(self._weights, trainings, strict=True):
            share = None if shares is None else shares[rows]
            if balanced:
                weights[rows] = balancing(codes[rows], share)
            else:
                weights[rows] = 1 if share is None else share
        members = (self._weights > 0).astype(np.float32)
        if shares is not None:
            members *= shares.astype(np.float32)
        self._sizes = members.sum(axis=1)

        # Standardised once over all rows; what little a training set differs is put right in the
        # coefficients, so that no classifier needs a matrix of its own.
        self._features = np.array(features, np.float32, order="C")
        self._features -= self._features.mean(axis=0, dtype=np.float64).astype(np.float32)
        variance = np.einsum("ij,ij->j", self._features, self._features) / len(features)
        scale = scales(variance, len(features))
        self._features /= scale
        self._mean = members @ self._features / self._sizes[:, None]
        squares = np.zeros_like(self._mean)
        for start in range(0, len(features), 4096):
            block = slice(start, start + 4096)
            squares += members[:, block] @ self._features[block] ** 2
        squares /= self._sizes[:, None]
        variance = squares - self._mean**2
        # Where a feature is constant over the training rows, its variance is a rounding error of
        # the difference; without a scale it gets no coefficient.
        varies = variance > 1e-5 * squares
        own = scales(np.where(varies, variance, 0) * scale**2, self._sizes[:, None])
        self._inverse_scale: Floats = np.where(varies, scale / own, 0).astype(np.float32)
        rows, dimension = self._features.shape
        self._few_rows = rows < dimension
        self._gram = blas.ssyrk(1, self._features.T, trans=self._few_rows, lower=True)
        # The last column is the intercept.
        self._solution = np.zeros((len(trainings), self._columns, dimension + 1), np.float32)
        self._path: list[tuple[float, Floats]] = []

    def solve(
        self,
        strength: float,
        wanted: Sequence[Sequence[NDArray[np.intp]]] = (),
        *,
        tolerance: float = 1e-4,
        most_iterations: int = MOST_ITERATIONS,
        most_trials: int = MOST_TRIALS,
    ) -> list[list[Floats]]:
        """Minimise with C = `strength`, starting from where the two solutions before lead.

        For each classifier `wanted` has sets of rows; their (n, c) decision values are returned.
        The tolerance is relative to the objective; by default it is as near to the minimum as a
        comparison of held-out losses needs.
        """
        rows, problems = len(self._features), len(self._solution)
        size = max(1, 16 // self._columns, self._at_once // (rows * self._columns))
        self._extrapolate(strength)
        found = []
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            for start in range(0, problems, size):
                group = slice(start, min(start + size, problems))
                decisions = minimise(
                    _Group(self, group, strength, threads),
                    self._solution[group],  # a view: changed in place
                    tolerance,
                    most_iterations=most_iterations,
                    most_trials=most_trials,
                )
                for own, sets in zip(decisions, wanted[group], strict=bool(wanted)):
                    found.append([own.T[rows] for rows in sets])
        self._path = [*self._path[-1:], (strength, self._solution.copy())]
        return found

    def finish(self, strength: float) -> None:
        """Take SVMs that were solved with this C to their minimum, for certain (`newton`).

        Of logistic regression scikit-learn has the last word.
        """
        if not isinstance(self.loss, SquaredHinge):
            return
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            group = _Group(self, slice(None), strength, threads)
            costs, derivatives = group.losses(group.forward(self._solution))
            gradient = group.gradient(self._solution, derivatives)
        values = strength * costs + np.square(self._solution).sum(axis=2) / 2
        signs = self.loss.signs(self._codes, self._columns)
        for p, c in np.argwhere(np.square(gradient).sum(axis=2) / 2 > ENOUGH * values):
            mean, scale = self._mean[p], self._inverse_scale[p]
            weights = strength * self._weights[p]
            hinges = SquaredHinges(self._features, mean, scale, signs[c], weights)
            hinges.finish(self._solution[p, c])

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


class _Group:
    """The `lbfgs.Objective` of some of the classifiers of a path.

    Solutions are (P, c, D + 1), decision values and derivatives (P, c, N), all float32.
    """

    def __init__(
        self, path: LinearPath, group: slice, strength: float, threads: ThreadPoolExecutor
    ) -> None:
        self.strength = strength
        self._threads = threads
        self._loss, self._codes, self._features = path.loss, path._codes, path._features
        self._few_rows, self._gram = path._few_rows, path._gram
        self._weights, self._sizes = path._weights[group, None], path._sizes[group]
        self._mean, self._inverse_scale = path._mean[group], path._inverse_scale[group, None]
        self.independent = path.loss.independent(*path.solution[group].shape[:2])

    def forward(self, vector: Floats) -> Floats:
        problems, columns, _ = vector.shape
        coefficients: Floats = vector[..., :-1] * self._inverse_scale
        offset = vector[..., -1] - np.einsum("pcd,pd->pc", coefficients, self._mean)
        flat = product(coefficients.reshape(problems * columns, -1), self._features, across=True)
        flat += offset.reshape(-1, 1)
        return flat.reshape(problems, columns, -1)

    def losses(self, decisions: Floats) -> tuple[NDArray[np.float64], Floats]:
        """Sum of the costs over the training rows, (P, c or 1), and the derivatives."""
        derivatives = np.empty_like(decisions)
        problems, columns, rows = decisions.shape
        size = max(1, _BLOCK // (problems * columns))

        def work(start: int) -> NDArray[np.float64]:
            block = slice(start, start + size)
            costs, derivatives[..., block] = self._loss.evaluate(
                decisions[..., block], self._codes[block]
            )
            derivatives[..., block] *= self._weights[..., block]
            costs *= self._weights[..., block]
            return np.asarray(costs.sum(axis=2, dtype=np.float64))

        total = np.sum(list(self._threads.map(work, range(0, rows, size))), axis=0)
        return total, derivatives

    def penalised(self, vector: Floats) -> Floats:
        """The part of a vector that the penalty sees: with or without the intercept."""
        if self._loss.penalises_intercept:
            return vector
        without = vector.copy()
        without[..., -1] = 0
        return without

    def gradient(self, solution: Floats, derivatives: Floats) -> Floats:
        gradient = np.empty_like(solution)
        problems, columns, rows = derivatives.shape
        total = derivatives.sum(axis=2)
        flat = product(derivatives.reshape(problems * columns, rows), self._features)
        gradient[..., :-1] = flat.reshape(problems, columns, -1)
        gradient[..., :-1] -= total[..., None] * self._mean[:, None]
        gradient[..., :-1] *= self._inverse_scale
        gradient[..., -1] = total
        gradient *= np.float32(self.strength)
        gradient += self.penalised(solution)
        return gradient

    def preconditioner(self, derivatives: Floats) -> Callable[[Floats], Floats]:
        """The inverse of identity plus mean curvature, exact for the features of all rows."""
        sizes, weights, rows = self._sizes, self._weights, len(self._features)
        unweighted = np.divide(
            derivatives, weights, out=np.zeros_like(derivatives), where=weights > 0
        )
        unweighted = self._loss.curvature(unweighted) * weights
        curvature = float(unweighted.mean(dtype=np.float64)) * rows / sizes.mean()
        curvature = self.strength * max(curvature, 1e-5)
        most = _STEEPEST / max(float(np.trace(self._gram)), 1e-30)
        weight = np.float32(min(curvature * float(sizes.mean()) / rows, most))
        factor = _factor(self._gram, weight)
        of_intercept = np.float32(curvature) * sizes[:, None]
        of_intercept += self._loss.penalises_intercept
        varies = self._inverse_scale > 0

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
