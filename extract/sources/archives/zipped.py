"""A zip file -> its members, by its own directory; a member -> its bytes, checked.

APPNOTE.TXT of PKWARE (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) is the format.
`zipfile` keeps 0.9 kB of each member and reads through one file for all threads.
"""

import bisect
import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..image import Unreadable
from .members import FILE, FOLDER, LINK, Direct, Entry, Reader, require_sane
from .packers import damage, needed

MAGIC: Final = (b"PK\3\4", b"PK\5\6")

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")

_LONGEST_COMMENT: Final = (1 << 16) - 1
_ENCRYPTED: Final = 0x41  # of the general purpose flags: by password, or by "strong" encryption
_UTF8: Final = 0x800
_DOS: Final = (0, 10, 11, 14)  # systems of makers whose paths have backslashes: FAT, NTFS, VFAT
_UNIX: Final = (3, 19)  # and of those that say what kind of file it is, 19 being macOS

_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_OTHER_METHODS: Final = {1: "shrunk", 6: "imploded", 9: "Deflate64", 93: "Zstandard", 95: "XZ"}
_LZMA_MEMORY: Final = 1 << 28

_LONGEST_NAME: Final = 1 << 16
_USUAL_EXTRA: Final = 64
"""Bytes between the name and the data that are read with them; zip and macOS write 28 and 32."""


class Member(NamedTuple):
    """Where a member lies, and how."""

    offset: int
    """Of its own header in the file."""
    packed: int
    size: int
    crc: int
    method: int
    name: bytes
    """As the archive has it; its own header must agree."""
    wrong: str = ""
    """Why it cannot be read."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """What changes when the member does."""
        return self[:5]

    def read(self, archive: Reader, most: int | None = None) -> bytes:
        """Its bytes, checked by their CRC; or no more than the first `most`, unchecked."""
        if self.wrong:
            raise Unreadable(self.wrong)
        if most is None:
            require_sane(self.size, self.packed)
        wanted = self.packed if most is None else min(self.packed, most + 1024)
        before = _LOCAL.size + len(self.name)
        block = archive.at(self.offset, before + _USUAL_EXTRA + wanted)  # one request, if it is far
        if len(block) < before or block[:4] != MAGIC[0]:
            raise Unreadable("damaged in the archive: there is no member where it should begin")
        *_, named, extra = _LOCAL.unpack_from(block)
        if block[_LOCAL.size : _LOCAL.size + named] != self.name:
            raise Unreadable("damaged in the archive: its header has another name")
        start = before + extra
        packed = block[start : start + wanted]
        if len(packed) < wanted:
            packed = archive.at(self.offset + start, wanted)
        if most is not None:
            return _unpacked(packed, self.method, most)[:most]
        if len(packed) < self.packed:
            raise Unreadable("the archive ends in the middle of it")
        data = _unpacked(packed, self.method, self.size + 1)
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise Unreadable("damaged in the archive: its CRC is another")
        return data


def _unpacked(packed: bytes, method: int, most: int) -> bytes:
    try:
        if method == _STORED:
            return packed
        if method == _DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
        if method == _BZIP2:
            return bytes(needed("bz2").BZ2Decompressor().decompress(packed, most))
        # Version and length stand before the properties; a file of .lzma has the length after them.
        alone = packed[4:9] + b"\xff" * 8 + packed[9:]
        lzma = needed("lzma")
        unpacking = lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_MEMORY)
        return bytes(unpacking.decompress(alone, most))
    except damage() as error:
        raise Unreadable(f"damaged in the archive: {error}") from error


def entries(archive: Direct) -> Iterator[Entry]:
    """Everything that the directory at the end of a zip file names, in its order.

    Raises
    ------
    Unreadable
        If there is no such directory, or it is damaged.
    """
    start, length, shift = _directory(archive)
    offsets = (sizes[2] + shift for _, _, _, sizes in _central(archive, start, length))
    # One member ends before the next begins. Where they overlap, a few kilobytes can be any number
    # of members: https://www.bamsoftware.com/hacks/zipbomb/
    begins = array("Q", sorted(array("Q", offsets)))
    for fields, name, extra, (size, packed, offset) in _central(archive, start, length):
        made_by, flags, method, crc, attributes = fields
        offset += shift
        after = bisect.bisect_right(begins, offset)
        end = begins[after] if after < len(begins) else start
        path = _path(name, extra, flags, made_by >> 8)
        kind = _kind(path, made_by >> 8, attributes)
        yield Entry(path, kind, _member(name, offset, packed, size, crc, method, flags, end))


def _member(
    name: bytes, offset: int, packed: int, size: int, crc: int, method: int, flags: int, end: int
) -> Member:
    wrong = ""
    if flags & _ENCRYPTED:
        wrong = "is encrypted; unpack the archive with its password"
    elif method not in (_STORED, _DEFLATED, _BZIP2, _LZMA):
        called = _OTHER_METHODS.get(method, "unknown")
        wrong = f"is packed by method {method} ({called}), which is not read; unpack the archive"
    elif offset + _LOCAL.size + len(name) + packed > end:
        wrong = "overlaps another member of the archive, or its end, as in a zip bomb"
    elif method == _STORED and packed != size:
        wrong = "damaged in the archive: it has two sizes"
    return Member(offset, packed, size, crc, method, name, wrong)


def _directory(archive: Direct) -> tuple[int, int, int]:
    """Where the directory begins, its length, and by how much all offsets are too small."""
    total = archive.length()
    tail_at = max(0, total - _LONGEST_COMMENT - _END.size)
    tail = archive.at(tail_at, total - tail_at)
    place = _last_end(tail)
    if place is None:
        if archive.at(0, 4) in MAGIC:
            raise Unreadable("the archive was cut short: its end is missing; copy it again")
        raise Unreadable("not a zip file, or cut short: there is no end of one in it")
    _, disk, first_disk, _, number, length, offset, _ = _END.unpack_from(tail, place)
    end = tail_at + place
    locator = end - _LOCATOR.size
    if locator >= 0 and (number, length, offset) != (0, 0, 0):
        signature, _, at, _ = _LOCATOR.unpack(archive.at(locator, _LOCATOR.size))
        if signature == b"PK\6\7":
            # Before it, whatever has been put before the archive; else where it says.
            for start in (locator - _END64.size, at):
                record = archive.at(min(max(start, 0), total), _END64.size)
                if record[:4] == b"PK\6\6" and len(record) == _END64.size:
                    *_, disk, first_disk, _, _, length, offset = _END64.unpack(record)
                    end = start
                    break
            else:
                raise Unreadable("the archive is damaged: the end of its directory is not there")
    if disk or first_disk:
        raise Unreadable("one part of an archive in several; join them (zip -s 0) or unpack it")
    start = end - length
    if start < 0 or start < offset:
        raise Unreadable("the archive is damaged, or cut short: its directory is longer than it is")
    return start, length, start - offset


def _last_end(tail: bytes) -> int | None:
    """Where the record of the end lies; the comment after it may have the looks of one in it."""
    first = place = tail.rfind(b"PK\5\6")
    while place >= 0:
        if len(tail) - place >= _END.size:
            comment = _END.unpack_from(tail, place)[-1]
            if place + _END.size + comment == len(tail):
                return place
        place = tail.rfind(b"PK\5\6", 0, place)
    return first if first >= 0 and len(tail) - first >= _END.size else None


_Central = tuple[tuple[int, int, int, int, int], bytes, bytes, tuple[int, int, int]]


def _central(archive: Direct, start: int, length: int) -> Iterator[_Central]:
    """Headers of the directory, with name, extra field and sizes; a megabyte is read at a time."""
    held, place, read = b"", 0, 0
    while True:
        if len(held) - place < _CENTRAL.size + 3 * _LONGEST_NAME and read < length:
            more = archive.at(start + read, min(1 << 20, length - read))
            if not more:
                raise Unreadable("the archive is damaged: its directory ends too early")
            held, place, read = held[place:] + more, 0, read + len(more)
        if place == len(held):
            return
        if len(held) - place < _CENTRAL.size or held[place : place + 4] != b"PK\1\2":
            raise Unreadable("the archive is damaged: its directory cannot be read")
        (
            _,
            made,
            _,
            flags,
            method,
            _,
            _,
            crc,
            packed,
            size,
            named,
            extras,
            noted,
            _,
            _,
            outer,
            at,
        ) = _CENTRAL.unpack_from(held, place)
        place += _CENTRAL.size
        name = held[place : place + named]
        extra = held[place + named : place + named + extras]
        place += named + extras + noted
        if place > len(held):
            raise Unreadable("the archive is damaged: its directory ends too early")
        sizes = size, packed, at
        if extras and 0xFFFFFFFF in sizes:
            sizes = _large(sizes, extra)
        yield (made, flags, method, crc, outer), name, extra, sizes


def _large(sizes: tuple[int, int, int], extra: bytes) -> tuple[int, int, int]:
    """The sizes with those in their place that 32 bits do not hold."""
    long = _extra(extra, 0x0001)
    numbers = iter(struct.unpack(f"<{len(long) // 8}Q", long[: len(long) // 8 * 8]))
    size, packed, offset = (
        next(numbers, number) if number == 0xFFFFFFFF else number for number in sizes
    )
    return size, packed, min(offset, 1 << 62)


def _extra(extra: bytes, wanted: int) -> bytes:
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == wanted:
            return extra[place + 4 : place + 4 + length]
        place += 4 + length
    return b""


def _path(name: bytes, extra: bytes, flags: int, system: int) -> bytes:
    """The name in UTF-8, with slashes."""
    if not name.isascii() and not flags & _UTF8:
        info_zip = _extra(extra, 0x7075)
        try:
            if info_zip[1:5] == struct.pack("<L", zlib.crc32(name)):
                name = info_zip[5:]
            name.decode()
        except UnicodeDecodeError:
            name = name.decode("cp437").encode()
    return name.replace(b"\\", b"/") if system in _DOS else name


def _kind(path: bytes, system: int, attributes: int) -> int:
    if path.endswith(b"/"):
        return FOLDER
    mode = attributes >> 28 if system in _UNIX else 0
    return FILE if mode in (0, 0o10) else FOLDER if mode == 0o4 else LINK
