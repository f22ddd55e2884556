"""Files of vectors, as they are exchanged: .npy and HDF5. Nothing in them is run."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

import h5py
import numpy as np

from ....features import layout
from ....features.errors import SourceError, count, first_line, listed
from ....features.opening import text_attribute

_NUMBERS: Final = "biuf"
_NPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK"
_MOST_SETS: Final = 10_000
"""Data sets of a file that are looked at."""


@contextlib.contextmanager
def of_npy(path: str) -> Iterator[Any]:
    """The array of a .npy file, mapped: no more of it is in memory than is read.

    Raises
    ------
    SourceError
        If it is another kind of file, or damaged; if it holds Python objects: to read them would
        be to run what is in the file.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_NPY))
    except OSError as error:
        raise _unreadable(path, error) from error
    if start.startswith(_ZIP):
        raise SourceError(
            f"{path}: is an archive of arrays (.npz); save the one with the vectors by "
            f"numpy.save('vectors.npy', vectors)"
        )
    if start != _NPY:
        pickled = start.startswith(b"\x80")
        what = "a pickle, which is never loaded: it runs what is in it" if pickled else "no .npy"
        raise SourceError(f"{path}: is {what}; save the vectors by numpy.save, as numbers")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise SourceError(
                f"{path}: holds Python objects, a pickle, which is never loaded: it runs what is "
                f"in it; save the vectors as numbers, numpy.save(..., vectors.astype('float32'))"
            ) from error
        raise SourceError(f"{path}: damaged: {first_line(error)}") from error
    except (OSError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise SourceError(f"{path}: cannot be read: {first_line(error)}") from error
    yield array


@contextlib.contextmanager
def of_hdf5(path: str, dataset: str | None = None) -> Iterator[Any]:
    """The data set of vectors in an HDF5 file: the one that is named, or the only one.

    Raises
    ------
    SourceError
        If it is not HDF5, or there is none, or there are several and none is named.
    """
    if os.path.isdir(path):
        raise SourceError(f"{path}: cannot be read: is a folder")
    if not os.path.isfile(path):
        raise _unreadable(path, FileNotFoundError(2, "no such file"))
    if not h5py.is_hdf5(path):
        raise SourceError(f"{path}: is not HDF5, or damaged")
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(h5py.File(path, "r", locking=False))
            if text_attribute(file, layout.FORMAT_ATTRIBUTE) == layout.FORMAT:
                raise SourceError(
                    f"{path}: is a feature file of headstart already; use it as it is, as in "
                    f"`headstart train {path}`"
                )
            found = _chosen(file, path, dataset)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise SourceError(f"{path}: cannot be read: {first_line(error)}") from error
        yield found


def _chosen(file: h5py.File, path: str, name: str | None) -> h5py.Dataset:
    names = _with_vectors(file)
    if name is not None:
        chosen = file.get(name)
        if not isinstance(chosen, h5py.Dataset):
            raise SourceError(
                f"{path}: there is no data set {name!r} in it; with vectors there are "
                f"{listed(names) or 'none'}"
            )
        return chosen
    if len(names) != 1:
        raise SourceError(
            f"{path}: {count(len(names), 'data set')} in it could be vectors: "
            f"{listed(names) or 'none has numbers of the shape (N, D)'}; name one by --dataset"
        )
    return file[names[0]]


def _with_vectors(file: h5py.File) -> list[str]:
    """The data sets of the file itself, not those that links lead to, with numbers of (N, D)."""
    found: list[str] = []
    seen = 0

    def look(name: str, one: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(one, h5py.Dataset) and one.ndim == 2 and one.dtype.kind in _NUMBERS:
            found.append(name)
        return True if seen > _MOST_SETS else None

    file.visititems(look)
    return found


def _unreadable(path: str, error: OSError) -> SourceError:
    return SourceError(f"{path}: cannot be read: {error.strerror or error}")
