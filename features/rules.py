"""The rules of FORMAT.md about what a file holds: each once, for reading and for `verify`."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from . import layout
from .errors import listed

_MOST_NAMES: Final = 5  # in a message

LARGEST: Final = 1e15
"""Of the numbers in a vector: the squares of a great many, added, fit into float32. Those that
backbones give are below a thousand."""

MOST_CANARIES: Final = 64
"""Ours are 8. Each passes through the whole classifier whenever a head is loaded."""

Read = Callable[[str], NDArray[Any]]
"""Gives a whole dataset by its name."""


def foreign(file: h5py.File, expected_format: str, file_size: int) -> str:
    """What a file holds or lacks that its format does not allow; "" if there is nothing.

    No data is read.
    """
    schema = layout.SCHEMAS[expected_format]
    found = set(file)
    odd = (found ^ schema.keys()) - (layout.OPTIONAL - found)
    if odd:
        return f"missing or unknown names: {_listed(odd)}"
    unknown = set(file.attrs) - layout.ATTRIBUTES[expected_format]
    if unknown:
        return f"unknown attributes: {_listed(unknown)}"
    for name, column in schema.items():
        if name not in found:
            continue
        wrong = _what_is_wrong(file, name, column, file_size)
        if wrong:
            return f"dataset {name!r} {wrong}"
    return ""


def _listed(names: Iterable[str]) -> str:
    """The first names, those that anybody may have chosen without what is no text."""
    every = sorted(name if name.isprintable() else ascii(name) for name in names)
    shown = [name if len(name) <= 80 else name[:77] + "..." for name in every]
    return listed(shown, _MOST_NAMES)


def _what_is_wrong(file: h5py.File, name: str, column: layout.Column, file_size: int) -> str:
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        return "is a link to elsewhere"
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        return "is not a dataset"
    storage = dataset.id.get_create_plist()
    if storage.get_external_count() or dataset.is_virtual:
        return "is stored in another file"
    filters = {storage.get_filter(k)[0] for k in range(storage.get_nfilters())}
    if filters - {h5py.h5z.FILTER_FLETCHER32}:
        return "uses a filter that the format does not allow"
    if dataset.shape is None or dataset.ndim != len(column.shape) or len(dataset.attrs):
        return "is misshapen"
    if any(
        want is not None and have != want
        for have, want in zip(dataset.shape, column.shape, strict=True)
    ):
        return f"has the shape {dataset.shape}"
    if not column.takes(dataset.dtype):
        return f"has the type {dataset.dtype}"
    # Nothing is compressed, so no dataset can declare more than the file has.
    if int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize > file_size:
        return "declares more data than the file holds"
    return ""


def broken(name: str, read: Read) -> Iterator[str]:
    """What is wrong with a dataset, a clause for each rule that it breaks.

    Code that reads a dataset relies on these rules, so they are checked whenever it is read. What
    nothing relies on (`broken_as_a_whole`), and values of vectors, are left to `verify`.
    """
    rules = _RULES.get(name)
    if rules is not None:
        yield from rules(read)


def broken_as_a_whole(read: Read) -> Iterator[str]:
    """What is wrong with datasets that each keep their own rules; it names them."""
    for codes, names in layout.NAMED:
        used = np.unique(read(codes))
        if len(used[used != layout.NO_NAME]) < len(read(names)):
            yield f"{names}: holds a name that no row has"
    paths, views = read(layout.PATHS), read(layout.VIEWS)
    akin = (paths[1:] == paths[:-1]) & (views[1:] > views[:-1])
    for name in layout.PER_IMAGE:
        rows = read(name)
        if (rows[1:] != rows[:-1])[akin].any():
            yield f"{name}: differs between views of one image"


def unusable(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N, D) vectors -> (N,): which have values that nothing can be computed with."""
    if vectors.dtype == np.float16:
        finite: NDArray[np.bool_] = np.isfinite(vectors).all(axis=1)
        return ~finite
    # NaN is neither.
    inside: NDArray[np.bool_] = (vectors.max(axis=1) <= LARGEST) & (vectors.min(axis=1) >= -LARGEST)
    return ~inside


def _paths(read: Read) -> Iterator[str]:
    paths, views = read(layout.PATHS), read(layout.VIEWS)
    before, after = paths[:-1], paths[1:]
    ascending = (before < after) | ((before == after) & (views[:-1] < views[1:]))
    if not ascending.all():
        yield "rows are not sorted, or one occurs twice"
    elif views[:1].any() or (before != after)[views[1:] > 0].any():
        yield "an image has further views, but not view 0"


def _codes(codes: str, names: str, read: Read) -> Iterator[str]:
    if _outside(read(codes), layout.NO_NAME, len(read(names))):
        yield f"points outside {names}"


def _names(name: str, read: Read) -> Iterator[str]:
    names = read(name)
    if not (names[:-1] < names[1:]).all():
        yield "not sorted, or one occurs twice"


def _splits(read: Read) -> Iterator[str]:
    if _outside(read(layout.SPLITS), 0, len(layout.SPLIT_NAMES)):
        yield "holds a number that is no split"


def _views(read: Read) -> Iterator[str]:
    if (read(layout.VIEWS) < 0).any():
        yield "holds a negative number"


def _skipped(read: Read) -> Iterator[str]:
    ledger = read(layout.SKIPPED)
    if not len(ledger):
        return
    yield from _files(ledger)
    paths, rows = ledger["path"], read(layout.PATHS)
    # Where rows are not sorted, `paths` breaks a rule of its own.
    places = np.searchsorted(rows, paths)
    within = places < len(rows)
    twice = (rows[places[within]] == paths[within]).any()
    if twice or not (paths[:-1] < paths[1:]).all():
        yield "not sorted, or a path is there twice or has a row too"
    if (ledger["reason"] == b"").any():
        yield "an image is skipped without a reason"


def _unit_files(read: Read) -> Iterator[str]:
    yield from _files(read(layout.FILES))


def _files(files: NDArray[np.void]) -> Iterator[str]:
    try:
        for reason in np.unique(files["reason"]).tolist():
            reason.decode("utf-8")
    except UnicodeDecodeError:
        yield "holds a reason that is not UTF-8"


def _texts(read: Read) -> Iterator[str]:
    texts = read(layout.TEXTS)
    if texts.dtype.itemsize > layout.MOST_TEXT:
        yield f"has room for texts of more than {layout.MOST_TEXT} bytes"
    try:
        for text in texts.tolist():
            text.decode("utf-8")
    except UnicodeDecodeError:
        yield "holds a text that is not UTF-8"


def _canary(read: Read) -> Iterator[str]:
    canary = read(layout.CANARY).astype(np.float64)
    # Distances are relative to the length of a vector.
    if (
        not len(canary) <= MOST_CANARIES
        or not np.isfinite(canary).all()
        or not canary.any(axis=1).all()
    ):
        yield f"more than {MOST_CANARIES}, all zero, or not finite"


def _outside(numbers: NDArray[np.integer], least: int, end: int) -> bool:
    return len(numbers) > 0 and not least <= numbers.min() <= numbers.max() < end


_RULES: Final[Mapping[str, Callable[[Read], Iterator[str]]]] = {
    layout.PATHS: _paths,
    **{codes: functools.partial(_codes, codes, names) for codes, names in layout.NAMED},
    **{names: functools.partial(_names, names) for _, names in layout.NAMED},
    layout.SPLITS: _splits,
    layout.VIEWS: _views,
    layout.SKIPPED: _skipped,
    layout.FILES: _unit_files,
    layout.CANARY: _canary,
    layout.TEXTS: _texts,
}
