"""Rows of Arrow files, as the library datasets caches them -> references to the images in them."""

import functools
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ....features.records import FileStat
from .. import tree
from ..image import ImageReference, Unreadable
from .file import File, RowReference

_UNKNOWN: Final = -1
"""Number of no class, as in many a test split."""

_MOST_SHOWN: Final = 200  # characters of a path


class Meant(NamedTuple):
    """The columns that are meant."""

    image: str
    label: str | None
    names: Sequence[str] | None
    """Of the classes, if the label is the number of one."""
    split: str | None = None
    splits: Mapping[Any, str] = MappingProxyType({})
    """What the values in the column of splits mean."""
    group: str | None = None
    groups: Mapping[Any, str | None] = MappingProxyType({})
    """What the values in the column of groups mean."""


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


@dataclass(frozen=True, kw_only=True)
class RefusedReference(ImageReference):
    """An image that is somewhere where no data set should lead."""

    reason: str

    def exists(self) -> bool:
        """Whether its row is there."""
        return True

    def stat(self) -> FileStat:
        """A stamp of its own, so that whatever was read before counts no more."""
        digest = hashlib.blake2b(self.reason.encode("utf-8", "replace"), digest_size=8).digest()
        return FileStat(self.path, 0, 0, int.from_bytes(digest, "little") or 1)

    def read(self) -> tuple[bytes, FileStat]:
        """Raise what is wrong."""
        raise Unreadable(self.reason)


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
    arrows: Sequence[tuple[Any, File]], run: Run, meant: Meant, of: str, above: Sequence[str]
) -> Iterator[ImageReference]:
    """The images of rows that follow each other.

    A row may name a file in one of the folders `above`, relative to the first if it is no whole
    path, and none anywhere else: who made the data set may be a stranger.
    """
    first = 0
    for whole, arrow in arrows:
        start, stop = max(run.start - first, 0), min(run.stop - first, whole.num_rows)
        if start < stop:
            cells = _cells(whole.slice(start, stop - start), meant)
            for row, (length, path, label, own, group) in enumerate(cells, start):
                split = run.split if own is None else own
                number = first + row - run.zero
                ending = os.path.splitext(path)[1].lower() if tree.is_image_name(path) else ""
                name = os.fsencode(f"{run.name}/{number:06}{ending}")
                if length is None and path and "\0" not in path:
                    yield _named(name, path, (label, split, group), above)
                    continue
                yield ArrowReference(
                    name,
                    (run.origin or arrow).path,
                    label,
                    split,
                    group,
                    file=run.origin or arrow,
                    row=number if run.origin else row,
                    length=length or 0,
                    of=of,
                    arrow=arrow,
                    arrow_row=row,
                    column=meant.image,
                )
        first += whole.num_rows


def _named(
    name: bytes, path: str, said: tuple[str | None, str, str | None], above: Sequence[str]
) -> ImageReference:
    """An image in a file of its own."""
    whole = os.path.normpath(os.path.join(above[0], path)) if above else path
    if "://" in path:
        reason = f"its row names {path[:_MOST_SHOWN]}, which is not fetched; only files are read"
    elif not any(_is_in(whole, folder) for folder in above):
        reason = (
            f"its row names the file {path[:_MOST_SHOWN]}, which is outside the folder of its data "
            f"set and is not read; put it there, and its path relative to that in the row"
        )
    else:
        return ImageReference(name, os.fsencode(whole), *said)
    return RefusedReference(name, name, *said, reason=reason)


def _is_in(path: str, folder: str) -> bool:
    """Whether a path leads below a folder, however that is spelt."""
    if path.startswith(os.path.join(os.path.normpath(folder), "")):
        return True
    above = os.path.join(_real(folder), "")
    return path.startswith(above) or os.path.realpath(path).startswith(above)


_real = functools.lru_cache(maxsize=64)(os.path.realpath)


_Cells = tuple[int | None, str, str | None, str | None, str | None]


def _cells(part: Any, meant: Meant) -> Iterator[_Cells]:
    """Length, path, label, split and group of each image; the bytes are not looked at."""
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
    empty = data is None or types.is_null(data.type)
    lengths = none if empty else compute.binary_length(data).to_pylist()
    splits = none if meant.split is None else part.column(meant.split).to_pylist()
    groups = none if meant.group is None else part.column(meant.group).to_pylist()
    named = none if paths is None else paths.to_pylist()
    for length, path, label, split, group in zip(
        lengths, named, labels, splits, groups, strict=True
    ):
        own = None if meant.split is None else meant.splits[split]
        # No number is equal to itself that is none (NaN).
        yield length, path or "", _label(label, meant.names), own, meant.groups.get(group)


def _label(value: Any, names: Sequence[str] | None) -> str | None:
    if value is None:
        return None
    if names is not None:
        value = names[value] if 0 <= value < len(names) else ""
    elif isinstance(value, int) and value == _UNKNOWN:
        return None
    return unicodedata.normalize("NFC", str(value)).strip() or None
