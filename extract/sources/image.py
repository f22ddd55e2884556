"""One image file: a reference to it -> its bytes and its status, read once and safely."""

import dataclasses
import hashlib
import os
import stat
from concurrent.futures import Future
from typing import ClassVar, Final

from ...features.records import UNREAD, FileStat
from .tree import NO_SPLIT, is_image_name

MAX_BYTES: Final = 1 << 30
"""Larger files are not photographs; reading one would take the memory of all the others."""


LONGEST_PATH: Final = 4096
"""Bytes; as long as Linux takes. Every row of a feature file has room for the longest."""

AT_ONCE: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened that may have become a FIFO meanwhile, on which open() would wait; Windows
changes the ends of lines in what is not said to be binary."""

_MIX: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Odd, so that a change of one number always shows in the sum; large, so that one of several does.
(Those of splitmix64 and xxHash.)"""


class Unreadable(Exception):
    """Why a file could not be read; the message is the ledger's reason."""


def read(location: bytes) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file, through a link if it is one; bytes and status belong together.

    A file that is missing, forbidden, not regular, too large or changed meanwhile is `Unreadable`.
    """
    try:
        # Opening is an action for some devices, so only regular files are opened.
        _require_regular(os.stat(location))
        descriptor = os.open(location, AT_ONCE)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        _require_regular(before)
        if before.st_size > MAX_BYTES:
            raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
        try:
            data: bytes | None = file.read(before.st_size + 1)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        after = os.fstat(descriptor)
    if data is None:  # a file of the kernel that has nothing to say now
        raise Unreadable("has no bytes to read now")
    if _changed(before, after):
        raise Unreadable("changed while it was read")
    if len(data) != after.st_size:  # files of the kernel
        raise Unreadable("has another size than it says")
    return data, after


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return True
    # A program may have put the date back; but a file that only got or lost a name is the same.
    return before.st_ctime_ns != after.st_ctime_ns and before.st_nlink == after.st_nlink


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """An image that the source lists."""

    far: ClassVar[bool] = False
    """Whether reading it is mostly waiting, so that many are read at a time."""

    path: bytes
    """Relative to the source; the name of the image in the feature file."""
    location: bytes
    """Where to open it."""
    label: str | None = None
    split: str = NO_SPLIT
    """One of `layout.SPLIT_NAMES`."""
    group: str | None = None
    """What it has in common with others, so that they are kept together; see `records.Listed`."""

    @property
    def place(self) -> int:
        """Where it lies in what can only be read from its start; 0 if that is so of nothing."""
        return 0

    def anywhere(self) -> "ImageReference":
        """The same for a process that works in another folder; its name in the file stays."""
        if self.far or os.path.isabs(self.location) or not os.path.lexists(self.location):
            return self
        return dataclasses.replace(self, location=os.path.join(os.getcwdb(), self.location))

    def exists(self) -> bool:
        """Whether it is still where it was listed, be it readable or not."""
        return os.path.lexists(self.location)

    def stat(self) -> FileStat:
        """Size, time and stamp of the file as it is now; all 0 if that cannot be found out."""
        try:
            status = os.stat(self.location)
        except OSError:
            return FileStat(self.path, 0, 0, 0)  # reading it will say why
        return _stat(self.path, status)

    def read(self) -> tuple[bytes, FileStat]:
        """The bytes of the file, and its `stat` when they were read; see `read`."""
        data, status = read(self.location)
        return data, _stat(self.path, status)

    def begin(self) -> "Future[bytes] | None":
        """Begin to read an image that is far, where that can be left to itself; None elsewhere.

        Raises
        ------
        Unreadable
            If it need not be tried.
        """
        return None

    def ended(self, data: bytes) -> tuple[bytes, FileStat]:
        """What `read` gives, from the bytes that were begun to be read."""
        return data, self.stat()

    def digest(self) -> bytes:
        """SHA-256 of the bytes of the file; `UNREAD` if they cannot be read."""
        try:
            return hashlib.sha256(self.read()[0]).digest()
        except (Unreadable, MemoryError):
            return UNREAD


def _stat(path: bytes, status: os.stat_result) -> FileStat:
    # Programs set size and time of a file as they like: two photographs out of one archive often
    # have both in common. Its number and the time of its last change are not theirs to set.
    # (A digest of the three would cost a tenth of looking at a file.)
    own = status.st_ino * _MIX[0] + status.st_ctime_ns * _MIX[1] + status.st_mtime_ns
    time = min(max(status.st_mtime_ns, -(2**63)), 2**63 - 1) or 1  # 0 is for what has no time
    return FileStat(path, status.st_size, time, own % 2**64 or 1)


def absolute(path: bytes) -> bytes:
    """As `os.path.abspath`, unless that would be another file: see `tidy`."""
    return tidy(path if os.path.isabs(path) else os.path.join(os.getcwdb(), path))


def is_image(file: bytes) -> bool:
    """Whether a file is an image by its name, and not a folder."""
    return is_image_name(os.path.basename(os.fsdecode(file))) and not os.path.isdir(file)


def tidy(path: bytes, folder: bytes = b"") -> bytes:
    """One name for an image, however its path is spelt, unless it climbs out of a link.

    It has slashes on every system: the name of an image in a feature file is the same on each.
    """
    path = _slashed(path)
    short = _slashed(os.path.normpath(path))
    if b".." not in path.split(b"/"):
        return short
    # Where `link` leads to a folder, `link/..` is not what normpath takes it for.
    given, meant = os.path.join(folder, path), os.path.join(folder, short)
    try:
        same = os.path.samefile(given, meant)
    except OSError:
        same = not os.path.lexists(given)
    return short if same else path


def _slashed(path: bytes) -> bytes:
    return path.replace(os.fsencode(os.sep), b"/")
