"""A data set of Hugging Face by its name, or parquet files of one -> references to its images."""

import collections
import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ....features.errors import MissingExtra, SourceError, first_line, install_command
from .. import tree
from ..image import ImageReference
from ..listing import Listing
from . import rows
from .arrow import Meant, Run, images_of, table
from .columns import understood, with_splits
from .file import File

_SAVED: Final = ("state.json", "dataset_dict.json")
"""What is in a folder that `save_to_disk` made."""

_NUMBERED: Final = re.compile(r"-\d+-of-\d+$")
"""What follows the split in the name of a parquet file of several."""

_DESCRIBE: Final = (".md", ".json", ".yaml")
"""Ends of names of files that say what the others of a folder are."""

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
    given = columns or {}
    if what.parts:
        rows.require_no_splits(what.source, given)
    datasets = _library()
    called, splits, above = _loaded(datasets, what)
    sizes = {split: len(data) for split, data in splits.items()}
    wanted, notes = rows.slices(
        what,
        sizes,
        lambda said: [
            (one.splitname, one.from_, one.to)
            for one in datasets.ReadInstruction.from_spec(said).to_absolute(sizes)
        ],
    )
    alone = len(splits) == 1 and not what.parts
    parts: dict[str, tuple[list[tuple[Any, File]], Meant]] = {}
    for base in dict.fromkeys(one.base for one in wanted):
        data = splits[base]
        arrows = _arrows(what.source, data)
        meant, more = understood(what.source, datasets, data, given)
        meant, about = with_splits(what.source, data, meant, given, elsewhere=not alone)
        parts[base] = arrows, meant
        if meant.split:
            notes = []  # on what the data set calls its own
        notes += [note for note in [*more, *about] if note not in notes]
    images: list[ImageReference] = []
    labels: dict[str, list[ImageReference]] = {}
    for one in wanted:
        arrows, meant = parts[one.base]
        run = Run(one.base, 0, one.start, one.stop, one.split, None)
        found = list(images_of(arrows, run, meant, called, above))
        images += found
        if meant.label:
            labels.setdefault(meant.label, []).extend(found)
    return Listing(called, images, notes=notes, label_notes=_about_labels(labels))


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

    given = columns or {}
    files = sorted(map(os.path.abspath, files))
    origins = [File.at(file, name) for file in files]
    above = _above(files, os.path.abspath(name))
    schemas, counts = [], []
    for file in files:
        with _told(f"{file}: this parquet file cannot be read"):
            about = parquet.read_metadata(file)
            schemas.append(about.schema.to_arrow_schema())
            counts.append(about.num_rows)
    if not sum(counts):
        raise SourceError(f"{name}: no images: there are no rows")
    stems = [os.path.splitext(os.path.relpath(file, above))[0] for file in files]
    if len({*stems}) < len(stems):
        twice = next(file for file, stem in zip(files, stems, strict=True) if stems.count(stem) > 1)
        raise SourceError(f"{twice}: is given twice")
    there = {column for schema in schemas for column in schema.names}
    rows.require_columns(name, given, there, ", ".join(sorted(there)))
    folders = [tuple(_NUMBERED.sub("", stem).split(os.sep)) for stem in stems]
    sizes: dict[tree.Parts, int] = collections.Counter()
    for parts, count in zip(folders, counts, strict=True):
        sizes[parts] += count
    meanings, _ = tree.understand(sizes)
    elsewhere = any(meaning.split != tree.NO_SPLIT for meaning in meanings.values())
    images: dict[int, list[ImageReference]] = {}
    notes: list[str] = []
    labels: dict[str, list[ImageReference]] = {}
    in_column = False
    # Files that differ in their columns, such as those of test without labels, are no one data set.
    for group in _alike(schemas, counts):
        called = name if len(group) == len(files) else files[group[0]]
        with _told(f"{called}: these parquet files cannot be read together"):
            # Its cache has a copy of all rows, from which any can be read on its own: in a parquet
            # file they are compressed by the hundred or by the million. (`load_dataset` would tell
            # a server that it was called.)
            data = datasets.Dataset.from_parquet(
                [files[one] for one in group],
                cache_dir=_cache(datasets, [origins[one] for one in group]),
            )
        here = {
            role: column
            for role, column in given.items()
            if role == "path" or column in data.column_names
        }
        meant, more = understood(called, datasets, data, here)
        meant, about = with_splits(called, data, meant, here, elsewhere=elsewhere)
        in_column = in_column or meant.split is not None
        where = "" if called == name else f"{stems[group[0]]}.parquet: "
        notes += [f"{where}{note}" for note in [*more, *about]]
        arrows = _arrows(called, data)
        first = 0
        for one in group:
            last = first + counts[one]
            run = Run(stems[one], first, first, last, meanings[folders[one]].split, origins[one])
            of = os.fsdecode(origins[one].path)
            inside = [os.path.dirname(files[one])]
            images[one] = list(images_of(arrows, run, meant, of, [*inside, above]))
            first = last
            if meant.label:
                labels.setdefault(meant.label, []).extend(images[one])
    alone = [
        parts for parts in sizes if tree.understand({parts: 1})[0][parts].split != tree.NO_SPLIT
    ]
    if alone and not elsewhere and not in_column:
        notes.append(
            f"{'/'.join(alone[0])}.parquet looks like a split, and is not used as one, because "
            f"other files are in none"
        )
    every = [image for one in sorted(images) for image in images[one]]
    return Listing(os.path.abspath(name), every, notes=notes, label_notes=_about_labels(labels))


def _above(files: Sequence[str], name: str) -> str:
    """The folder that parquet files are called by, and that their rows may name images in."""
    above = name if os.path.isdir(name) else os.path.dirname(name)
    inside = os.path.join(above, "")
    if all(file.startswith(inside) for file in files):
        return above
    return os.path.commonpath([os.path.dirname(file) for file in files])


def _alike(schemas: Sequence[Any], counts: Sequence[int]) -> list[list[int]]:
    """Which of the files that have rows have the same columns."""
    groups: list[list[int]] = []
    for one, schema in enumerate(schemas):
        if not counts[one]:
            continue
        for group in groups:
            if schema.equals(schemas[group[0]], check_metadata=True):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _about_labels(images: Mapping[str, Sequence[ImageReference]]) -> list[str]:
    """Notes on labels, by the columns that they are from."""
    notes = [rows.about_unlabelled(several, label) for label, several in images.items()]
    every = (image.label for several in images.values() for image in several)
    return [*itertools.chain(*notes), *tree.about_labels(every)]


def _cache(datasets: Any, files: Iterable[File]) -> str:
    """A folder of the library's cache for files as they are now.

    The library itself looks at nothing but their time, which whoever packs data sets may set.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(repr(file).encode())
    cache = os.fspath(datasets.config.HF_DATASETS_CACHE)
    return os.path.join(cache, "headstart", digest.hexdigest())


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


def _loaded(datasets: Any, what: rows.Asked) -> tuple[str, dict[str, Any], list[str]]:
    """The name of a data set without the rows that were asked for, its splits, and its folders."""
    folder = os.path.abspath(os.path.expanduser(what.name))
    name, _, config = what.name.rpartition(":") if ":" in what.name else (what.name, "", "")
    own = [os.path.abspath(datasets.config.HF_DATASETS_CACHE)]
    with _told(f"{what.source}: the library datasets cannot load it"):
        if any(os.path.isfile(os.path.join(folder, saved)) for saved in _SAVED):
            data = datasets.load_from_disk(folder)
        elif os.path.isdir(folder):
            cache = _cache(datasets, _files(datasets, folder, what.source))
            data = datasets.load_dataset(folder, cache_dir=cache)
        else:
            data = datasets.load_dataset(name, config or None)
            import huggingface_hub.constants

            own.append(os.path.abspath(huggingface_hub.constants.HF_HUB_CACHE))
    if not isinstance(data, datasets.DatasetDict):
        data = {str(data.split or "data"): data}
    is_folder = os.path.isdir(folder)
    above = [folder, *own] if is_folder else own
    return f"hf:{folder if is_folder else what.name}", dict(data), above


def _files(datasets: Any, folder: str, source: str) -> Iterator[File]:
    """The files of a folder that the library makes a data set of."""
    told = datasets.load_dataset_builder(folder).config.data_files or {}
    files = {os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(_DESCRIBE)}
    files |= {os.fspath(file) for several in told.values() for file in several}
    for file in sorted(files):
        if os.path.isfile(file):
            yield File.at(file, source)


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
