"""Some rows of a dataset, read in few pieces."""

import itertools
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 1024
"""Read at once of a dataset without chunks."""


def picked(dataset: h5py.Dataset, rows: NDArray[np.intp]) -> NDArray[Any]:
    """The given rows (increasing, no row twice) of an (N, D) dataset, without all the others."""
    if int(rows[-1]) - int(rows[0]) < len(rows):
        span: NDArray[Any] = dataset[int(rows[0]) : int(rows[-1]) + 1]
        return span
    # HDF5 picks single rows slowly, and reads whole chunks whatever is picked from them.
    found = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    length = dataset.chunks[0] if dataset.chunks else _ROWS
    starts = np.flatnonzero(np.diff(rows // length, prepend=-1))
    for start, end in itertools.pairwise([*starts.tolist(), len(rows)]):
        own = rows[start:end]
        found[start:end] = dataset[int(own[0]) : int(own[-1]) + 1][own - own[0]]
    return found
