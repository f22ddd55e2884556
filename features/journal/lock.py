"""One run at a time on one output file, without leaving a lock behind when a run is killed."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import durable
from ..errors import FeatureFileError
from .units import folder_of

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger("headstart")


@contextlib.contextmanager
def exclusive(out: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep the folder of units of `out` to ourselves; it is made, and removed again if empty.

    The lock is one of the operating system on the folder itself, so it ends with the process that
    holds it, however that ends. Where the file system knows no locks the run goes on without:
    published units, the check of what is read while sealing, and the atomic rename still keep two
    runs from harming each other's files.
    """
    folder = folder_of(out)
    descriptor = None
    _make(folder)
    if sys.platform != "win32":  # there, runs are kept apart by nothing but care
        while (descriptor := _locked(folder, out, wait=wait)) is None:
            _make(folder)
    try:
        durable.sweep(folder)
        durable.sweep(out.parent, out.name)
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # fails, as it should, while there are units in it
        if descriptor is not None:
            _unlock(descriptor)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise durable.cannot_write(folder, error) from error


def _locked(folder: Path, out: Path, *, wait: bool) -> int | None:
    """A locked descriptor of `folder`, or None if it was removed meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor, out, wait=wait)
    except BaseException:  # Ctrl-C while waiting, for one
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor
    _unlock(descriptor)
    return None


def _lock(descriptor: int, out: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return  # no locks here
        if not wait:
            raise FeatureFileError(
                f"{out}: another run of headstart is using it; wait until it has finished, or "
                f"choose another output"
            ) from error
        _log.info("%s: waiting for another process that adds to it", out)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _unlock(descriptor: int) -> None:
    # A process that was forked meanwhile has the descriptor too: to close ours would not do.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
