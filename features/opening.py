"""Opening a file of ours for reading: the right kind, the right version, the right datasets."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import h5py

from . import layout
from .errors import FeatureFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


_KINDS = {
    layout.FORMAT: "headstart feature file",
    layout.UNIT_FORMAT: "unit of headstart work",
}


@contextlib.contextmanager
def opened(path: Path, expected_format: str, ranks: Mapping[str, int]) -> Iterator[h5py.File]:
    """Open `path` read-only, check what it is, and report damage met while it is read.

    Parameters
    ----------
    path : Path
        The file.
    expected_format : str
        Value of its ``format`` attribute.
    ranks : mapping of str to int
        The datasets that must be there, with their number of axes.

    Raises
    ------
    FeatureFileError
        If the file is missing, of another kind or version, lacks a dataset, or fails a checksum.
    """
    kind = _KINDS[expected_format]
    if not os.path.exists(path):
        raise FeatureFileError(f"{path}: no such file; `headstart extract` makes feature files")
    if not os.path.isfile(path):
        raise FeatureFileError(f"{path}: a {kind} is expected, this is a folder or device")
    try:
        # Locks fail on some network file systems; reading needs none, since a sealed file is
        # never written again.
        with h5py.File(path, "r", locking="best-effort") as file:
            _check(file, path, kind, expected_format, ranks)
            yield file
    except PermissionError as error:
        raise FeatureFileError(f"{path}: cannot be read: permission denied") from error
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if _is_hdf5(path):
            raise FeatureFileError(f"{path}: damaged: {_first_line(error)}") from error
        raise FeatureFileError(
            f"{path}: not a {kind} (not HDF5 at all); `headstart extract` makes them"
        ) from error


def _check(
    file: h5py.File, path: Path, kind: str, expected_format: str, ranks: Mapping[str, int]
) -> None:
    if text_attribute(file, layout.FORMAT_ATTRIBUTE) != expected_format:
        raise FeatureFileError(
            f"{path}: an HDF5 file, but not a {kind}; `headstart extract` makes them"
        )
    version = file.attrs.get(layout.VERSION_ATTRIBUTE)
    if version != layout.FORMAT_VERSION:
        raise FeatureFileError(
            f"{path}: format version {version}, this headstart reads version "
            f"{layout.FORMAT_VERSION}; use the headstart that wrote it, or extract again"
        )
    for name, rank in ranks.items():
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != rank:
            raise FeatureFileError(f"{path}: damaged: dataset {name!r} is missing or misshapen")


def text_attribute(file: h5py.File, name: str) -> str:
    """A text attribute of the root group, or "" if it is missing or no text."""
    value = file.attrs.get(name)
    return value if isinstance(value, str) else ""


def _is_hdf5(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(h5py.is_hdf5(path))
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
