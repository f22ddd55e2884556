"""Directories of TIFF, which EXIF has too: which way up a picture is, and how it is decoded.

What is broken says nothing.
"""

import bisect
import dataclasses
import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final

UPRIGHT: Final = 1
_ORIENTATION: Final = 0x0112
_WITHIN: Final = 330  # directories within a directory
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q"}
_WIDTH, _HEIGHT, _COMPRESSION, _ROWS_PER_STRIP = 256, 257, 259, 278
_STRIPS, _STRIP_LENGTHS = 273, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_LENGTHS = 322, 323, 324, 325
_JPEGS: Final = (0, 6, 7)  # 0 is a compression that cannot be read here, whatever it is
_SCAN: Final = re.compile(rb"\xff\xda")
_MOST_ENTRIES: Final = 65_535  # a BigTIFF may say more
_PREFIX: Final = b"Exif\0\0"
_IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    tag: int
    kind: int
    count: int
    packed: bytes
    """As it stands in the file."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF file, or of EXIF, which is one."""

    start: int
    order: str
    """``"<"`` or ``">"``, as `struct` has it."""
    big: bool
    """Of a BigTIFF."""
    entries: Sequence[Entry]
    whole: bool
    """Whether the data has all the entries that the directory says."""

    @property
    def room(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    def packed(self, entries: Sequence[Entry]) -> bytes:
        """A directory of some of the entries, of the length of this one, with none to follow."""
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        table = count + b"".join(entry.packed for entry in entries)
        length = len(count) + sum(len(entry.packed) for entry in self.entries) + self.room
        return table.ljust(length, b"\0")

    def value(self, entry: Entry, data: bytes) -> bytes:
        """The value of an entry of bytes or integers, or what the data has of it."""
        field = entry.packed[-self.room :]
        length = entry.count * struct.calcsize(_INTEGERS.get(entry.kind, "B"))
        if length <= self.room:
            return field[:length]
        start = int.from_bytes(field, "little" if self.order == "<" else "big")
        return data[start : start + length]

    def integers(self, entry: Entry, data: bytes) -> Sequence[int]:
        """All the integers of an entry, or none if it has others or the data ends before them."""
        code, value = _INTEGERS.get(entry.kind, "B"), self.value(entry, data)
        if entry.kind not in _INTEGERS or len(value) != entry.count * struct.calcsize(code):
            return ()
        return struct.unpack(f"{self.order}{entry.count}{code}", value)

    def integer(self, entry: Entry) -> int:
        """The first of the integers that an entry holds in itself, or 0."""
        code = _INTEGERS.get(entry.kind)
        if code is None or not 1 <= entry.count <= self.room // struct.calcsize(code):
            return 0
        return int(struct.unpack_from(self.order + code, entry.packed[-self.room :])[0])

    def by_tag(self) -> dict[int, Entry]:
        """As in libtiff, the first of several entries of one tag counts."""
        return {entry.tag: entry for entry in reversed(self.entries)}

    def piece(self) -> tuple[int, int]:
        """Width and height of what libtiff decodes at once; 0 is one that makes no sense."""
        numbers = {tag: self.integer(entry) for tag, entry in self.by_tag().items()}
        if _TILE_WIDTH in numbers or _TILE_HEIGHT in numbers:
            return numbers.get(_TILE_WIDTH, 0), numbers.get(_TILE_HEIGHT, 0)
        height = numbers.get(_HEIGHT, 0)
        return numbers.get(_WIDTH, 0), min(numbers.get(_ROWS_PER_STRIP) or height, height)

    def scans(self, data: bytes) -> int:
        """The most scans of a JPEG that is a tile or strip, or 1; what cannot be told counts all.

        Compressed data never has FF followed by DA, and what else has it is rare and short.
        """
        entries = self.by_tag()
        compression = entries.get(_COMPRESSION)
        if compression is None or self.integer(compression) not in _JPEGS:
            return 1
        starts = [match.start() for match in _SCAN.finditer(data)]
        most = 1
        for at, length in ((_STRIPS, _STRIP_LENGTHS), (_TILES, _TILE_LENGTHS)):
            if at not in entries:
                continue
            offsets = self.integers(entries[at], data) or (0,)
            lengths = self.integers(entries[length], data) if length in entries else ()
            pieces = itertools.zip_longest(offsets, lengths[: len(offsets)], fillvalue=0)
            for offset, size in pieces:
                # libtiff goes on to the end of the file where a length makes no sense.
                end = offset + size if size > 0 else len(data)
                count = bisect.bisect_left(starts, end) - bisect.bisect_left(starts, offset)
                most = max(most, count)
        return most


def first_directory(data: bytes) -> Directory | None:
    """Find it, if there is one; an entry that the data has no room for is none."""
    return next(_directories(data), None)


def directories(data: bytes, most: int) -> list[Directory]:
    """The first directories, one after the other, each before those within it."""
    found: list[Directory] = []
    for directory in _directories(data):
        found.append(directory)
        for entry in directory.entries:
            if entry.tag == _WITHIN:
                value = directory.integers(entry, data)[: most - len(found)]
                found += [one for start in value if (one := _directory(data, start))]
        if len(found) >= most:
            break
    return found[:most]


def _directories(data: bytes) -> Iterator[Directory]:
    """Those of a file in turn; it is for who asks to stop, as they may go round in a circle."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        while directory := _directory(data, start):
            yield directory
            end = start + len(directory.packed(()))
            (start,) = struct.unpack(
                order + ("Q" if big else "I"), data[end - directory.room : end]
            )
            if not (start and directory.whole):
                return
    except struct.error:
        return


def _directory(data: bytes, start: int) -> Directory | None:
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        first, form = (start + 8, "HHQ8s") if big else (start + 2, "HHI4s")
        length = struct.calcsize(order + form)
        there = (len(data) - first) // length
        whole, count = count <= there, min(count, there, _MOST_ENTRIES)
        entries = []
        for at in range(first, first + count * length, length):
            tag, kind, number, _ = struct.unpack_from(order + form, data, at)
            entries.append(Entry(tag, kind, number, data[at : at + length]))
    except (struct.error, OverflowError):
        return None
    return Directory(start, order, big, entries, whole)


def orientation(block: bytes) -> int:
    """1 to 8 as EXIF counts, or 0 if it is not said."""
    directory = first_directory(block.removeprefix(_PREFIX).removeprefix(_PREFIX))
    for entry in directory.entries if directory else ():
        if entry.tag == _ORIENTATION:
            value = directory.integer(entry) if directory else 0
            return value if 1 <= value <= 8 else 0
    return 0


def of_xmp(packet: bytes) -> int:
    """The same, of an XMP packet."""
    found = _IN_XMP.search(packet)
    return int(found[1]) if found else 0
