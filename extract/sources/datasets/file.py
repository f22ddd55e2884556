"""A file of a data set, as it was when it was listed; a reference to an image in a row of it."""

import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple

from ....features.errors import SourceError, first_line
from ....features.records import AGAIN, FileStat
from ..image import MAX_BYTES, ImageReference, Unreadable


class File(NamedTuple):
    """A file of a data set, as it was when its rows were listed."""

    path: bytes
    size: int
    stamp: int
    """See `ImageReference.stat`: size and time are anybody's to set."""

    @classmethod
    def at(cls, path: str | os.PathLike[str], of: str) -> "File":
        """The file as it is now; `of` is the data set, for the message if it is not there."""
        whole = os.fsencode(os.path.abspath(path))
        now = ImageReference(whole, whole).stat()
        if not now.stamp:
            raise SourceError(
                f"{of}: its file {os.fspath(path)} cannot be opened: {_why_not(whole)}; have the "
                f"data set prepared again, on a disk of this machine"
            )
        return cls(whole, now.size, now.stamp)

    def now(self) -> "File":
        """The same file as it is by now; without a stamp if it cannot be reached."""
        status = ImageReference(self.path, self.path).stat()
        return File(self.path, status.size, status.stamp)

    def require_unchanged(self) -> None:
        """Let what has been found out about it be used no more after it was written anew."""
        now = self.now()
        if not now.stamp:
            raise Unreadable(f"cannot be opened: {_why_not(self.path)}")
        if now != self:
            raise Unreadable(f"its data set was written anew after it was listed; {AGAIN}")


def _why_not(path: bytes) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return "it was not there a moment ago"


@dataclass(frozen=True, kw_only=True)
class RowReference(ImageReference):
    """An image in a file of a data set; `location` is that file."""

    file: File
    """What `location` leads to."""
    row: int
    """Its number in that file."""
    length: int
    """Bytes of the image."""
    of: str
    """The data set, with its version."""

    def stat(self) -> FileStat:
        """See `ImageReference.stat`."""
        now = self.file.now()
        return self._stat(now) if now.stamp else FileStat(self.path, 0, 0, 0)

    def read(self) -> tuple[bytes, FileStat]:
        """The bytes as they are stored; see `ImageReference.read`."""
        if self.length > MAX_BYTES:
            raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
        self.file.require_unchanged()
        try:
            data = self.stored()
        except (OSError, ValueError, LookupError, RuntimeError) as error:
            raise Unreadable(f"cannot be read: {first_line(error)}") from error
        self.file.require_unchanged()
        if data is None:
            raise Unreadable("its row holds no image")
        return data, self._stat(self.file)

    def stored(self) -> bytes | None:
        """The bytes of the image; None if there are none."""
        raise NotImplementedError

    def _stat(self, file: File) -> FileStat:
        # The size of the image is not known of a file that was written anew: it is in the stamp.
        told = f"{self.of}\0{file.size}\0{file.stamp}\0{self.row}\0".encode(
            "utf-8", "surrogateescape"
        )
        told += os.path.basename(file.path)
        stamp = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little")
        return FileStat(self.path, self.length, 0, stamp or 1)
