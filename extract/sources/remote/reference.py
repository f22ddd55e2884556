"""A file on a server, as it was listed: an image, or an archive of them."""

import dataclasses
import io
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING, ClassVar, Final

from ....features.records import AGAIN, FileStat
from ..image import MAX_BYTES, ImageReference, Unreadable
from .store import Store

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SMALLEST_BLOCK, _LARGEST_BLOCK = 1 << 18, 1 << 23
"""Bytes fetched at a time: a photograph, or as much as comes in 0.1 s on a good line."""

AS_A_WHOLE: Final = "the server sends files only as a whole, and this one is read in parts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteReference(ImageReference):
    """An image on a server."""

    far: ClassVar[bool] = True

    store: Store
    key: str
    """What the file system calls it."""
    size: int | None
    """Bytes, as they were listed."""
    stamp: int
    """See `stamp_of`; 0 if it is not there."""

    def exists(self) -> bool:
        """Whether it was there when it was listed; nothing is asked."""
        return bool(self.stamp)

    def stat(self) -> FileStat:
        """Size and stamp as they were listed; nothing is asked."""
        return FileStat(self.path, (self.size or 0) if self.stamp else 0, 0, self.stamp)

    def begin(self) -> "Future[bytes] | None":
        """Begin to read it; None if that can only be waited for, by `read`.

        Raises
        ------
        Unreadable
            If it need not be tried.
        """
        return None if self.size == 0 else self.store.begin(self.key, *self._range())

    def ended(self, data: bytes) -> tuple[bytes, FileStat]:
        """What `read` gives, from the bytes that were begun to be read."""
        if self.size is not None and len(data) != self.size:
            raise Unreadable(f"changed since it was listed: it had {self.size:,} bytes; {AGAIN}")
        if len(data) > MAX_BYTES:
            raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
        return data, self.stat()

    def read(self) -> tuple[bytes, FileStat]:
        """Its bytes, tried a few times, and its `stat`."""
        return self.ended(b"" if self.size == 0 else self.store.read(self.key, *self._range()))

    def _range(self) -> tuple[int, int]:
        if self.size is not None and self.size > MAX_BYTES:
            raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
        # One more than there are: of a file that has grown, the first bytes are another file.
        return 0, (MAX_BYTES if self.size is None else self.size) + 1


@dataclasses.dataclass(frozen=True)
class RemotePlace:
    """An archive or a list on a server; see `place.Place`."""

    store: Store
    key: str
    size: int
    stamp: int
    name: str

    far = True

    def open(self) -> IO[bytes]:
        """Open it: what is read is fetched in blocks, each tried a few times."""
        return io.BufferedReader(_Blocks(self))

    def stat(self) -> FileStat:
        """Its size and stamp as they were listed."""
        return FileStat(self.name.encode("utf-8", "surrogateescape"), self.size, 0, self.stamp)


class _Blocks(io.RawIOBase):
    """A file that is fetched in blocks, which grow as long as it is read on and on."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place
        self._position = 0
        self._start, self._block = 0, b""
        self._length = SMALLEST_BLOCK

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._place.size}
        self._position = base[whence] + offset
        if self._position < 0:
            self._position = 0
            raise OSError(f"a position before the start: {offset}")
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        inside = self._position - self._start
        if not 0 <= inside < len(self._block):
            if self._position >= self._place.size:
                return 0
            self._fetch(len(view))
            inside = self._position - self._start
        part = self._block[inside : inside + len(view)]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fetch(self, wanted: int) -> None:
        on = bool(self._block) and self._position == self._start + len(self._block)
        self._length = min(self._length * 2, _LARGEST_BLOCK) if on else SMALLEST_BLOCK
        start, size = self._position, self._place.size
        end = min(start + min(max(wanted, self._length), _LARGEST_BLOCK), size)
        data = self._place.store.read(self._place.key, start, end)
        if len(data) == size != end - start:  # a server that knows no ranges
            if size > SMALLEST_BLOCK:
                raise Unreadable(AS_A_WHOLE)
            start, end = 0, size
        if len(data) != end - start:
            raise Unreadable(f"{self._place.name} changed since it was listed; {AGAIN}")
        self._start, self._block = start, data
