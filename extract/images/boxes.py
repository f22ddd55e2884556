"""HEIF and AVIF: files of boxes in boxes (ISO 14496-12 and 23008-12), before a decoder sees them.

What is looked for: whether the file is whole, what its pictures really measure (a decoder takes
that from the coded picture and not from the container), and what stands beside them.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from . import coded, formats, limits
from .bare import Bare

_METADATA: Final = (b"Exif", b"mime", b"uri ")
_NONE: Final = b"skip"
_PADDING: Final = (b"free", b"skip", b"uuid")
_MOST_ITEMS: Final = 1_000  # as in libheif
_MOST_PIECES: Final = 65_536
_MOST_CODED: Final = 1_000_000_000
"""Pixels of all pictures of a file together: ten seconds of libde265."""

TRUNCATED: Final = "truncated: the file ends before the image does"

Range = tuple[int, int]


class Box(NamedTuple):
    """One box: what it is, and where its content lies."""

    kind: bytes
    start: int
    end: int
    whole: bool


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes of a range, one after the other; the last may reach over its end."""
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= end:
            head, size = 16, int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:
            size = end - at
        if size < head:
            return
        yield Box(kind, at + head, min(at + size, end), at + size <= end)
        at += size


def bare(data: bytes) -> Bare:
    """Name the metadata so that no decoder looks into it; what is cut is `Undecodable`.

    How to turn the picture is left to who decodes it, since other boxes say that.
    """
    if formats.later(data) not in formats.FORMATS:
        return Bare(data)
    hidden = bytearray()
    sizes: list[int] = []
    try:
        for box in boxes(data, 0, len(data)):
            if not box.whole and box.kind not in _PADDING:
                raise limits.Undecodable(TRUNCATED)
            if box.kind == b"meta":
                for place in _metadata(data, box):
                    hidden = hidden or bytearray(data)
                    hidden[place : place + 4] = _NONE
                sizes += _of_items(data, box)
            elif box.kind == b"moov":
                sizes += _of_film(data, box)
    except (struct.error, IndexError):
        raise limits.Undecodable("damaged: its boxes make no sense") from None
    most = max(sizes, default=0)
    if most > limits.MAX_PIXELS:
        raise limits.Undecodable(limits.TOO_MANY_PIXELS)
    if sum(sizes) > _MOST_CODED:
        raise limits.Undecodable(
            f"pictures of {sum(sizes) // 1_000_000:,} megapixels in one file take too long to "
            f"decode; save one of them"
        )
    return Bare(bytes(hidden) or data, beside=most * limits.CODED_BYTES)


def _inside(data: bytes, box: Box, kind: bytes) -> Iterator[Box]:
    return (one for one in boxes(data, box.start, box.end) if one.kind == kind)


def _full(box: Box) -> Box:
    """A box without the version and flags that some begin with."""
    return box._replace(start=min(box.start + 4, box.end))


def _metadata(data: bytes, meta: Box) -> Iterator[int]:
    """Where the names of items stand that are EXIF, XMP and the like."""
    for table in _inside(data, _full(meta), b"iinf"):
        start = table.start + (6 if data[table.start] == 0 else 8)
        for item in boxes(data, start, table.end):
            place = item.start + (10 if data[item.start] == 3 else 8)
            if item.kind == b"infe" and data[place : place + 4] in _METADATA:
                yield place


def _of_items(data: bytes, meta: Box) -> Iterator[int]:
    """Pixels of every picture of a file of still pictures."""
    within, view = _full(meta), memoryview(data)
    kept = next(_inside(data, within, b"idat"), None)
    said = 0
    for table in _inside(data, within, b"iprp"):
        for properties in _inside(data, table, b"ipco"):
            for box in _inside(data, properties, b"hvcC"):
                said = max(said, coded.hevc_of_configuration(data[box.start : box.end]))
    for table in _inside(data, within, b"iloc"):
        for ranges in _extents(data, table, kept):
            if any(end > len(data) for _, end in ranges):
                raise limits.Undecodable(TRUNCATED)
            picture = (
                view[slice(*ranges[0])]
                if len(ranges) == 1
                else b"".join(view[start:end] for start, end in ranges)
            )
            yield max(coded.av1(picture), coded.hevc(picture), said)


def _extents(data: bytes, table: Box, kept: Box | None) -> Iterator[list[Range]]:
    """Where each item of a file lies, as ``iloc`` has it."""
    at = table.start
    version = data[at]
    sizes = [data[at + 4] >> 4, data[at + 4] & 15, data[at + 5] >> 4, data[at + 5] & 15]
    offset_size, length_size, base_size, index_size = sizes
    wide = version == 2
    count = int.from_bytes(data[at + 6 : at + (10 if wide else 8)], "big")
    at += 10 if wide else 8
    left = _MOST_PIECES
    if count > _MOST_ITEMS:
        raise limits.Undecodable(
            f"more than {_MOST_ITEMS:,} pictures in one file; save one of them"
        )
    for _ in range(count):
        if at >= table.end:
            return
        at += 4 if wide else 2
        method = 0
        if version:
            method = data[at + 1] & 15
            at += 2
        at += 2  # another file
        base = int.from_bytes(data[at : at + base_size], "big")
        at += base_size
        pieces = int.from_bytes(data[at : at + 2], "big")
        at += 2
        left -= pieces
        if left < 0:
            raise limits.Undecodable("damaged: its pictures are in too many pieces")
        found = []
        for _ in range(pieces):
            at += index_size if version else 0
            start = base + int.from_bytes(data[at : at + offset_size], "big")
            at += offset_size
            length = int.from_bytes(data[at : at + length_size], "big")
            at += length_size
            end = len(data)
            if method == 1 and kept:
                start, end = start + kept.start, kept.end
            if method < 2:
                found.append((start, start + length if length else end))
        yield found


def _of_film(data: bytes, film: Box) -> Iterator[int]:
    """Pixels of the first picture of every track."""
    for track in _inside(data, film, b"trak"):
        table: list[Box] = [track]
        for kind in (b"mdia", b"minf", b"stbl"):
            table = [one for box in table for one in _inside(data, box, kind)]
        for box in table:
            yield _of_samples(data, box)


def _of_samples(data: bytes, table: Box) -> int:
    start, most = 0, 0
    for box in boxes(data, table.start, table.end):
        if box.kind in (b"stco", b"co64") and box.start + 8 < box.end:
            wide = 8 if box.kind == b"co64" else 4
            start = int.from_bytes(data[box.start + 8 : box.start + 8 + wide], "big")
        elif box.kind == b"stsz" and box.start + 12 <= box.end:
            each, count = struct.unpack_from(">II", data, box.start + 4)
            if count:
                most = each or int.from_bytes(data[box.start + 12 : box.start + 16], "big")
    if not start:
        return 0
    if start + most > len(data):
        raise limits.Undecodable(TRUNCATED)
    picture = memoryview(data)[start : start + most]
    return max(coded.av1(picture), coded.hevc(picture))
