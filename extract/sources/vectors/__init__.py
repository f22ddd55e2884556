"""Files of vectors from anywhere -> a feature file."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ....features import write
from ....features.errors import SourceError, WrongUsage
from ....features.store import FeatureStore
from ..lists import examples
from ..lists.examples import Said
from . import files
from .parquet import VECTOR, Parquet

_log = logging.getLogger("headstart")

_KINDS: Final = (".npy", ".npz", ".parquet", ".h5", ".hdf5")


def _log_notes(name: str, notes: Sequence[str]) -> None:
    for note in notes:
        text = f"{name}: {note}".encode("utf-8", "backslashreplace").decode("utf-8")
        _log.warning("%s", text)


def import_vectors(
    vectors: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    list: Any = None,  # noqa: A002 - as the command has it
    columns: Mapping[str, str] | None = None,
    dataset: str | None = None,
    encoder: str | None = None,
    revision: str = "",
    settings: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    fresh: bool = False,
    remove: bool = False,
    progress: bool = False,
    seen: Callable[[str, Sequence[str]], None] = _log_notes,
) -> FeatureStore:
    """Make a feature file of vectors that are in a file, by a list of what they are of.

    The vectors may be larger than memory. See `headstart.features.write`, which this calls: for
    what is kept when it is run again, and for vectors that are in memory.

    Parameters
    ----------
    vectors : str or path-like
        ``.npy`` of (N, D) numbers, as ``numpy.save`` writes it; ``.h5`` with such a data set; or
        ``.parquet`` (extra ``parquet``) with a column of lists of numbers. Pickles are not loaded.
    out : str or path-like
        The feature file to make or to bring up to date; may be in a bucket.
    list : path or data frame, optional
        ``.csv`` or ``.tsv`` with a line for each vector, in the same order. Columns are found by
        their names: ``id``, ``label``, ``split``, ``group``, ``text``. By default the other columns
        of a Parquet file; without any the ids are row numbers.
    columns : mapping, optional
        Which columns those are, as ``{"label": "topic"}``; ``vector`` is that of a Parquet file.
    dataset : str, optional
        The data set of an HDF5 file, if several could be vectors.
    encoder : str, optional
        What made the vectors; by default the name of their file. Heads are applied only to vectors
        of which the same is said.
    revision, settings : str, mapping, optional
        Which one of that name, and all else that can change a vector.
    dtype : {"float32", "float16"}, default="float32"
        Of the stored vectors.
    fresh, remove, progress : bool, default=False
        As for `headstart.features.write`.
    seen : callable, optional
        Called with the name of the list, and sentences on what one might not expect of it, before
        anything is written; by default they are logged.

    Returns
    -------
    FeatureStore
        The sealed file.

    Raises
    ------
    SourceError
        If the vectors or the list cannot be read, or a column is not there.
    WrongUsage, ProvenanceMismatch, FeatureFileError
        As `headstart.features.write` does.
    MissingExtra
        If pyarrow is not installed.
    """
    path = os.fspath(vectors)
    ending = os.path.splitext(path)[1].lower()
    named = examples.checked(columns, VECTOR)
    if ending not in (".h5", ".hdf5") and dataset is not None:
        raise WrongUsage(f"dataset {dataset!r}: {path} is not HDF5, and has none")
    if ending != ".parquet" and VECTOR in named:
        raise WrongUsage(f"columns: {path} is not Parquet, and has no column {named[VECTOR]!r}")
    given = None if list is None else examples.of(list, _without_vector(named))
    with _opened(path, ending, named, dataset, given) as (found, said):
        what = path if list is None else _name(list)
        seen(what, said.notes)
        environment = {"vectors": os.path.abspath(path)}
        if list is not None:
            environment["source"] = what
        return write(
            out,
            found,
            said.ids,
            said.labels,
            said.splits,
            groups=said.groups,
            texts=said.texts,
            made_by={
                "encoder": os.path.basename(path) if encoder is None else encoder,
                "revision": revision,
                "settings": settings,
            },
            dtype=dtype,
            environment=environment,
            fresh=fresh,
            remove=remove,
            progress=progress,
        )


@contextlib.contextmanager
def _opened(
    path: str,
    ending: str,
    columns: Mapping[str, str],
    dataset: str | None,
    said: Said | None,
) -> Iterator[tuple[Any, Said]]:
    """The vectors of a file, and what is said of them."""
    if ending == ".parquet":
        file = Parquet(path, columns)
        yield file.blocks(), said or file.said()
        return
    if ending not in _KINDS:
        raise SourceError(
            f"{path}: vectors come as .npy, .parquet or .h5; save them as one of these"
        )
    opened = files.of_npy(path) if ending in (".npy", ".npz") else files.of_hdf5(path, dataset)
    if said is None and _without_vector(columns):
        raise WrongUsage("columns: there is no list that could have them; name it by --list")
    with opened as array:
        number = len(array) if array.ndim else 0
        yield array, said or examples.numbered(number)


def _without_vector(columns: Mapping[str, str]) -> dict[str, str]:
    return {role: name for role, name in columns.items() if role != VECTOR}


def _name(source: Any) -> str:
    """What a list is called, in messages and in the file."""
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fspath(source))
    return "the data frame"
