"""Rows of Arrow files, as the library datasets caches them -> references to the images in them."""

import functools
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import tree
from ..image import ImageReference
from .rows import File, RowReference


class Meant(NamedTuple):
    """The columns that are meant."""

    image: str
    label: str | None
    names: Sequence[str] | None
    """Of the classes, if the label is the number of one."""


class Run(NamedTuple):
    """Rows of a split that follow each other."""

    name: str
    """What their paths begin with."""
    zero: int
    """The row that is number 0 in their paths."""
    start: int
    stop: int
    split: str
    origin: File | None
    """The file that they come from, if it is not the library's own."""


@dataclass(frozen=True, kw_only=True)
class ArrowReference(RowReference):
    """An image in a row of an Arrow file, which may have been made of the file at `location`."""

    arrow: File
    arrow_row: int
    column: str

    def stored(self) -> bytes | None:
        """See `RowReference`."""
        self.arrow.require_unchanged()
        cell = table(self.arrow).column(self.column)[self.arrow_row].as_py()
        return cell.get("bytes") if isinstance(cell, dict) else cell


@functools.lru_cache(maxsize=1024)
def table(file: File) -> Any:
    """A file of the library's cache, mapped into memory once a process."""
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.memory_map(os.fsdecode(file.path))).read_all()


def holds(kind: Any) -> bool:
    """Whether a column of this type may hold images: their bytes, or where they are."""
    from pyarrow import types

    if types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return "bytes" in names or "path" in names
    return any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, *texts(types)))


def texts(types: Any) -> Sequence[Any]:
    """What tells whether a type is text."""
    return types.is_string, types.is_large_string


def images_of(
    arrows: Sequence[tuple[Any, File]], run: Run, meant: Meant, of: str, above: str
) -> Iterator[ImageReference]:
    """The images of rows that follow each other."""
    first = 0
    for whole, arrow in arrows:
        start, stop = max(run.start - first, 0), min(run.stop - first, whole.num_rows)
        if start < stop:
            cells = _cells(whole.slice(start, stop - start), meant)
            for row, (length, path, label) in enumerate(cells, start):
                number = first + row - run.zero
                ending = os.path.splitext(path)[1].lower() if tree.is_image_name(path) else ""
                name = os.fsencode(f"{run.name}/{number:06}{ending}")
                if length is None and path and "\0" not in path:
                    location = os.fsencode(os.path.join(above, path))
                    yield ImageReference(name, location, label, run.split)
                    continue
                yield ArrowReference(
                    name,
                    (run.origin or arrow).path,
                    label,
                    run.split,
                    file=run.origin or arrow,
                    row=number if run.origin else row,
                    length=length or 0,
                    of=of,
                    arrow=arrow,
                    arrow_row=row,
                    column=meant.image,
                )
        first += whole.num_rows


def _cells(part: Any, meant: Meant) -> Iterator[tuple[int | None, str, str | None]]:
    """Length, path and label of each image; the bytes are not looked at."""
    from pyarrow import compute, types

    images = part.column(meant.image)
    data, paths = images, None
    if types.is_struct(images.type):
        names = [images.type.field(number).name for number in range(images.type.num_fields)]
        data = compute.struct_field(images, "bytes") if "bytes" in names else None
        paths = compute.struct_field(images, "path") if "path" in names else None
    elif not (types.is_binary(images.type) or types.is_large_binary(images.type)):
        data, paths = None, images
    none = [None] * part.num_rows
    labels = none if meant.label is None else part.column(meant.label).to_pylist()
    lengths = none if data is None else compute.binary_length(data).to_pylist()
    for length, path, label in zip(
        lengths, none if paths is None else paths.to_pylist(), labels, strict=True
    ):
        yield length, path or "", _label(label, meant.names)


def _label(value: Any, names: Sequence[str] | None) -> str | None:
    if value is None:
        return None
    if names is not None:  # -1 says that it is not known, as in many a test split
        value = names[value] if 0 <= value < len(names) else ""
    return unicodedata.normalize("NFC", str(value)) or None
