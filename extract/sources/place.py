"""Where an archive or a list lies: opened by whoever needs it, in whatever process that is."""

import dataclasses
import os
from typing import IO, Protocol

from ...features.records import FileStat
from .image import ImageReference


class Place(Protocol):
    """A file, wherever it lies; pickles small."""

    @property
    def name(self) -> str:
        """What a person calls it: an absolute path, or a URL."""

    @property
    def far(self) -> bool:
        """See `ImageReference.far`."""

    def open(self) -> IO[bytes]:
        """Open it for reading at any position; an `Unreadable` says why it cannot be."""

    def stat(self) -> FileStat:
        """Its size, time and stamp now; all 0 if that cannot be found out."""


@dataclasses.dataclass(frozen=True)
class LocalPlace:
    """A file on this machine."""

    path: bytes
    """Absolute."""

    far = False

    @property
    def name(self) -> str:
        """Its path."""
        return os.fsdecode(self.path)

    def open(self) -> IO[bytes]:
        """Open it; see `Place`."""
        return open(self.path, "rb")

    def stat(self) -> FileStat:
        """See `ImageReference.stat`."""
        return ImageReference(self.path, self.path).stat()
