"""One image file -> its bytes and what the file system said of it, read once and safely."""

from __future__ import annotations

import os
import stat
from typing import Final

MAX_BYTES: Final = 1 << 30
"""Larger files are no photographs; reading one would take the memory of all the others."""


class Unreadable(Exception):
    """Why the bytes of a file could not be had; the message is the ledger's reason."""


def read(location: bytes) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file.

    Parameters
    ----------
    location : bytes
        Path as the operating system wants it. A link to a file is followed.

    Returns
    -------
    data : bytes
        The file.
    status : os.stat_result
        Its status when it was read, so that bytes and status belong together.

    Raises
    ------
    Unreadable
        If it is missing, forbidden, no regular file, too large, or changed meanwhile.
    """
    try:
        # Opening is an action for some devices, so what is none of ours is not even opened. What
        # takes its place meanwhile could be a FIFO, on which open() waits without O_NONBLOCK.
        _require_regular(os.stat(location))
        descriptor = os.open(location, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        _require_regular(before)
        if before.st_size > MAX_BYTES:
            raise Unreadable(f"larger than {MAX_BYTES >> 20} MiB")
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        after = os.fstat(descriptor)
    if len(data) != after.st_size or _identity(before) != _identity(after):
        raise Unreadable("changed while it was read")
    return data, after


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
