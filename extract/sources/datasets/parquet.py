"""Parquet files with a column of images -> references to those, row by row."""

import collections
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ....features.errors import SourceError
from .. import tree
from ..image import ImageReference
from ..listing import Listing
from . import rows
from .arrow import Run, images_of
from .columns import understood, with_splits
from .file import File
from .library import about_labels, cached, library, tables_of, told

_NUMBERED: Final = re.compile(r"-\d+-of-\d+$")
"""What follows the split in the name of a parquet file of several."""


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
        See `huggingface.listed`.

    Raises
    ------
    MissingExtra, SourceError
        See `huggingface.listed`.
    """
    datasets = library()
    from pyarrow import parquet

    given = columns or {}
    files = sorted(map(os.path.abspath, files))
    origins = [File.at(file, name) for file in files]
    above = _above(files, os.path.abspath(name))
    schemas, counts = [], []
    for file in files:
        with told(f"{file}: this parquet file cannot be read"):
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
    in_column, grouped = False, None
    # Files that differ in their columns, such as those of test without labels, are no one data set.
    for group in _alike(schemas, counts):
        called = name if len(group) == len(files) else files[group[0]]
        with told(f"{called}: these parquet files cannot be read together"):
            # Its cache has a copy of all rows, from which any can be read on its own: in a parquet
            # file they are compressed by the hundred or by the million. (`load_dataset` would tell
            # a server that it was called.)
            data = datasets.Dataset.from_parquet(
                [files[one] for one in group],
                cache_dir=cached(datasets, [origins[one] for one in group]),
            )
        here = {
            role: column
            for role, column in given.items()
            if role == "path" or column in data.column_names
        }
        meant, more = understood(called, datasets, data, here)
        meant, about = with_splits(called, data, meant, here, elsewhere=elsewhere)
        in_column, grouped = in_column or meant.split is not None, grouped or meant.group
        where = "" if called == name else f"{stems[group[0]]}.parquet: "
        notes += [f"{where}{note}" for note in [*more, *about]]
        arrows = tables_of(called, data)
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
    return Listing(
        os.path.abspath(name), every, notes=notes, label_notes=about_labels(labels, every, grouped)
    )


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
