"""What lies between the images of a source and is not taken: counted, and said once."""

import collections
import os
import stat
from collections.abc import Callable
from typing import Final

from ..images import foreign
from ..images.decode import SUFFIXES
from .image import AT_ONCE

_SNIFFED: Final = 20
"""Files of each unknown suffix whose first bytes are looked at."""

_HEAD: Final = 32

PARQUET: Final = ".parquet"

_OTHERS: Final = "hidden, or of other programs"


class Over:
    """Counts what is passed over."""

    def __init__(self, head: Callable[[bytes], bytes] | None = None) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._head = head or _head_of
        self._looked: collections.Counter[str] = collections.Counter()
        self._images: dict[str, str] = {}
        self._loops: list[str] = []
        self._dangling: list[str] = []
        self.lists: list[str] = []
        """Files that may say the labels."""
        self.parquet: list[str] = []
        """Files that may hold images."""

    def others(self) -> None:
        """Count a hidden file or folder, or one of another program."""
        self.counts[_OTHERS] += 1

    def file(self, name: str, location: bytes) -> None:
        """Count a file that is no image by its name."""
        stem, suffix = os.path.splitext(name.casefold())
        if stem.endswith(".tar"):
            suffix = ".tar"
        suffix = suffix[:20] or "without a suffix"
        self.counts[suffix] += 1
        if suffix in (".csv", ".tsv"):
            self.lists.append(os.fsdecode(location))
        elif suffix == PARQUET:
            self.parquet.append(os.fsdecode(location))
        if suffix not in foreign.KNOWN and self._looked[suffix] < _SNIFFED:
            self._looked[suffix] += 1
            if suffix not in self._images and foreign.is_image(self._head(location)):
                self._images[suffix] = os.fsdecode(location)

    def loop(self, location: bytes) -> None:
        """Count a link to a folder that it lies in itself."""
        self._loops.append(os.fsdecode(location))

    def dangling(self, location: bytes) -> None:
        """Count a link to what is not there."""
        self._dangling.append(os.fsdecode(location))

    def notes(self) -> list[str]:
        """A line for each kind of thing that may be missed."""
        notes = []
        for suffix, advice in foreign.ADVICE.items():
            if self.counts[suffix]:
                notes.append(f"{_files(self.counts[suffix], suffix)} not taken: {advice}")
        for suffix, first in self._images.items():
            notes.append(
                f"{_files(self.counts[suffix], suffix)} not taken, though some are images by "
                f"their content, such as {first}: give them their suffix, such as .jpg"
            )
        if self._loops:
            notes.append(
                f"{_links(self._loops)} to a folder that it lies in itself, and passed over"
            )
        if self._dangling:
            notes.append(f"{_links(self._dangling)} to what is not there, and passed over")
        return notes

    def instead(self) -> str:
        """For an error: what there is, where there is no image."""
        notes = self.notes()
        if notes:
            return "; " + "; ".join(notes)
        shown = ", ".join(f"{count:,} {what}" for what, count in self.counts.most_common(5))
        there = f"; there are {shown}" if shown else ""
        return f"; looked for the suffixes {' '.join(sorted(SUFFIXES))}{there}"


def _head_of(location: bytes) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(location).st_mode):  # opening is an action for some devices
            return b""
        descriptor = os.open(location, AT_ONCE)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _HEAD)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _files(count: int, suffix: str) -> str:
    kind = f"{count:,} {suffix}" if suffix.startswith(".") else f"{_some(count)} {suffix}"
    return f"{kind} {'is' if count == 1 else 'are'}"


def _some(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _links(found: list[str]) -> str:
    if len(found) == 1:
        return f"{found[0]} is a link"
    return f"{len(found):,} links, such as {found[0]}, lead each"
