"""A data set of Hugging Face by its name, or parquet files of one -> references to its images."""

import collections
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....features.errors import MissingExtra, SourceError, first_line, install_command
from .. import tree
from ..image import ImageReference
from ..listing import Listing
from . import rows
from .arrow import Meant, Run, holds, images_of, table, texts
from .rows import File

_SAVED: Final = ("state.json", "dataset_dict.json")
"""What is in a folder that `save_to_disk` made."""

_NUMBERED: Final = re.compile(r"-\d+-of-\d+$")
"""What follows the split in the name of a parquet file of several."""


_MOST_SAID: Final = 400  # characters of what the library says


def listed(name: str, columns: Mapping[str, str] | None = None) -> Listing:
    """The images of a data set, in its order.

    Parameters
    ----------
    name : str
        ``hf:NAME``, ``hf:OWNER/NAME``, ``hf:OWNER/NAME:CONFIG`` or ``hf:FOLDER``; then perhaps rows
        in brackets, as the library writes them, each perhaps with what they are to be:
        ``hf:beans[train=train[:80%],test=train[80%:]]``.
    columns : mapping, optional
        The columns that are meant, as ``{"path": "image", "label": "fine_label"}``.

    Raises
    ------
    MissingExtra
        If the library `datasets` is not installed.
    SourceError
        If there is no such data set, or it has no images; if rows are not there, or meant twice.
    """
    what = rows.asked(name)
    datasets = _library()
    called, splits = _loaded(datasets, what)
    sizes = {split: len(data) for split, data in splits.items()}
    wanted, notes = rows.slices(
        what,
        sizes,
        lambda said: [
            (one.splitname, one.from_, one.to)
            for one in datasets.ReadInstruction.from_spec(said).to_absolute(sizes)
        ],
    )
    arrows, meant = {}, {}
    for base in dict.fromkeys(one.base for one in wanted):
        arrows[base] = _arrows(what.source, splits[base])
        meant[base], more = _columns(what.source, datasets, splits[base], columns or {})
        notes += [note for note in more if note not in notes]
    images: list[ImageReference] = []
    for one in wanted:
        run = Run(one.base, 0, one.start, one.stop, one.split, None)
        images += images_of(arrows[one.base], run, meant[one.base], called, os.getcwd())
    return Listing(called, images, notes=notes)


def of_parquet(
    files: Sequence[str], name: str, columns: Mapping[str, str] | None = None
) -> Listing:
    """The images in parquet files, by the files' names.

    Parameters
    ----------
    files : sequence of str
        Such as ``train-00000-of-00002.parquet``: the name, or that of a folder, may be a split.
    name : str
        The folder, or the only file, that the user named.
    columns : mapping, optional
        See `listed`.

    Raises
    ------
    MissingExtra, SourceError
        See `listed`.
    """
    datasets = _library()
    from pyarrow import parquet

    files = sorted(files)
    above = os.path.abspath(name if os.path.isdir(name) else os.path.dirname(name))
    origins = [File.at(file, name) for file in files]
    counts = []
    for file in files:
        with _told(f"{file}: this parquet file cannot be read"):
            counts.append(parquet.read_metadata(file).num_rows)
    if not sum(counts):
        raise SourceError(f"{name}: no images: there are no rows")
    with _told(f"{name}: these parquet files cannot be read together"):
        # Its cache has a copy of all rows, from which any can be read on its own: in a parquet file
        # they are compressed by the hundred or by the million. (`load_dataset` would tell a server
        # that it was called.)
        data = datasets.Dataset.from_parquet([os.path.abspath(file) for file in files])
    meant, notes = _columns(name, datasets, data, columns or {})
    stems = [os.path.splitext(os.path.relpath(file, above))[0] for file in files]
    folders = [tuple(_NUMBERED.sub("", stem).split(os.sep)) for stem in stems]
    sizes: dict[tree.Parts, int] = collections.Counter()
    for parts, count in zip(folders, counts, strict=True):
        sizes[parts] += count
    meanings, _ = tree.understand(sizes)
    alone = [
        parts for parts in sizes if tree.understand({parts: 1})[0][parts].split != tree.NO_SPLIT
    ]
    if alone and all(meaning.split == tree.NO_SPLIT for meaning in meanings.values()):
        notes.append(
            f"{'/'.join(alone[0])}.parquet looks like a split, and is not used as one, because "
            f"other files are in none"
        )
    arrows = _arrows(name, data)
    images: list[ImageReference] = []
    first = 0
    for stem, parts, origin, count in zip(stems, folders, origins, counts, strict=True):
        if count:
            run = Run(stem, first, first, first + count, meanings[parts].split, origin)
            images += images_of(arrows, run, meant, os.fsdecode(origin.path), above)
        first += count
    return Listing(os.path.abspath(name), images, notes=notes)


def _library() -> Any:
    try:
        import datasets
    except Exception as error:  # of the libraries that it imports, too
        raise MissingExtra(
            f"hf: sources and parquet files need the library datasets, which cannot be imported "
            f"({first_line(error)}); install it with: {install_command('hf')}"
        ) from error
    return datasets


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Say in one line what failed, whatever it is: readers of data sets fail in their own ways."""
    try:
        yield
    except (SourceError, MissingExtra):
        raise
    except Exception as error:
        cause = error.__cause__ or error  # "An error occurred while generating the dataset"
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        said = " ".join(lines[:2])[:_MOST_SAID] or type(cause).__name__
        raise SourceError(f"{what}: {said.rstrip('.:')}") from error


def _loaded(datasets: Any, what: rows.Asked) -> tuple[str, dict[str, Any]]:
    """The name of a data set without the rows that were asked for, and its splits."""
    folder = os.path.abspath(os.path.expanduser(what.name))
    name, _, config = what.name.rpartition(":") if ":" in what.name else (what.name, "", "")
    with _told(f"{what.source}: the library datasets cannot load it"):
        if any(os.path.isfile(os.path.join(folder, saved)) for saved in _SAVED):
            data = datasets.load_from_disk(folder)
        elif os.path.isdir(folder):
            data = datasets.load_dataset(folder)
        else:
            data = datasets.load_dataset(name, config or None)
    if not isinstance(data, datasets.DatasetDict):
        data = {str(data.split or "data"): data}
    called = folder if os.path.isdir(folder) else what.name
    return f"hf:{called}", dict(data)


def _arrows(source: str, data: Any) -> list[tuple[Any, File]]:
    """The tables that the rows of a data set are in, one after the other."""
    files = [File.at(one["filename"], source) for one in data.cache_files]
    with _told(f"{source}: the cache of the library datasets cannot be read"):
        tables = [(table(file), file) for file in files]
    if sum(one.num_rows for one, _ in tables) != len(data):
        raise SourceError(
            f"{source}: the library datasets keeps it in memory, or in another order; unset "
            f"HF_DATASETS_IN_MEMORY_MAX_SIZE, or save it as parquet"
        )
    return tables


def _columns(
    source: str, datasets: Any, data: Any, columns: Mapping[str, str]
) -> tuple[Meant, list[str]]:
    """The columns that are image and label, by their kind and by what they are called."""
    from pyarrow import types

    kinds = {field.name: field.type for field in data.features.arrow_schema}
    there = ", ".join(
        f"{name} ({one.dtype})"
        if isinstance(one, datasets.Value)
        else f"{name} ({type(one).__name__})"
        for name, one in data.features.items()
    )
    rows.require_columns(source, columns, kinds, there)
    usual = {*rows.IMAGE_NAMES}
    of_kind = [name for name, one in data.features.items() if isinstance(one, datasets.Image)]
    by_name = [name for name, kind in kinds.items() if name.casefold() in usual and holds(kind)]
    image = columns.get("path") or rows.chosen(of_kind or by_name, rows.IMAGE_NAMES)
    if image is None or not holds(kinds[image]):
        raise SourceError(
            f"{source}: it is not clear which column holds the images that have labels: {there}"
        )
    classes = [name for name, one in data.features.items() if isinstance(one, datasets.ClassLabel)]
    plain = [
        name
        for name, kind in kinds.items()
        if name.casefold() in rows.LABEL_NAMES
        and any(is_kind(kind) for is_kind in (*texts(types), types.is_integer, types.is_boolean))
    ]
    label = columns.get("label") or rows.chosen(classes, rows.LABEL_NAMES)
    label = label or (rows.chosen(plain, rows.LABEL_NAMES) if not classes else None)
    if label is None:
        why = f"may be {' or '.join(classes)}" if classes else "is none of its columns"
        return Meant(image, None, None), [f"the label {why}: the images have none ({there})"]
    names = data.features[label].names if label in classes else None
    return Meant(image, label, names), []
