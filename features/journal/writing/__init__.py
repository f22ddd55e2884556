"""Vectors from anywhere -> a feature file, by units and a seal as images get there."""

import dataclasses
import functools
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import durable, layout
from ...errors import FeatureFileError, WrongUsage, nearest
from ...opening import replaceable
from ...origin import Origin
from ...provenance import Given
from ...provenance.augmentation import NO_AUGMENTATION
from ...provenance.environment import now, versions
from ...store import FeatureStore
from ...store.shards import Shards
from .. import seal, units
from ..known import REMEDY
from ..lock import at_work, exclusive
from ..outputs import Output
from ..progress import showing_progress
from . import vectors as given
from .rows import Rows
from .spool import Spool, spooled, whole

_MADE_BY: Final = ("encoder", "revision", "settings", "settings_digest")


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write` did."""

    examples: int
    """In the file."""
    new: int
    """Whose vectors were not there before, or were other ones."""
    kept: int
    """Whose vectors were there."""
    removed: int
    """That were in the file, and are no more."""
    duplicates: int
    """With the vector of another one."""
    seconds: float


def write(
    out: str | os.PathLike[str],
    vectors: Any,
    ids: Iterable[Any],
    labels: Iterable[Any] | None = None,
    splits: Iterable[Any] | None = None,
    *,
    groups: Iterable[Any] | None = None,
    texts: Iterable[Any] | None = None,
    made_by: Mapping[str, Any],
    dtype: str = "float32",
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
    remove: bool = False,
    progress: bool = False,
) -> FeatureStore:
    """Make a feature file of vectors from anywhere: texts, sounds, proteins, another framework.

    Everything that works on a file that ``headstart extract`` made works on it, but for what takes
    a backbone or images: no image is predicted, and no model exported.

    The ids that are given are all of the file, as the images of a source are: labels, splits,
    groups and texts are those of this call. An example whose vector is in the file already is not
    written again; one with another vector replaces that of before. As images that are named one by
    one, no example is let go of unasked (`remove`). A run that was killed goes on where it was;
    `out` is the old file or the new one, whatever happens.

    Parameters
    ----------
    out : str or path-like
        The feature file: a path, or a URL of a file in a bucket (extra ``remote``).
    vectors : array-like of shape (N, D), or an iterator of blocks of (n, D)
        Numbers; they are stored as `dtype`. An array may be larger than memory: a ``np.memmap``, a
        data set of h5py, or whatever has `shape` and `dtype` and gives rows by ``[start:stop]`` and
        by an array of row numbers. Sparse matrices of SciPy, data frames and tensors of other
        libraries are taken, too. What is masked in a masked array counts as NaN.
    ids : iterable of N str or int
        What each example is called, each once; any text of 1 to 4,096 bytes, such as a path.
    labels, groups : iterable of N str, int or None, optional
        The class of each example, and what it has in common with others, so that no fold parts
        them (a patient, an author); None where there is none.
    splits : iterable of N str or None, optional
        ``"train"``, ``"validation"``, ``"test"``, or ``"none"``.
    texts : iterable of N str or None, optional
        What pages show of each example where there is no image; of longer ones than 512 bytes of
        UTF-8 only the beginning.
    made_by : mapping
        What made the vectors: ``encoder``, its name; ``revision``, which one of that name;
        ``settings``, all else that can change a vector, as JSON can say it; and `settings_digest`
        (SHA-256, hexadecimal) where that says more than they do. All but the first are optional.
        Heads are applied only to vectors of which the same is said.
    dtype : {"float32", "float16"}, default="float32"
        Of the stored vectors; float16 halves the file and keeps about three digits.
    environment : mapping of str to str, optional
        What is recorded of this machine and of the source, and never compared.
    fresh : bool, default=False
        Make the file anew, with nothing of the one that is there.
    remove : bool, default=False
        Let go of examples of the file that are not among `ids`.
    progress : bool, default=False
        Show progress bars on standard error, where that is a terminal.

    Returns
    -------
    FeatureStore
        The sealed file, rows sorted by the bytes of their ids. Its attribute `summary`, a
        `Written`, says what was done.

    Raises
    ------
    WrongUsage
        If lengths differ, an id occurs twice, a vector has NaN, or a value is none that is listed;
        if examples would be lost, see `remove`.
    ProvenanceMismatch
        If `out` holds vectors that were made otherwise.
    FeatureFileError
        If `out` is another kind of file, or damaged, or cannot be written, or if another run is at
        work on it.

    Examples
    --------
    >>> import numpy as np
    >>> from headstart.features import write
    >>> vectors = np.random.default_rng(0).normal(size=(3, 8))
    >>> made_by = {"encoder": "mine", "revision": "1"}
    >>> write("texts.h5", vectors, ["a", "b", "c"], made_by=made_by)  # doctest: +SKIP
    FeatureStore('texts.h5': 3 rows x 8, 0 labels)
    """
    started = time.perf_counter()
    rows = Rows.of(ids, labels, splits, groups, texts)
    found = given.of(vectors, len(rows))
    provenance = Given.of(**_said(made_by), dimension=found.dimension, dtype=_dtype(dtype))
    origin = Origin(
        provenance,
        {"source": "", "extracted": now(), **versions("headstart", "numpy", "h5py")}
        | dict(environment or {}),
        np.empty((0, found.dimension), dtype),
        remedy=REMEDY,
    )
    if Shards.takes(out):
        raise WrongUsage(
            f"{os.fspath(out)}: stands for several files; write each of them by itself, with its "
            f"own part of the examples"
        )
    output = Output.of(out)
    with output.named():
        path = durable.require_target(output.path, units.ENDING)
        output.require_place()
    with showing_progress(progress), output.named(), at_work(path, exclusive(path)):
        output.begin()
        output.send()
        if fresh and path.exists() and not replaceable(path):
            raise FeatureFileError(
                f"{path}: is not a feature file, so --fresh does not replace it; choose another "
                f"output"
            )
        spool = Spool(path, origin, fresh=fresh)
        removed = 0 if spool.store is None else _removed(spool.store, rows, allowed=remove)
        digests, new = spooled(spool, rows, found)
        store = _sealed(spool, {**rows.columns, layout.DIGESTS: digests}, fresh=fresh)
        output.upload()
        _discard(path, output)
        store = output.sealed(store)
    distinct = len(np.unique(whole(digests)))
    store.summary = Written(
        examples=len(rows),
        new=new,
        kept=len(rows) - new,
        removed=removed,
        duplicates=len(rows) - distinct,
        seconds=round(time.perf_counter() - started, 3),
    )
    return store


def relabel(store: FeatureStore, labels: Mapping[bytes, str | None]) -> FeatureStore:
    """Seal a file of given vectors anew with other labels, by the bytes of the ids.

    An example that is not among them has no label then.
    """
    columns = {
        name: store.read(name)
        for name in (*layout.PER_ROW, layout.GROUP_NAMES, layout.SKIPPED)
        if name != layout.FEATURES
    }
    if store.has_texts:
        columns[layout.TEXTS] = store.read(layout.TEXTS)
    names = [labels.get(path) or None for path in store.raw_paths]
    columns[layout.LABELS], columns[layout.LABEL_NAMES] = seal.coded(names)
    origin = dataclasses.replace(store.origin, remedy=REMEDY)
    with exclusive(store.path):
        return _sealed(Spool(store.path, origin), columns, fresh=False)


def _said(made_by: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(made_by, Mapping) or not made_by.get("encoder"):
        raise WrongUsage(
            f"made_by {made_by!r:.80}: what made the vectors needs a name, as "
            f"{{'encoder': 'all-MiniLM-L6-v2', 'revision': '1', 'settings': {{'pooling': 'mean'}}}}"
        )
    for name in made_by:
        if name not in _MADE_BY:
            raise WrongUsage(
                f"made_by: {name!r:.80} is unknown; did you mean "
                f"{nearest(str(name), _MADE_BY)!r}? What else can change a vector is said in "
                f"'settings'"
            )
    return {name: value for name, value in made_by.items() if value is not None}


def _dtype(dtype: str) -> str:
    if dtype not in layout.FEATURE_DTYPES:
        raise WrongUsage(f"dtype {dtype!r}: use one of {', '.join(layout.FEATURE_DTYPES)}")
    return dtype


def _removed(store: FeatureStore, rows: Rows, *, allowed: bool) -> int:
    """How many examples of a file are not among those given."""
    before = store.read(layout.PATHS)
    lost = before[~np.isin(before, rows.columns[layout.PATHS])]
    if len(lost) and not allowed:
        raise WrongUsage(
            f"{store.name}: {len(lost):,} of its {len(store):,} examples are not among the "
            f"{len(rows):,} that are given, such as {os.fsdecode(bytes(lost[0]))!r}, and would be "
            f"lost; give them too, or let go of them by --remove (in Python remove=True)"
        )
    return len(lost)


def _sealed(spool: Spool, columns: Mapping[str, NDArray[Any]], *, fresh: bool) -> FeatureStore:
    again = functools.partial(Spool, spool.out, spool.origin, fresh=fresh)
    source = str(spool.origin.environment.get("source", ""))
    return seal.written(seal.Rows(spool.out, source, NO_AUGMENTATION, columns, again), spool)


def _discard(path: Path, output: Output) -> None:
    """Remove the units of a file that is sealed: every vector that is wanted is in it."""
    folder = units.folder_of(path)
    names = [one.name for one in folder.glob("*.h5")]
    for name in names:
        (folder / name).unlink(missing_ok=True)
    output.drop(names)
