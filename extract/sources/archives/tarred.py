"""A tar file, as it is or unpacked on the way -> its members; a member -> its bytes.

All of v7, ustar, GNU and pax: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
and https://www.gnu.org/software/tar/manual/html_node/Standard.html. `tarfile` takes 25 us for a
member (this takes 7), and as much memory for a header as the header says.
"""

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..image import Unreadable
from .members import FILE, FOLDER, LINK, OTHER, Entry, Reader, Scanned, require_sane

_BLOCK: Final = 512
_ZEROS: Final = bytes(_BLOCK)
_LONGEST_HEADER: Final = 1 << 24
"""Of a long name or pax header; a Mac writes the resources of a file into one."""

_AFTER_END: Final = 1 << 20  # bytes that are looked at after the end

_SPARSE: Final = "is stored as a sparse file, which is not read; unpack the archive"


class Member(NamedTuple):
    """Where a member lies."""

    offset: int
    """Of its data."""
    size: int
    check: int
    """CRC of its header, which has its time in it."""
    wrong: str = ""
    """Why it cannot be read."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """What changes when the member does."""
        return self[:3]

    def read(self, archive: Reader, most: int | None = None) -> bytes:
        """Its bytes, or no more than the first `most`."""
        if self.wrong:
            raise Unreadable(self.wrong)
        if most is None:
            require_sane(self.size, self.size)
        wanted = self.size if most is None else min(most, self.size)
        data = archive.at(self.offset, wanted)
        if len(data) < wanted:
            raise Unreadable("the archive ends in the middle of it")
        return data


class Odd(Exception):
    """What a person should know of an archive whose members have all been met."""


def entries(archive: Scanned) -> Iterator[Entry]:
    """Everything in a tar file, in its order; of each its data may be read before the next.

    Raises
    ------
    Unreadable
        If it is no tar file, damaged, or cut short.
    Odd
        At last, if more comes after its end.
    """
    name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    begin = 0
    while block := archive.at(begin, _BLOCK):
        if block == _ZEROS:
            if archive.at(begin + _BLOCK, _AFTER_END).strip(b"\0"):
                raise Odd(
                    "goes on after its end, as if archives had been joined; what comes after it is "
                    "not read"
                )
            return
        size, kind, data = _size(block, begin), block[156:157], begin + _BLOCK
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            content = _content(archive, size, data)
            if kind == b"L":
                name = content.split(b"\0", 1)[0]
            elif kind in (b"x", b"X"):
                pax = _pax(content, begin)
            begin = data + _blocks(size)
            continue
        check, size, wrong = zlib.crc32(block), _number_of(pax, b"size", size, begin), ""
        path = _path(block, name, pax)
        if kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in pax):
            wrong = _SPARSE
            more = kind == b"S" and block[482] != 0
            while more:
                more, data = _whole(archive.at(data, _BLOCK), _BLOCK)[504] != 0, data + _BLOCK
        if kind in b"123456":  # as tarfile has it: links and devices have no data
            size = 0
        yield Entry(path, _kind(kind, path), Member(data, size, check, wrong))
        begin = data + _blocks(size)
        if not archive.reaches(begin):
            raise _cut_short(f"in {path.decode(errors='replace')[:200]!r}")
        name, pax = None, {}
    if begin == 0:
        raise Unreadable("the file is empty")
    raise _cut_short("after a member, without the block of zeros at its end")


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _cut_short(where: str) -> Unreadable:
    return Unreadable(
        f"the archive was cut short: it ends {where}; copy it again, or pack it again"
    )


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise _cut_short("in the middle of a header")
    return data


def _content(archive: Reader, size: int, data: int) -> bytes:
    if size > _LONGEST_HEADER:
        raise Unreadable(f"the archive is damaged: a header of {size:,} bytes at byte {data:,}")
    return _whole(archive.at(data, size), size)


def _size(block: bytes, begin: int) -> int:
    """The size that a header says, if it is one."""
    if len(block) < _BLOCK:
        raise _cut_short("in the middle of a header") if begin else Unreadable("not a tar file")
    try:
        said = _number(block[148:156])
        unsigned = sum(block) - sum(block[148:156]) + 8 * 32
        # Some old programs sum signed bytes.
        if said != unsigned and said != unsigned - 256 * sum(byte > 127 for byte in block):
            raise ValueError
        size = _number(block[124:136])
    except ValueError:
        size = -1
    if size >= 0:
        return size
    if begin == 0:
        raise Unreadable("not a tar file")
    raise Unreadable(
        f"the archive is damaged: no header at byte {begin:,}; fetch it or pack it again"
    )


def _number(field: bytes) -> int:
    """Octal digits, or a binary number after a byte of 128; a ValueError if neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big", signed=False)
    digits = field.split(b"\0", 1)[0].strip()
    if digits and not digits.isdigit():  # int() takes signs and underscores too
        raise ValueError
    return int(digits or b"0", 8)


def _pax(content: bytes, begin: int) -> dict[bytes, bytes]:
    """Records of the form "length keyword=value", each ended by a line feed."""
    found: dict[bytes, bytes] = {}
    place = 0
    while place < len(content) and content[place] != 0:
        space = content.find(b" ", place, place + 20)
        length = content[place : max(space, 0)]
        end = place + int(length) if length.isdigit() else 0
        key, equals, value = content[space + 1 : max(end - 1, 0)].partition(b"=")
        if not equals or end > len(content):
            raise Unreadable(
                f"the archive is damaged: a pax header at byte {begin:,} cannot be read"
            )
        found[key] = value
        place = end
    return found


def _number_of(pax: dict[bytes, bytes], key: bytes, number: int, begin: int) -> int:
    value = pax.get(key)
    if value is None:
        return number
    if not value.isdigit() or len(value) > 20:
        raise Unreadable(
            f"the archive is damaged: a member of {value[:40].decode(errors='replace')!r} bytes "
            f"at byte {begin:,}"
        )
    return int(value)


def _path(block: bytes, name: bytes | None, pax: dict[bytes, bytes]) -> bytes:
    for key in (b"GNU.sparse.name", b"path"):
        if key in pax:
            return pax[key]
    if name is not None:
        return name
    short = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + short if prefix else short


def _kind(kind: bytes, path: bytes) -> int:
    if kind == b"5" or (kind in b"\0" and path.endswith(b"/")):
        return FOLDER
    if kind in (b"1", b"2", b"3", b"4", b"6"):
        return LINK
    # Others than these are files, by POSIX: D is a folder of GNU, M and V are parts and labels.
    return OTHER if kind in (b"D", b"M", b"V", b"N") else FILE
