"""A file of a data set of TensorFlow Datasets -> references to the images in it."""

import functools
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ....features.errors import MissingExtra, SourceError, first_line, install_command
from ..image import ImageReference, Unreadable
from ..lists.columns import group_of
from . import rows, tfrecord
from .file import File, RowReference

_AT_ONCE: Final = 64  # records of an array_record file


class Keys(NamedTuple):
    """The features that are meant."""

    image: str
    label: str | None
    names: Sequence[str]
    """Of the classes."""
    group: str | None = None
    group_names: Sequence[str] = ()
    """Of the groups, if they are classes too."""


@dataclass(frozen=True, kw_only=True)
class RecordReference(RowReference):
    """An image in a TFRecord file."""

    start: int
    """Where its bytes begin; -1 if there are none."""

    def stored(self) -> bytes | None:
        """See `RowReference`."""
        if self.start < 0:
            return None
        with open(self.location, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


@dataclass(frozen=True, kw_only=True)
class ArrayRecordReference(RowReference):
    """An image in an array_record file, which is read by the library of that name."""

    key: str

    def stored(self) -> bytes | None:
        """See `RowReference`."""
        (record,) = _reader(self.file).read([self.row])
        try:
            spans = tfrecord.features(record, 0, len(record))[self.key].spans
        except tfrecord.Damaged as error:
            raise Unreadable(f"cannot be read: {first_line(error)}") from error
        return record[slice(*spans[0])] if len(spans) == 1 else None


class Shard(NamedTuple):
    """One of the files that a split is stored in."""

    path: str
    kind: str
    first: int
    """The number of its first row in the split."""
    records: int
    of: str
    """The data set, with its version."""

    def images(self, wanted: rows.Slice, keys: Keys) -> Iterator[ImageReference]:
        """The images in it that are in the slice, in order; the file is not read beyond labels.

        Raises
        ------
        SourceError
            If the file is not there, or not as the data set says.
        """
        if self.kind not in _READ:
            raise SourceError(
                f"{self.of}: is stored as {self.kind}; prepare it as {' or '.join(_READ)}"
            )
        file = File.at(self.path, self.of)
        start = max(wanted.start - self.first, 0)
        stop = min(wanted.stop - self.first, self.records)
        try:
            for row, data, (begin, end) in _READ[self.kind](file, start, stop, self.records):
                features = tfrecord.features(data, begin, end)
                yield self._image(file, row, data, features, wanted, keys)
        except (tfrecord.Damaged, OSError, ValueError, RuntimeError) as error:
            raise SourceError(
                f"{self.of}: its file {os.fsdecode(file.path)} is damaged: {first_line(error)}; "
                f"remove its folder, and the data set is prepared again"
            ) from error

    def _image(
        self,
        file: File,
        row: int,
        data: tfrecord.Bytes,
        features: Mapping[str, tfrecord.Value],
        wanted: rows.Slice,
        keys: Keys,
    ) -> ImageReference:
        spans = features[keys.image].spans if keys.image in features else []
        begin, end = spans[0] if len(spans) == 1 else (-1, -1)
        suffix = rows.suffix(data[begin : min(end, begin + 8)]) if begin >= 0 else ""
        path = f"{wanted.base}/{self.first + row:06}{suffix}".encode()
        about: dict[str, Any] = {
            "label": _label(features, keys),
            "split": wanted.split,
            "group": self._group(data, features, keys),
            "file": file,
            "row": row,
            "length": end - begin,
            "of": self.of,
        }
        if self.kind == "tfrecord":
            return RecordReference(path, file.path, start=begin, **about)
        return ArrayRecordReference(path, file.path, key=keys.image, **about)

    def _group(
        self, data: tfrecord.Bytes, features: Mapping[str, tfrecord.Value], keys: Keys
    ) -> str | None:
        said = features.get(keys.group) if keys.group else None
        if said is None or len(said.spans) + len(said.integers) != 1:
            return None
        value: bytes | int | str = data[slice(*said.spans[0])] if said.spans else said.integers[0]
        if keys.group_names and isinstance(value, int):
            value = keys.group_names[value] if 0 <= value < len(keys.group_names) else ""
        try:
            return group_of(value)
        except ValueError as error:
            raise SourceError(f"{self.of}: feature {keys.group!r}: {error}") from error


def _label(features: Mapping[str, tfrecord.Value], keys: Keys) -> str | None:
    integers = features[keys.label].integers if keys.label and keys.label in features else []
    if len(integers) != 1 or not 0 <= integers[0] < len(keys.names):
        return None  # -1 says that it is not known, as in many a test split
    return keys.names[integers[0]] or None


_Found = Iterator[tuple[int, tfrecord.Bytes, tuple[int, int]]]
"""Numbers of records, and where each lies in what."""


def _of_records(file: File, start: int, stop: int, count: int) -> _Found:
    if not file.size:  # nothing can be mapped
        raise tfrecord.Damaged("it is empty")
    # Of each image only the first page is touched.
    with (
        open(file.path, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        places = list(tfrecord.records(data))
        _require_count(len(places), count)
        for row in range(start, stop):
            yield row, data, places[row]


def _of_array_record(file: File, start: int, stop: int, count: int) -> _Found:
    reader = _reader(file)
    _require_count(reader.num_records(), count)
    for first in range(start, stop, _AT_ONCE):
        chunk = list(range(first, min(first + _AT_ONCE, stop)))
        for row, record in zip(chunk, reader.read(chunk), strict=True):
            yield row, record, (0, len(record))


def _require_count(found: int, count: int) -> None:
    if found != count:
        raise tfrecord.Damaged(f"it holds {found:,} records, and should hold {count:,}")


@functools.lru_cache(maxsize=64)
def _reader(file: File) -> Any:
    """The file, opened once a process; another if it was written anew."""
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise MissingExtra(
            f"this data set is stored as array_record, which cannot be imported "
            f"({first_line(error)}); install it with: {install_command('tfds')}"
        ) from error
    return array_record_module.ArrayRecordReader(os.fsdecode(file.path))


_READ: Final = {"tfrecord": _of_records, "array_record": _of_array_record}
"""By the name that the library has for the format."""
