"""A file packed by gzip, bzip2 or xz -> what is in it, read forward, from few places at a time."""

import collections
import threading
import zlib
from collections.abc import Callable
from typing import IO, Final, Protocol

from ..image import Unreadable
from .members import unread
from .packers import damage, needed

MAGICS: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
"""First bytes of gzip, bzip2 and xz."""

_CHUNK: Final = 1 << 16
_PIECE: Final = 1 << 18
_FREE: Final = 1 << 30
_MOST_RATIO: Final = 100
"""Of all that has come out to all that went in, once that is more than `_FREE` bytes; gzip packs
zeros in a thousandth, bzip2 in a millionth."""

_MEMORY: Final = 1 << 28
"""For xz, whose files say how much is needed; `xz -9` takes 65 MiB."""

_KEPT: Final = 1 << 24
"""Bytes behind each place that are kept, for those who come a little late."""

_MOST_PLACES: Final = 2
"""Two units are read side by side: see `Unpacked.at`."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """As the decompressors of bz2 and lzma are."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # There may be more to come of what has been taken in.
        self.needs_input = not self._zlib.unconsumed_tail and len(piece) < max_length
        return piece


def _decompressor(head: bytes) -> _Decompressor | None:
    gzip, bzip2, xz = map(head.startswith, MAGICS)
    if gzip:
        return _Gzip()
    if bzip2:
        for_bzip2: _Decompressor = needed("bz2").BZ2Decompressor()
        return for_bzip2
    if xz:
        lzma = needed("lzma")
        for_xz: _Decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)
        return for_xz
    return None


class Forward:
    """What is in a packed file, from its start; an `Unreadable` says why no more can be had."""

    def __init__(self, file: IO[bytes], kept: int = 0) -> None:
        self._file = file
        self._kept = kept
        self._in = self._out = 0
        self._unpacking: _Decompressor | None = None
        self._left = b""
        self.begun = 0
        """Where what is kept begins."""
        self._pieces: collections.deque[bytes] = collections.deque()

    @property
    def end(self) -> int:
        """How far it has been unpacked."""
        return self._out

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or fewer at the end; from no place before `begun`."""
        while self._out < offset + size and (piece := self._piece()):
            self._pieces.append(piece)
            while (
                self._out - self.begun > self._kept and self.begun + len(self._pieces[0]) <= offset
            ):
                self.begun += len(self._pieces.popleft())
        found, begun = [], self.begun
        for piece in self._pieces:
            if begun + len(piece) > offset and begun < offset + size:
                found.append(piece[max(0, offset - begun) : offset + size - begun])
            begun += len(piece)
        return b"".join(found)

    def reaches(self, offset: int) -> bool:
        """Whether there are so many bytes; what lies before is left behind."""
        self.at(offset, 0)
        return self._out >= offset

    def close(self) -> None:
        """Close the packed file."""
        self._file.close()

    def _piece(self) -> bytes:
        """The next few bytes; none at the end."""
        try:
            while True:
                if self._unpacking is None or self._unpacking.eof:
                    self._left = self._unpacking.unused_data if self._unpacking else b""
                    self._unpacking = self._next()
                    if self._unpacking is None:
                        return b""
                data = b""
                if self._unpacking.needs_input:
                    data = self._left or self._read()
                    self._left = b""
                    if not data:
                        raise Unreadable(
                            "the archive was cut short; copy it again, or pack it again"
                        )
                piece = self._unpacking.decompress(data, _PIECE)
                self._out += len(piece)
                if self._out > _FREE and self._out > _MOST_RATIO * self._in:
                    raise Unreadable(
                        f"the archive is more than {_MOST_RATIO} times as large as it is packed, "
                        f"as a bomb is; unpack it, if it is none"
                    )
                if piece:
                    return piece
        except damage() as error:
            raise Unreadable(f"the archive is damaged: {error}") from error

    def _next(self) -> _Decompressor | None:
        """For what may follow: several packed files in a row are one, and zeros may fill it up."""
        while True:
            self._left = self._left.lstrip(b"\0")
            if len(self._left) < 6:
                more = self._read()
                self._left += more
                if more:
                    continue
            return _decompressor(self._left)

    def _read(self) -> bytes:
        try:
            data = self._file.read(_CHUNK)
        except OSError as error:
            raise unread(error) from error
        self._in += len(data)
        return data


class Unpacked:
    """What is in a packed file, for many threads that go through it at about one pace."""

    def __init__(self, open_: Callable[[], IO[bytes]]) -> None:
        self._open = open_
        self._places: list[Forward] = []  # the one that was last used at the end
        self._lock = threading.Lock()

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or fewer at the end.

        Of the places from which that can be reached the nearest goes there. So if one unit is read
        ahead of another, each is unpacked twice at most: the place behind catches up with the one
        before, whose unit is done by then.
        """
        with self._lock:
            reach = [one for one in self._places if one.begun <= offset]
            if reach:
                nearest = max(reach, key=lambda one: min(one.end, offset))
                self._places.remove(nearest)
            else:
                if len(self._places) == _MOST_PLACES:
                    self._places.pop(0).close()
                nearest = Forward(self._open(), _KEPT)
            try:
                data = nearest.at(offset, size)
            except BaseException:
                nearest.close()
                raise
            self._places.append(nearest)
            return data

    def close(self) -> None:
        """Close the packed file."""
        with self._lock:
            for one in self._places:
                one.close()
            self._places = []
