"""An image in an archive -> its bytes, from archives that a process keeps open for its threads."""

import collections
import dataclasses
import hashlib
import os
import stat
import threading
from typing import IO, Final

from ....features.records import AGAIN, FileStat
from ..image import ImageReference, Unreadable
from ..place import LocalPlace, Place
from .members import Direct, Member
from .unpacked import Unpacked

_MOST_SIZE: Final = 2**63 - 1
"""That a feature file holds; an archive can say any."""

_MOST_OPEN: Final = 4  # archives of one process; a packed one keeps up to 32 MiB


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive as it was when it was listed."""

    place: Place
    status: FileStat
    packed: bool
    """Whether it can only be read from its start."""
    turn: int
    """Which of the archives of the source it is."""
    location: bytes
    """What a person calls it."""
    seal: bytes
    """Its size, time and stamp, for the stamps of its members."""

    @classmethod
    def at(cls, place: Place, turn: int, *, packed: bool) -> "Archive":
        """The one that lies at a place now."""
        status = place.stat()
        seal = repr(status[1:]).encode()
        return cls(place, status, packed, turn, os.fsencode(place.name), seal)

    def reader(self) -> Direct | Unpacked:
        """What reads it from now on."""
        return Unpacked(self.open) if self.packed else Direct(self.open)

    def require_same(self) -> None:
        """An `Unreadable` if it is no more what was listed."""
        now = self.place.stat()
        if now != self.status:
            raise Unreadable(f"the archive changed, or went, since it was listed; {AGAIN}")

    def open(self) -> IO[bytes]:
        """The file; an `Unreadable` says why it cannot be opened."""
        if self.place.far:  # else whoever reads asks each time
            self.require_same()
        return opened(self.place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberReference(ImageReference):
    """An image in an archive."""

    archive: Archive
    member: Member

    @property
    def place(self) -> int:
        """See `ImageReference.place`."""
        return (self.archive.turn << 64) + self.member.numbers[0] if self.archive.packed else 0

    def exists(self) -> bool:
        """Whether the archive is there."""
        return self.archive.place.stat().stamp != 0

    def stat(self) -> FileStat:
        """Its size, and a stamp of the archive and its header as they were listed."""
        said = self.archive.seal + repr(self.member.numbers).encode()
        digest = hashlib.blake2b(said, digest_size=8).digest()
        size = min(self.member.size, _MOST_SIZE)
        return FileStat(self.path, size, 0, int.from_bytes(digest, "big") or 1)

    def read(self) -> tuple[bytes, FileStat]:
        """Its bytes, from an archive that this process keeps open."""
        try:
            data = self.member.read(_shelf.reader(self.archive))
        finally:
            if not self.archive.place.far:
                self._require_same()
        return data, self.stat()

    def _require_same(self) -> None:
        try:
            self.archive.require_same()
        except Unreadable:
            _shelf.forget(self.archive)
            raise


class FarReference(MemberReference):
    """One in an archive on another machine."""

    far = True


class _Shelf:
    """The archives that a process has open; those used least are closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: collections.OrderedDict[tuple[str, FileStat], Direct | Unpacked] = (
            collections.OrderedDict()
        )

    def reader(self, archive: Archive) -> Direct | Unpacked:
        """One for any thread."""
        key = archive.place.name, archive.status
        with self._lock:
            reader = self._readers.get(key)
            if reader is None:
                reader = self._readers[key] = archive.reader()
                if len(self._readers) > _MOST_OPEN:
                    self._readers.popitem(last=False)[1].close()
            self._readers.move_to_end(key)
            return reader

    def forget(self, archive: Archive) -> None:
        """Close one."""
        with self._lock:
            reader = self._readers.pop((archive.place.name, archive.status), None)
        if reader is not None:
            reader.close()


_shelf = _Shelf()


def _begin_anew() -> None:
    # The files of the parent have one position for both; and a thread of it may have the lock.
    global _shelf
    _shelf = _Shelf()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def opened(place: Place) -> IO[bytes]:
    """Open it for reading; an `Unreadable` says why it cannot be."""
    try:
        if isinstance(place, LocalPlace) and not stat.S_ISREG(os.stat(place.path).st_mode):
            raise Unreadable("not a regular file")  # opening is an action for some devices
        return place.open()
    except OSError as error:
        raise Unreadable(f"the archive cannot be opened: {error.strerror or error}") from error
