"""Vectors of more images than can all be compared -> near-copies, each sought where it lies."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...features.journal.progress import step
from .duplicates import FAR, Likeness, of_classes
from .space import drawn, parts

EXACTLY: Final = 50_000
"""Images up to which each is compared with every other."""
_CELL: Final = 2048
"""Images of a cell, in the mean."""
_NEAREST: Final = 8
"""Landmarks that are nearest to an image: it is in the cells of all of them. The more and smaller
cells, the seldomer a pair is parted, at the same number of comparisons, 16,000 an image. With 4,000
landmarks, as of a million images, made-up vectors of 256 numbers meet their copies at a cosine of
0.85 in 99.6%, of 0.8 in 99.2, of 0.7 in 94.0; with 4 and 1,000 in 97.1, 93.6 and 81.9; with 2 and
500 in 81.5, 73.0 and 58.8, half as many comparisons."""
_MOST: Final = 16
"""Times a cell: a larger one is cut into pieces."""


def chains_in_cells(
    vectors: NDArray[np.float16], labels: NDArray[np.intp] | None
) -> NDArray[np.intp]:
    """(N,) the same number for rows that a chain of near-copies leads between.

    As `Likeness` finds them among all (N, k) vectors of length one, but compared only within cells:
    what is far away from an image, and usual in its class, is that of all of them.
    """
    rows = len(vectors)
    if vectors.shape[1] == 1:  # of such `Space` tells nothing
        return np.arange(rows)
    usual = None if labels is None else of_classes(vectors, labels)
    far = vectors[drawn(rows, FAR)].astype(np.float32)
    ends, others = [], []
    with step("near-copies", _NEAREST * rows) as done:
        for members in _cells(vectors):
            own = None if usual is None else usual[members]
            found = Likeness(vectors[members].astype(np.float32), of_class=own, far=far)
            for linked in (found.chains, found.masses):
                moved = np.flatnonzero(linked != np.arange(len(members)))
                ends.append(members[moved])
                others.append(members[linked[moved]])
            done.add(len(members))
    one, other = np.concatenate(ends), np.concatenate(others)
    edges = coo_array((np.ones(len(one), np.int8), (one, other)), (rows, rows))
    return np.asarray(connected_components(edges, directed=False)[1], np.intp)


def _cells(vectors: NDArray[np.float16]) -> Iterator[NDArray[np.intp]]:
    """Rows of each cell, sorted."""
    number = max(_NEAREST, _NEAREST * len(vectors) // _CELL)
    landmarks = vectors[drawn(len(vectors), number)].astype(np.float32)
    nearest = np.empty((len(vectors), min(_NEAREST, len(landmarks))), np.int32)
    for part in parts(len(vectors), len(landmarks)):
        cosines = vectors[part].astype(np.float32) @ landmarks.T
        nearest[part] = np.argpartition(cosines, -nearest.shape[1], axis=1)[:, -nearest.shape[1] :]
    order = np.argsort(nearest.ravel(), kind="stable")
    cells = nearest.ravel()[order]
    row = order // nearest.shape[1]
    for members in np.split(row, np.flatnonzero(np.diff(cells)) + 1):
        # Images of one kind in masses: no landmark parts them, and what is next to each will do.
        pieces = -(-len(members) // (_MOST * _CELL))
        yield from np.array_split(np.sort(members), pieces)
