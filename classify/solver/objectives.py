"""Classifiers of a path side by side, as what `lbfgs` minimises: in memory, or block by block."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas

from .losses import Floats, Loss
from .second import Second, factor
from .standardised import Held, Streamed

_VECTORS: Final = 4
"""Rows up to which products with vectors, one by one, are faster than with a matrix."""
_STEEPEST: Final = 2**23
"""Ratio of second derivatives beyond which float32 cannot tell their inverse from its rounding."""
_BLOCK: Final = 2**17
"""Decision values that one thread works on at once: they stay in the cache."""

Wanted = Sequence[Sequence[NDArray[np.intp]]]
"""For each classifier, sets of rows."""


class Classifiers:
    """What both objectives have: P classifiers with c columns, on N rows of D features.

    Solutions are (P, c, D + 1) float32; the last column is the intercept. `weights` are (P, 1, N),
    `sizes` (P,), `mean` (P, D) and `inverse_scale` (P, 1, D).
    """

    def __init__(
        self,
        loss: Loss,
        codes: NDArray[np.intp],
        weights: Floats,
        sizes: Floats,
        mean: Floats,
        inverse_scale: Floats,
        columns: int,
        strength: float,
        threads: ThreadPoolExecutor,
    ) -> None:
        self.strength = strength
        self._threads, self._loss, self._codes = threads, loss, codes
        self._weights, self._sizes = weights, sizes
        self._mean, self._inverse_scale = mean, inverse_scale
        self.independent = loss.independent(len(weights), columns)

    def penalised(self, vector: Floats) -> Floats:
        """The part of a vector that the penalty sees: with or without the intercept."""
        if self._loss.penalises_intercept:
            return vector
        without = vector.copy()
        without[..., -1] = 0
        return without

    def _decisions(self, vector: Floats, features: Floats) -> Floats:
        """(P, c, n) decision values of standardised rows."""
        problems, columns, _ = vector.shape
        coefficients: Floats = vector[..., :-1] * self._inverse_scale
        offset = vector[..., -1] - np.einsum("pcd,pd->pc", coefficients, self._mean)
        flat = product(coefficients.reshape(problems * columns, -1), features, across=True)
        flat += offset.reshape(-1, 1)
        return flat.reshape(problems, columns, -1)

    def _evaluate(self, decisions: Floats, first: int = 0) -> tuple[NDArray[np.float64], Floats]:
        """Sums of the costs, (P, c or 1), of the rows from `first` on, and the derivatives."""
        derivatives = np.empty_like(decisions)
        problems, columns, rows = decisions.shape
        size = max(1, _BLOCK // (problems * columns))

        def work(start: int) -> NDArray[np.float64]:
            block = slice(start, start + size)
            own = slice(first + start, first + min(start + size, rows))
            costs, derivatives[..., block] = self._loss.evaluate(
                decisions[..., block], self._codes[own]
            )
            derivatives[..., block] *= self._weights[..., own]
            costs *= self._weights[..., own]
            return np.asarray(costs.sum(axis=2, dtype=np.float64))

        total = np.sum(list(self._threads.map(work, range(0, rows, size))), axis=0)
        return total, derivatives

    def _curvatures(self, derivatives: Floats, weights: Floats) -> Floats:
        slopes = np.divide(derivatives, weights, out=np.zeros_like(derivatives), where=weights > 0)
        slopes = self._loss.curvature(slopes)
        slopes *= weights
        return slopes

    def _inverse(self, matrix: Held, curvature: float) -> Callable[[Floats], Floats]:
        """The inverse of identity plus mean curvature, exact for the features of all rows."""
        sizes, rows, gram = self._sizes, matrix.shape[0], matrix.gram
        curvature = curvature * rows / sizes.mean()
        curvature = self.strength * max(curvature, 1e-5)
        most = _STEEPEST / max(float(np.trace(gram)), 1e-30)
        weight = np.float32(min(curvature * float(sizes.mean()) / rows, most))
        factored = factor(gram, weight)
        of_intercept = np.float32(curvature) * sizes[:, None]
        of_intercept += self._loss.penalises_intercept
        varies = self._inverse_scale > 0

        def apply(vector: Floats) -> Floats:
            flat = vector[..., :-1].reshape(-1, vector.shape[2] - 1)
            if matrix.few_rows:
                inner = product(flat, matrix.features, across=True)
                inner = linalg.cho_solve(factored, inner.T, check_finite=False).T
                flat = flat - weight * product(inner, matrix.features)
            else:
                flat = linalg.cho_solve(factored, flat.T, check_finite=False).T
            result = np.empty_like(vector)
            result[..., :-1] = flat.reshape(vector[..., :-1].shape)
            result[..., :-1] *= varies
            result[..., -1] = vector[..., -1] / of_intercept
            return result

        return apply


class InMemory(Classifiers):
    """The `lbfgs.Objective` where the features are in memory.

    Decision values and derivatives are (P, c, N) float32.
    """

    def __init__(self, matrix: Held, *about: Any) -> None:
        super().__init__(*about)
        self._matrix, self._features = matrix, matrix.features

    def forward(self, vector: Floats) -> Floats:
        """Of every row."""
        return self._decisions(vector, self._features)

    def losses(self, decisions: Floats) -> tuple[NDArray[np.float64], Floats]:
        """Sum of the costs over the training rows, (P, c or 1), and the derivatives."""
        return self._evaluate(decisions)

    def gradient(self, solution: Floats, derivatives: Floats) -> Floats:
        """Of the whole objective."""
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
        """By the mean curvature."""
        slopes = self._curvatures(derivatives, self._weights)
        curvature = float(slopes.mean(dtype=np.float64))
        del slopes
        return self._inverse(self._matrix, curvature)

    def of_rows(self, decisions: Floats, wanted: Wanted) -> list[list[Floats]]:
        """The (n, c) decision values of sets of rows, for each classifier."""
        pairs = zip(decisions, wanted, strict=bool(wanted))
        return [[own.T[rows] for rows in sets] for own, sets in pairs]


class BlockByBlock(Classifiers):
    """The `lbfgs.Objective` where the features are in a file, for any number of rows.

    Decision values are linear in a solution, so that here the solution itself stands for them, and
    for their derivatives the sum over rows that the gradient needs, which is linear in these: both
    are (P, c, D + 1), and the minimiser adds, scales and multiplies them as it does (P, c, N). A
    step is one pass over the file, in which every block is multiplied twice while it is there.

    As passes are dear, some of them also add up second derivatives (`second`).
    """

    def __init__(self, matrix: Streamed, at_once: int, *about: Any) -> None:
        super().__init__(*about)
        self._matrix, self._at_once = matrix, at_once
        self._passes, self._steps, self._renewing = 0, 0, True
        self._second: Second | None = None

    def forward(self, vector: Floats) -> Floats:
        """What stands for the decision values."""
        return vector.copy()

    def losses(self, decisions: Floats) -> tuple[NDArray[np.float64], Floats]:
        """Sum of the costs over the training rows, and what stands for the derivatives."""
        problems, columns, width = decisions.shape
        summed = np.zeros((problems * columns, width - 1))
        total, costs = np.zeros((problems, columns)), None
        self._passes += 1
        if self._renewing:
            self._second = None  # before there are two
            self._second = Second(columns, width, self._matrix.shape[0])
        for rows, block in self._blocks(f"C = {self.strength:g}, step {self._passes}", decisions):
            more, slopes = self._evaluate(self._decisions(decisions, block), rows.start)
            costs = more if costs is None else costs + more
            total += slopes.sum(axis=2, dtype=np.float64)
            summed += product(slopes.reshape(problems * columns, -1), block)
            if self._renewing and self._second is not None:
                curvatures = self._curvatures(slopes, self._weights[..., rows])
                self._second.add(block, curvatures.mean(axis=0))
        derivatives = np.empty_like(decisions)
        by_columns = summed.reshape(problems, columns, -1) - total[..., None] * self._mean[:, None]
        derivatives[..., :-1] = by_columns * self._inverse_scale
        derivatives[..., -1] = total
        assert costs is not None
        return costs, derivatives

    def gradient(self, solution: Floats, derivatives: Floats) -> Floats:
        """Of the whole objective."""
        return derivatives * np.float32(self.strength) + self.penalised(solution)

    def preconditioner(self, derivatives: Floats) -> Callable[[Floats], Floats]:  # noqa: ARG002
        """By the second derivatives of the last pass that added them up."""
        assert self._second is not None
        self._renewing = False
        solve, varies = self._second.inverse(self.strength), self._inverse_scale > 0

        def apply(vector: Floats) -> Floats:
            result: Floats = solve(vector).astype(np.float32)
            result[..., :-1] *= varies
            return result

        return apply

    def renew(self) -> bool:
        """After as many steps as the loss allows."""
        self._steps += 1
        self._renewing = self._steps % self._loss.steps == 0
        return self._renewing

    def of_rows(self, decisions: Floats, wanted: Wanted) -> list[list[Floats]]:
        """The (n, c) decision values of sets of rows, in order, for each classifier; in a pass."""
        columns = decisions.shape[1]
        found = [[np.empty((len(rows), columns), np.float32) for rows in sets] for sets in wanted]
        if not any(map(len, wanted)):
            return found
        for block, features in self._blocks("predictions", decisions):
            values = self._decisions(decisions, features)
            for own, sets, outs in zip(values, wanted, found, strict=True):
                for rows, out in zip(sets, outs, strict=True):
                    here = slice(*np.searchsorted(rows, [block.start, block.stop]))
                    out[here] = own.T[rows[here] - block.start]
        return found

    def _blocks(self, what: str, solution: Floats) -> Any:
        problems, columns, _ = solution.shape
        return self._matrix.blocks(what, max(1, self._at_once // (problems * columns)))


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
