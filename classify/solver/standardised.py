"""Features -> the same, of mean zero and about variance one: in memory, or block by block."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from .losses import Floats
from .rows import Stored, passes
from .standard import scales

_ROWS_AT_ONCE: Final = 4096


class Held:
    """Standardised features in memory.

    They are standardised once over all rows; what little a training set differs is told by `mean`
    and `squares`, so that no classifier needs a matrix of its own.

    Parameters
    ----------
    features : ndarray of shape (N, D)
    members : ndarray of float32, shape (P, N)
        What each row counts for in each of P training sets.
    sizes : ndarray of shape (P,)
        Their sums.

    Attributes
    ----------
    scale : ndarray of shape (D,)
        What features were divided by.
    mean, squares : ndarray of shape (P, D)
        Of the standardised features, over each training set; squares are the means of them.
    gram : ndarray
        The lower half of (D, D) products of the columns, or with `few_rows` of the rows, (N, N).
    """

    def __init__(
        self, features: NDArray[np.floating], members: Floats, sizes: NDArray[np.floating]
    ) -> None:
        self.features = np.array(features, np.float32, order="C")
        self.features -= self.features.mean(axis=0, dtype=np.float64).astype(np.float32)
        variance = np.einsum("ij,ij->j", self.features, self.features) / len(features)
        self.scale = scales(variance, len(features))
        self.features /= self.scale
        self.mean = members @ self.features / sizes[:, None]
        self.squares = np.zeros_like(self.mean)
        for start in range(0, len(features), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            self.squares += members[:, block] @ self.features[block] ** 2
        self.squares /= sizes[:, None]
        self.shape = self.features.shape
        rows, dimension = self.shape
        self.few_rows = rows < dimension
        if self.few_rows:
            self.gram = blas.ssyrk(1, self.features.T, trans=True, lower=True)
            return
        # In parts: nothing else is done by Python meanwhile, an interrupt is not heard.
        self.gram = np.zeros((dimension, dimension), np.float32, order="F")
        for start in range(0, rows, _ROWS_AT_ONCE):
            part = self.features[start : start + _ROWS_AT_ONCE].T
            self.gram = blas.ssyrk(1, part, 1, self.gram, lower=True, overwrite_c=True)


class Streamed:
    """Standardised features of a file; parameters and attributes as of `Held`, without products.

    One pass tells all of them: sums are of differences to the mean of the first block, and are put
    right afterwards.
    """

    def __init__(self, features: Stored, members: Floats, sizes: NDArray[np.floating]) -> None:
        self._features = features
        self.shape = rows, dimension = features.shape
        shift = np.zeros(dimension, np.float32)
        total, squares = np.zeros((2, dimension))
        sums, sums_of_squares = np.zeros((2, len(members), dimension))
        start = 0
        for block in passes(features, "means and scales"):
            if not start:
                shift = block.mean(axis=0, dtype=np.float64).astype(np.float32)
            block -= shift
            own = members[:, start : start + len(block)]
            total += block.sum(axis=0, dtype=np.float64)
            sums += own @ block
            np.square(block, out=block)
            squares += block.sum(axis=0, dtype=np.float64)
            sums_of_squares += own @ block
            start += len(block)
        moved = total / rows
        variance = np.maximum(squares / rows - moved**2, 0)
        self.scale = scales(variance.astype(np.float32), rows)
        self._mean = (shift + moved).astype(np.float32)
        self._inverse_scale = (1 / self.scale).astype(np.float32)
        sums /= sizes[:, None]
        sums_of_squares /= sizes[:, None]
        self.mean = ((sums - moved) / self.scale).astype(np.float32)
        around = sums_of_squares - 2 * moved * sums + moved**2
        self.squares = (np.maximum(around, 0) / np.square(self.scale)).astype(np.float32)

    def blocks(self, what: str, most_rows: int) -> Iterator[tuple[slice, Floats]]:
        """Which rows, and these, standardised."""
        start = 0
        for block in passes(self._features, what, most_rows):
            block -= self._mean
            block *= self._inverse_scale
            yield slice(start, start + len(block)), block
            start += len(block)
