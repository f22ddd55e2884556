"""One run at a time on one output file, or several shards of one.

No lock is left behind when a run is killed.
"""

import contextlib
import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from .. import child, durable
from ..errors import FeatureFileError
from . import marks
from .units import folder_of, has_units

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger("headstart")

_TRIES, _PAUSE = 5, 0.05
"""A shard that ends has the folder for itself for the moment in which it is removed."""


@contextlib.contextmanager
def exclusive(out: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep the folder of units of `out` to ourselves; it is made, and removed again if empty.

    The lock is one of the operating system on the folder itself, so it ends with the process that
    holds it, however that ends. Where the file system knows no locks the run goes on without:
    published units, the check of what is read while sealing, and the atomic rename still keep two
    runs from harming each other's files.
    """
    with _held(out, wait=wait, together=False):
        marks.sweep(out)
        yield


@contextlib.contextmanager
def shared(out: Path) -> Iterator[None]:
    """The same together with others that add units, and seal nothing."""
    with _held(out, wait=False, together=True):
        yield


@contextlib.contextmanager
def at_work(out: Path, lock: AbstractContextManager[None]) -> Iterator[None]:
    """Work on `out` under a lock; an interrupt says what there is of it."""
    try:
        with lock:
            yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            "what is finished is kept, and the same command goes on from there"
            if has_units(out) or out.exists()
            else "nothing was finished yet"
        ) from error
    finally:
        child.dismiss()


@contextlib.contextmanager
def _held(out: Path, *, wait: bool, together: bool) -> Iterator[None]:
    folder = folder_of(out)
    descriptor, locked = None, False
    _make(folder)
    if sys.platform != "win32":  # there, runs are kept apart by nothing but care
        while (held := _locked(folder, out, wait=wait, together=together)) is None:
            _make(folder)
        descriptor, locked = held
    try:
        # A worker of a cluster may publish a unit though the run that gave it out was killed.
        durable.sweep(folder)
        durable.sweep(out.parent, out.name, alone=locked and not together)
        yield
    finally:
        if not together or (descriptor is not None and locked and _alone(descriptor)):
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails, as it should, while there are units in it
        if descriptor is not None:
            _unlock(descriptor)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise durable.cannot_write(folder, error) from error


def _locked(folder: Path, out: Path, *, wait: bool, together: bool) -> tuple[int, bool] | None:
    """A descriptor of `folder`, and whether it is locked; None if it was removed meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        locked = _lock(descriptor, out, wait=wait, together=together)
    except BaseException:  # Ctrl-C while waiting, for one
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor, locked
    _unlock(descriptor)
    return None


def _lock(descriptor: int, out: Path, *, wait: bool, together: bool) -> bool:
    kind = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    for tries in range(_TRIES if together else 1, 0, -1):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return False  # no locks here
            if tries > 1:
                time.sleep(_PAUSE)
            elif not wait:
                raise FeatureFileError(
                    f"{out}: another run of headstart is using it; wait until it has finished, or "
                    f"choose another output"
                ) from error
        else:
            return True
    _log.info("%s: waiting for another process that adds to it", out)
    fcntl.flock(descriptor, kind)
    return True


def _alone(descriptor: int) -> bool:
    """Whether nobody shares the lock of `descriptor`, which is ours alone from here on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    # A process that was forked meanwhile has the descriptor too: to close ours would not do.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
