"""Features + classes + which rows to train on -> many L2-regularised linear classifiers at once.

The classifiers of all folds differ only in the rows that they train on. Solved one by one, each
reads the whole matrix for every step of its optimiser; solved side by side, one matrix product
serves all of them, at the full speed of the cores. Regularisation is walked along with warm starts.
"""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

import joblib
import numpy as np
from numpy.typing import NDArray

from ...features.journal.progress import Progress, step
from .lbfgs import MOST_ITERATIONS, MOST_TRIALS, minimise
from .losses import Floats, Loss, SquaredHinge, columns_of
from .newton import ENOUGH, SquaredHinges
from .objectives import BlockByBlock, InMemory
from .rows import Matrix, Stored
from .standard import balancing, scales
from .standardised import Held, Streamed

_AT_ONCE: Final = 2**22
"""Decision values that are worked on at once: 16 MB for each of four arrays."""
_SIDE_BY_SIDE: Final = 2**10
"""Columns of classifiers that share the passes over a file: more would need more memory for the
steps that are kept of them than the blocks take."""
_LOOSER: Final = 100
"""How much less near to the minimum, for certain, than by the `tolerance` an SVM may be."""


class LinearPath:
    """Linear classifiers on the same rows, each trained on some of them.

    Classifier p minimises ``C * (sum of the losses of its training rows) + |v|^2 / 2``, where v are
    the coefficients of features that are centred on, and divided by `scales` of, those same rows.

    `features` are (N, D), in memory or in a file, and computed with in float32. `codes` are (N,)
    classes from 0; all `classes` of them occur in each of the P `trainings`, the rows that a
    classifier is trained on, in increasing order. If `balanced`, the rows of a training set are
    weighed so that all classes in it weigh the same. Rows may count for less than one each, by (N,)
    `shares`: views of one image are all there or all not, and count for one.

    It is done by L-BFGS in coordinates where the penalty plus the mean curvature of the loss is the
    identity: two to ten steps instead of hundreds. The features of all rows enter that change of
    coordinates, but only how fast the minimum is found depends on it, not where it is. With fewer
    rows than columns it is done exactly in as many dimensions as there are rows (Woodbury's
    identity).
    """

    def __init__(
        self,
        features: Matrix,
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

        self._matrix: Held | Streamed
        if isinstance(features, Stored):
            self._matrix = Streamed(features, members, self._sizes)
        else:
            self._matrix = Held(features, members, self._sizes)
        self._mean, squares, scale = self._matrix.mean, self._matrix.squares, self._matrix.scale
        variance = squares - self._mean**2
        # Where a feature is constant over the training rows, its variance is a rounding error of
        # the difference; without a scale it gets no coefficient.
        varies = variance > 1e-5 * squares
        own = scales(np.where(varies, variance, 0) * scale**2, self._sizes[:, None])
        self._inverse_scale: Floats = np.where(varies, scale / own, 0).astype(np.float32)
        dimension = self._matrix.shape[1]
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
        rows, problems = self._matrix.shape[0], len(self._solution)
        size = max(1, 16 // self._columns, self._at_once // (rows * self._columns))
        if isinstance(self._matrix, Streamed):
            size = max(1, _SIDE_BY_SIDE // self._columns)
        proven = np.inf
        if isinstance(self._matrix, Streamed) and isinstance(self.loss, SquaredHinge):
            proven = max(ENOUGH, _LOOSER * tolerance)  # here nothing finishes them
        self._extrapolate(strength)
        found: list[list[Floats]] = []
        with (
            ThreadPoolExecutor(joblib.cpu_count()) as threads,
            self._step(strength) as done,
        ):
            for start in range(0, problems, size):
                group = slice(start, min(start + size, problems))
                objective = self._objective(group, strength, threads)
                decisions = minimise(
                    objective,
                    self._solution[group],  # a view: changed in place
                    tolerance,
                    most_iterations=most_iterations,
                    most_trials=most_trials,
                    proven=proven,
                )
                found += objective.of_rows(decisions, wanted[group])
                done.add(group.stop - group.start)
        self._path = [*self._path[-1:], (strength, self._solution.copy())]
        return found

    def finish(self, strength: float) -> None:
        """Take SVMs that were solved with this C to their minimum, for certain (`newton`).

        Of logistic regression scikit-learn has the last word. Where features are in a file, `solve`
        itself goes on until it is certain.
        """
        if not isinstance(self.loss, SquaredHinge) or isinstance(self._matrix, Streamed):
            return
        features = self._matrix.features
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            group = self._objective(slice(None), strength, threads)
            costs, derivatives = group.losses(group.forward(self._solution))
            gradient = group.gradient(self._solution, derivatives)
        values = strength * costs + np.square(self._solution).sum(axis=2) / 2
        signs = self.loss.signs(self._codes, self._columns)
        for p, c in np.argwhere(np.square(gradient).sum(axis=2) / 2 > ENOUGH * values):
            mean, scale = self._mean[p], self._inverse_scale[p]
            weights = strength * self._weights[p]
            hinges = SquaredHinges(features, mean, scale, signs[c], weights)
            hinges.finish(self._solution[p, c])

    def _step(self, strength: float) -> AbstractContextManager[Progress]:
        if isinstance(self._matrix, Streamed):  # of which every pass is a step of its own
            return contextlib.nullcontext(Progress())
        return step(f"C = {strength:g}", len(self._solution), "fold")

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

    def _objective(
        self, group: slice, strength: float, threads: ThreadPoolExecutor
    ) -> InMemory | BlockByBlock:
        about = (
            self.loss,
            self._codes,
            self._weights[group, None],
            self._sizes[group],
            self._mean[group],
            self._inverse_scale[group, None],
            self._columns,
            strength,
            threads,
        )
        if isinstance(self._matrix, Streamed):
            return BlockByBlock(self._matrix, self._at_once, *about)
        return InMemory(self._matrix, *about)

    def coefficients(self, problem: int) -> tuple[Floats, Floats]:
        """(c, D) and (c,), for features standardised over the classifier's training rows."""
        return self._solution[problem, :, :-1].copy(), self._solution[problem, :, -1].copy()
