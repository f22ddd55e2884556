"""A matrix whose rows are in memory, or in a file of which a block is read at a time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.digest import blocks
from ...features.journal.progress import step

BLOCK_BYTES: Final = 32 << 20
"""Of a block: large enough to be read and multiplied at full speed, and there are three at once."""

Chosen = NDArray[np.bool_] | NDArray[np.intp] | slice
Read = Callable[[NDArray[np.intp]], NDArray[np.floating]]
"""Reads some rows of a file, given in increasing order."""


class Stored:
    """(N, D) float32 rows of a file, for whatever takes a matrix by rows or in `passes`.

    Indexing it reads; `taken` reads nothing.
    """

    dtype: Final = np.dtype(np.float32)
    ndim: Final = 2

    def __init__(self, read: Read, rows: NDArray[np.intp], dimension: int) -> None:
        self._read, self._rows = read, rows
        self.shape = len(rows), dimension

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Chosen) -> NDArray[np.float32]:
        rows = self._rows[chosen]
        if not len(rows):
            return np.empty((0, self.shape[1]), np.float32)
        if (np.diff(rows) > 0).all():
            return self._read(rows).astype(np.float32, copy=False)
        ordered, places = np.unique(rows, return_inverse=True)
        return self._read(ordered).astype(np.float32, copy=False)[places]

    def taken(self, chosen: Chosen) -> "Stored":
        """Some of the rows."""
        return Stored(self._read, self._rows[chosen], self.shape[1])

    def joined(self, further: "Stored") -> "Stored":
        """These rows, then others of the same file."""
        return Stored(self._read, np.concatenate([self._rows, further._rows]), self.shape[1])


Matrix = NDArray[np.floating] | Stored


def taken(matrix: Matrix, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Matrix:
    """Some of the rows, in memory if the others are."""
    return matrix.taken(chosen) if isinstance(matrix, Stored) else matrix[chosen]


def joined(first: Matrix, second: Matrix) -> Matrix:
    """The rows of two matrices, both in memory or both in one file."""
    if isinstance(first, Stored) and isinstance(second, Stored):
        return first.joined(second)
    return np.concatenate([held(first), held(second)])


def held(matrix: Matrix) -> NDArray[np.floating]:
    """The whole of it in memory."""
    return matrix[:] if isinstance(matrix, Stored) else matrix


def passes(
    matrix: Matrix, what: str, most_rows: int | None = None
) -> Iterator[NDArray[np.floating]]:
    """The rows of a matrix, once, in blocks; those of a file as a step that is called `what`.

    While a block of a file is worked on, the next one is read; it may be written to, and has no
    more than 32 MB.
    """
    if not isinstance(matrix, Stored):
        if most_rows is None:
            yield from blocks(matrix)
        else:
            for start in range(0, len(matrix), most_rows):
                yield matrix[start : start + most_rows]
        return
    rows, dimension = matrix.shape
    size = max(1, BLOCK_BYTES // (4 * max(1, dimension)))
    size = max(1, min(size, most_rows or size))
    with ThreadPoolExecutor(1) as ahead, step(what, rows) as done:
        waiting = ahead.submit(matrix.__getitem__, slice(0, size))
        for start in range(0, rows, size):
            block = waiting.result()
            if start + size < rows:
                waiting = ahead.submit(matrix.__getitem__, slice(start + size, start + 2 * size))
            yield block
            done.add(len(block))
