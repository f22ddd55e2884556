"""What archives of all kinds have in common: entries, and how a member is read."""

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, Final, NamedTuple, Protocol

from ..image import MAX_BYTES, Unreadable

FILE, FOLDER, LINK, OTHER = range(4)
"""Kinds of entries; OTHER is what no file is made of, such as a label of the whole."""

_FREE: Final = 1 << 26
_MOST_RATIO: Final = 200
"""Of the size of an image of more than `_FREE` bytes to what it is packed in. (A photograph is
packed in no less than itself, a bitmap of a drawing in a tenth.)"""


class Reader(Protocol):
    """An open archive."""

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or fewer at its end."""


class Scanned(Reader, Protocol):
    """One that is gone through once, from its start."""

    def reaches(self, offset: int) -> bool:
        """Whether there are so many bytes; what lies before may be left behind."""


class Member(Protocol):
    """A file in an archive: where it lies, and how."""

    @property
    def size(self) -> int:
        """Bytes, once it is unpacked."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """What changes when the member does; the first is where it lies."""

    def read(self, archive: Reader, most: int | None = None) -> bytes:
        """Its bytes, or no more than the first `most`; `Unreadable` says why it has none."""


class Entry(NamedTuple):
    """What an archive names."""

    path: bytes
    """As it is written there, so it may lead anywhere."""
    kind: int
    member: Member


class Direct:
    """An archive that can be read anywhere, by many threads: each takes a file of its own."""

    def __init__(self, open_: Callable[[], IO[bytes]]) -> None:
        self._open = open_
        self._idle: list[IO[bytes]] = []
        self._length: int | None = None

    def at(self, offset: int, size: int) -> bytes:
        """See `Reader`."""
        with self._file() as file:
            file.seek(offset)
            return file.read(size)

    def reaches(self, offset: int) -> bool:
        """See `Scanned`."""
        return offset <= self.length()

    def length(self) -> int:
        """Bytes of the file."""
        if self._length is None:
            with self._file() as file:
                self._length = file.seek(0, 2)
        return self._length

    def close(self) -> None:
        """Close the files that nobody uses now."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _file(self) -> Iterator[IO[bytes]]:
        try:
            file = self._idle.pop()
        except IndexError:
            file = self._open()
        try:
            yield file
        except OSError as error:
            file.close()
            raise unread(error) from error
        except BaseException:
            file.close()
            raise
        self._idle.append(file)


def unread(error: OSError) -> Unreadable:
    """What to say where the archive itself could not be read."""
    return Unreadable(f"the archive cannot be read: {error.strerror or error}")


def require_sane(size: int, packed: int) -> None:
    """Refuse a member that no photograph is, before memory is taken for it."""
    if size > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
    if size > _FREE and size > _MOST_RATIO * packed:
        raise Unreadable(f"more than {_MOST_RATIO} times as large as it is packed, as in a bomb")
