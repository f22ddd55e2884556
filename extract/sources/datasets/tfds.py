"""A data set of TensorFlow Datasets, by its name -> references to its images."""

import contextlib
import functools
import mmap
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from ....features.errors import MissingExtra, SourceError, first_line, install_command, nearest
from ..image import ImageReference, Unreadable
from ..listing import Listing
from . import rows, tfrecord
from .rows import File, RowReference

_AT_ONCE: Final = 64  # records of an array_record file

_ABOUT: Final = "dataset_info.json"
"""The file by which a folder is a prepared data set."""


class _Keys(NamedTuple):
    """The features that are meant."""

    image: str
    label: str | None
    names: Sequence[str]
    """Of the classes."""


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


def listed(name: str, columns: Mapping[str, str] | None = None) -> Listing:
    """The images of a data set, in the order in which they are stored.

    Parameters
    ----------
    name : str
        ``tfds:NAME``, ``tfds:NAME/CONFIG:VERSION`` or ``tfds:FOLDER`` of a prepared one; then
        perhaps rows in brackets, as the library writes them, each perhaps with what they are to be:
        ``tfds:cats_vs_dogs[train=train[:40%],test=train[40%:]]``.
    columns : mapping, optional
        The features that are meant, as ``{"path": "image", "label": "species"}``.

    Raises
    ------
    MissingExtra
        If TensorFlow Datasets is not installed.
    SourceError
        If there is no such data set, or it has no images; if rows are not there, or meant twice.
    """
    what = rows.asked(name)
    builder = _prepared(what)
    info = builder.info
    wanted, notes = rows.slices(
        what,
        {split: int(about.num_examples) for split, about in info.splits.items()},
        lambda said: [
            (one.splitname, one.from_, one.to)
            for one in _library().core.ReadInstruction.from_spec(said).to_absolute(info.splits)
        ],
    )
    keys, more = _keys(what.source, info, columns or {})
    version = f"tfds:{info.full_name}"
    images = [image for one in wanted for image in _images(info, one, keys, version)]
    return Listing(_called(what, info), images, notes=[*notes, *more])


def _library() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise MissingExtra(
            f"tfds: sources need TensorFlow Datasets, which cannot be imported "
            f"({first_line(error)}); install it with: {install_command('tfds')}"
        ) from error
    return tensorflow_datasets


def _prepared(what: rows.Asked) -> Any:
    """The builder of a data set that is on this machine; it is fetched if it is not."""
    tfds = _library()
    folder = os.path.expanduser(what.name)
    try:
        if os.path.isfile(os.path.join(folder, _ABOUT)):
            return tfds.builder_from_directory(os.path.abspath(folder))
        builder = tfds.builder(what.name, **_where())
        if not builder.is_prepared():
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise SourceError(
            f"{what.source}: TensorFlow Datasets does not know it, and it is not prepared in the "
            f"library's folder (TFDS_DATA_DIR); {_similar(tfds, what.name)}"
        ) from error
    except Exception as error:  # each data set has code of its own
        raise SourceError(
            f"{what.source}: TensorFlow Datasets cannot prepare it: {_said(error)}"
        ) from error
    return builder


def _where() -> dict[str, str]:
    # The library looks at the variable when it is imported, and never again.
    folder = os.environ.get("TFDS_DATA_DIR")
    return {"data_dir": folder} if folder else {}


def _similar(tfds: Any, name: str) -> str:
    known = nearest(re.split("[/:]", name)[0], tfds.list_builders(with_community_datasets=False))
    try:
        there = str(tfds.builder(re.split("[/:]", name)[0], **_where()).info.full_name)
    except Exception:  # noqa: BLE001 - this is but a hint
        return f"the most similar name is {known}"
    return f"there is {there}"


def _said(error: BaseException) -> str:
    """What happened; where it happened comes before it, in a line that ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.endswith(":")), "")
    return first_line(told or error)


def _called(what: rows.Asked, info: Any) -> str:
    """The name of the data set without the rows that were asked for: theirs are the same in all."""
    folder = os.path.expanduser(what.name)
    if os.path.isfile(os.path.join(folder, _ABOUT)):
        return f"tfds:{os.path.abspath(folder)}"
    return f"tfds:{str(info.full_name).removesuffix(f'/{info.version}')}:{info.version}"


def _keys(source: str, info: Any, columns: Mapping[str, str]) -> tuple[_Keys, list[str]]:
    """The features that are image and label, by the data set's own word or by their kind."""
    kinds = _library().features
    is_dict = isinstance(info.features, kinds.FeaturesDict)
    features = dict(sorted(info.features.items())) if is_dict else {}
    there = ", ".join(f"{key} ({type(one).__name__})" for key, one in features.items()) or "none"
    rows.require_columns(source, columns, features, there)
    meant = info.supervised_keys if isinstance(info.supervised_keys, tuple) else ()
    images = [key for key, one in features.items() if type(one) is kinds.Image]
    labels = [key for key, one in features.items() if isinstance(one, kinds.ClassLabel)]
    image = columns.get("path") or rows.chosen(
        [key for key in images if key in meant] or images, rows.IMAGE_NAMES
    )
    if image is None or not isinstance(features[image], kinds.Image):
        raise SourceError(
            f"{source}: it is not clear which feature is the image that has a label: {there}"
        )
    depth = np.dtype(features[image].np_dtype).name
    if depth not in ("uint8", "uint16"):
        raise SourceError(
            f"{source}: its images (feature {image!r}) are of {depth}, which is not decoded; only "
            f"those of 8 or 16 bits are"
        )
    label = columns.get("label") or rows.chosen(
        [key for key in labels if key in meant] or labels, rows.LABEL_NAMES
    )
    if label is None:
        why = f"may be {' or '.join(labels)}" if labels else "is none of its features"
        return _Keys(image, None, ()), [f"the label {why}: the images have none ({there})"]
    if label not in labels:
        raise SourceError(f"{source}: the feature {label!r} is no ClassLabel; there are {there}")
    names = [unicodedata.normalize("NFC", one) for one in features[label].names]
    return _Keys(image, label, names), []


def _images(info: Any, one: rows.Slice, keys: _Keys, version: str) -> Iterator[ImageReference]:
    """The images of a slice, in order."""
    about = info.splits[one.base]
    first = 0
    for path, count in zip(about.filepaths, about.shard_lengths, strict=True):
        start, stop = max(one.start - first, 0), min(one.stop - first, int(count))
        if start < stop:
            yield from _in_file(info, one, keys, version, (path, first, start, stop, int(count)))
        first += int(count)


def _in_file(
    info: Any, one: rows.Slice, keys: _Keys, version: str, shard: tuple[Any, int, int, int, int]
) -> Iterator[ImageReference]:
    path, first, start, stop, count = shard
    kind = getattr(info.file_format, "value", info.file_format) or "tfrecord"
    file = File.at(path, version)
    try:
        if kind == "tfrecord":
            found = _of_records(file, start, stop, count)
        elif kind == "array_record":
            found = _of_array_record(file, start, stop, count)
        else:
            raise SourceError(
                f"{version}: is stored as {kind}; prepare it as tfrecord or array_record"
            )
        for row, data, (begin, end) in found:
            features = tfrecord.features(data, begin, end)
            spans = features[keys.image].spans if keys.image in features else []
            begin, end = spans[0] if len(spans) == 1 else (-1, -1)
            suffix = rows.suffix(data[begin : min(end, begin + 8)]) if begin >= 0 else ""
            name = f"{one.base}/{first + row:06}{suffix}".encode()
            common: dict[str, Any] = {
                "label": _label(features, keys),
                "split": one.split,
                "file": file,
                "row": row,
                "length": max(end - begin, 0),
                "of": version,
            }
            if kind == "tfrecord":
                yield RecordReference(name, file.path, start=begin, **common)
            else:
                yield ArrayRecordReference(name, file.path, key=keys.image, **common)
    except (tfrecord.Damaged, OSError, ValueError, RuntimeError) as error:
        raise SourceError(
            f"{version}: its file {os.fsdecode(file.path)} is damaged: {first_line(error)}; remove "
            f"its folder, and the data set is prepared again"
        ) from error


def _label(features: Mapping[str, tfrecord.Value], keys: _Keys) -> str | None:
    integers = features[keys.label].integers if keys.label and keys.label in features else []
    if len(integers) != 1 or not 0 <= integers[0] < len(keys.names):
        return None  # -1 says that it is not known, as in many a test split
    return keys.names[integers[0]]


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
