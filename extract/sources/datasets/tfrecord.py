"""A file of TensorFlow examples -> where in it images lie, without TensorFlow.

Importing TensorFlow takes six seconds and half a gigabyte in every process that reads, and an
extraction by OpenVINO needs none. What is read here are two formats that cannot change any more:
records as https://www.tensorflow.org/tutorials/load_data/tfrecord describes them, and the message
tf.train.Example in the wire format of https://protobuf.dev/programming-guides/encoding.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<QI")  # length and its checksum
_TAIL: Final = 4  # checksum of the record

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_INTEGERS: Final = 3  # in the message Feature; 1 is a list of bytes

Bytes = bytes | mmap.mmap


class Damaged(Exception):
    """What is read is no such format."""


class Value(NamedTuple):
    """A feature of an example."""

    spans: list[tuple[int, int]]
    """Where each of its strings of bytes begins and ends."""
    integers: list[int]


class _Field(NamedTuple):
    number: int
    start: int
    """The value itself, if it is a number."""
    stop: int
    """-1 if it is a number."""


def records(data: Bytes) -> Iterator[tuple[int, int]]:
    """Where each record of a TFRecord file begins and ends.

    Raises
    ------
    Damaged
        If the last one does not end where the file does.
    """
    at, size = 0, len(data)
    while at < size:
        if at + _HEAD.size > size:
            raise Damaged(f"ends within the head of a record, at byte {at:,}")
        length, _ = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        at = start + length + _TAIL
        if at > size:
            raise Damaged(f"a record of {length:,} bytes begins at byte {start:,} of {size:,}")
        yield start, start + length


def features(data: Bytes, start: int, stop: int) -> dict[str, Value]:
    """The features of the tf.train.Example between two places, by their names.

    Raises
    ------
    Damaged
        If there is none.
    """
    found: dict[str, Value] = {}
    try:
        for example in _fields(data, start, stop, number=1):
            for entry in _fields(data, example.start, example.stop, number=1):
                key, value = "", Value([], [])
                for field in _fields(data, entry.start, entry.stop):
                    if field.number == 1:
                        key = data[field.start : field.stop].decode()
                    elif field.number == 2:
                        value = _value(data, field)
                found[key] = value
    except (IndexError, UnicodeDecodeError) as error:
        raise Damaged("a record is no tf.train.Example") from error
    return found


def _value(data: Bytes, feature: _Field) -> Value:
    value = Value([], [])
    for kind in _fields(data, feature.start, feature.stop):
        for one in _fields(data, kind.start, kind.stop, number=1):
            if kind.number == 1:
                value.spans.append((one.start, one.stop))
            elif kind.number == _INTEGERS and one.stop < 0:
                value.integers.append(_signed(one.start))
            elif kind.number == _INTEGERS:
                at = one.start
                while at < one.stop:
                    integer, at = _varint(data, at)
                    value.integers.append(_signed(integer))
    return value


def _fields(data: Bytes, at: int, stop: int, number: int | None = None) -> Iterator[_Field]:
    """The fields of the message between two places; of one number if it is given."""
    while at < stop:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            field = _Field(tag >> 3, value, -1)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            field = _Field(tag >> 3, at, at + length)
            at += length
        elif kind in _FIXED:
            field = _Field(tag >> 3, at, at + _FIXED[kind])
            at += _FIXED[kind]
        else:
            raise Damaged("a record is no tf.train.Example")
        if at > stop:
            raise Damaged("a record is no tf.train.Example")
        if number is None or field.number == number:
            yield field


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Damaged("a record is no tf.train.Example")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
