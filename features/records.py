"""What is recorded of one image file: as listed, as found, and the key of its vectors."""

import dataclasses
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import layout

UNREAD: Final = bytes(layout.DIGEST_BYTES)
"""Digest of a file whose bytes could not be read: such a file is tried again by every run."""


AGAIN: Final = "the next run tries it again"
"""How the reason ends of an image that cannot be used now, and may be some other time."""

Key = tuple[bytes, int]
"""What a vector is of: the SHA-256 of an image file, and the view of it, which is 0 for the image
itself and k for its k-th augmented view. Under one provenance equal keys have equal vectors. (There
are as many as rows: a named tuple would take three times as long to make.)"""


def keys(digests: NDArray[np.uint8], views: NDArray[np.int16]) -> list[Key]:
    """(N, 32) digests and (N,) views -> N keys."""
    whole = np.ascontiguousarray(digests).view(f"V{layout.DIGEST_BYTES}").ravel()
    return list(zip(whole.tolist(), views.tolist(), strict=True))


class FileStat(NamedTuple):
    """What tells, without reading it, whether a file is still the one that was seen.

    (A tuple is looked up in a third of the time that a dataclass takes, and there are as many as
    images.)
    """

    path: bytes
    """Relative to the source."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Nanoseconds since 1970, or the nearest that 64 bits hold: file systems know later years. 0
    for what is no file of its own: its stamp says all."""
    stamp: int
    """Whatever else changes with the file, in 64 bits. 0 if there is nothing else to go by: the
    file is not there, or its path says what it is."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """One image that the source lists now."""

    stat: FileStat
    label: str | None
    split: str
    """One of `layout.SPLIT_NAMES`."""
    group: str | None = None
    """What it has in common with others, as a patient or a video: rows of one group are kept
    together where people know better than the images show."""
    text: str | None = None
    """What it is, for people to read where there is no image; at most `layout.MOST_TEXT` bytes of
    UTF-8 are kept."""


class SeenFile(NamedTuple):
    """What one image file was found to be."""

    stat: FileStat
    """As it was when it was read: what it is found again by."""
    digest: bytes
    """SHA-256 of its bytes; `UNREAD` if it could not be read."""
    width: int
    height: int
    """Pixels of the upright image; 0 if it could not be decoded."""
    reason: str = ""
    """Why it was skipped; empty if it was not."""

    @property
    def key(self) -> Key:
        """That of the image itself."""
        return self.digest, 0

    @property
    def path(self) -> bytes:
        """Relative to the source, as the file system gave it."""
        return self.stat.path


def must_read(seen: SeenFile | None) -> bool:
    """Whether a file has to be looked at, given what is known of it."""
    return seen is None or seen.digest == UNREAD


def table(files: Iterable[SeenFile]) -> NDArray[np.void]:
    """Pack files into an array of `layout.files_dtype`."""
    rows = [
        (
            file.stat.path,
            np.frombuffer(file.digest, np.uint8),
            file.stat.size,
            file.stat.mtime_ns,
            file.stat.stamp,
            file.width,
            file.height,
            file.reason.encode("utf-8"),
        )
        for file in files
    ]
    longest_path = max((len(row[0]) for row in rows), default=0)
    longest_reason = max((len(row[-1]) for row in rows), default=0)
    return np.array(rows, layout.files_dtype(longest_path, longest_reason))


def seen_files(rows: NDArray[np.void]) -> list[SeenFile]:
    """Unpack what `table` packed."""
    digests = [digest.tobytes() for digest in rows["digest"]]
    names = ("path", "size", "mtime_ns", "stamp", "width", "height", "reason")
    columns = zip(*(rows[name].tolist() for name in names), strict=True)
    return [
        SeenFile(FileStat(*stat), digest, width, height, reason.decode("utf-8"))
        for digest, (*stat, width, height, reason) in zip(digests, columns, strict=True)
    ]
