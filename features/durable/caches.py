"""Where things are kept that can be computed, or fetched, again; and who uses them.

The folder can be deleted at any time, but for what a run that is at work has in it: `remove` leaves
that alone. Who uses a thing holds a lock of the operating system on a folder that stands for it in
``used``, which ends with the process, however that ends; its date is that of the last use (the disk
itself may not note when a file was read).
"""

import contextlib
import errno
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from ..errors import WrongUsage, first_line
from . import temporary_beside

if sys.platform != "win32":
    import fcntl

USED: Final = "used"
"""Folder of the marks."""

_OFTEN_S: Final = 60.0
"""So often at most a further use is noted."""

_MOST_HELD: Final = 100
"""Marks that a process holds: each takes one of its open files, of which some systems give 256."""

_RECENT_S: Final = 24 * 3600.0
"""Where folders cannot be locked (Windows, some network disks), a use counts for so long."""

_TRIES, _PAUSE = 5, 0.05
"""Who removes a thing has its mark for a moment."""

_held: Final[dict[Path, tuple[int | None, float]]] = {}
"""What this process uses: the mark, if it is locked, and when the last use was noted."""


def home() -> Path:
    """The folder of all caches: ``$HEADSTART_CACHE``, or one in the user's cache folder."""
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named)
    import platformdirs  # not needed where nothing is to be embedded

    try:
        return platformdirs.user_cache_path("headstart")
    except RuntimeError as error:  # no HOME, and no entry for this user
        raise WrongUsage(
            f"there is no folder for caches: {first_line(error)}; name one by HEADSTART_CACHE"
        ) from error


def folder(kind: str) -> Path:
    """The folder for things of one kind."""
    return home() / kind


def use(path: Path) -> None:
    """Note that what is kept at `path` is used, now and until this process ends.

    A path that is not directly in the folder of a kind is no business of the caches. What cannot be
    noted is used all the same.
    """
    path = Path(os.path.abspath(path))
    descriptor, noted = _held.get(path, (None, float("-inf")))
    if time.monotonic() - noted < _OFTEN_S:
        return
    mark = _mark(path)
    if mark is None:
        return
    _held.pop(path, None)
    with contextlib.suppress(OSError):
        if descriptor is not None and not _is_open(descriptor, mark):
            os.close(descriptor)
            descriptor = None
        mark.mkdir(parents=True, exist_ok=True)
        if descriptor is None:
            descriptor = _shared(mark)
        os.utime(mark)
    _held[path] = descriptor, time.monotonic()
    if len(_held) > _MOST_HELD:
        longest, _ = _held.pop(next(iter(_held)), (None, 0.0))
        if longest is not None:
            os.close(longest)


def last_use(path: Path) -> float | None:
    """When `path` was used last, in seconds since 1970; None if no use was noted."""
    mark = _mark(path)
    with contextlib.suppress(OSError):
        return None if mark is None else mark.stat().st_mtime
    return None


def is_used(path: Path) -> bool:
    """Whether a living process uses `path`, this one too."""
    mark = _mark(path)
    if mark is None or not mark.exists():
        return False
    with _claimed(mark) as free:
        return not free


def remove(path: Path, parts: Sequence[Path]) -> bool:
    """Remove what is kept at `path`, and all that goes with it, unless it is in use.

    Parameters
    ----------
    path : Path
        As it is told to `use`.
    parts : sequence of Path
        All that is removed. Each vanishes at once, so that nobody finds half of it.

    Returns
    -------
    bool
        Whether it was removed.

    Raises
    ------
    OSError
        If it cannot be removed.
    """
    mark = _mark(path)
    if mark is None:
        return False
    gone = []
    with _claimed(mark) as free:
        if not free:
            return False
        for part in parts:
            left = temporary_beside(part)
            with contextlib.suppress(FileNotFoundError):
                os.rename(part, left)
                gone.append(left)
        with contextlib.suppress(OSError):
            mark.rmdir()
    for left in gone:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
    return True


def forget(known: Collection[Path]) -> None:
    """Remove the marks that stand for nothing: all but those of `known`, and of what is in use."""
    marks = {_mark(path) for path in known}
    with contextlib.suppress(OSError):
        for mark in sorted(folder(USED).iterdir()):
            if mark not in marks:
                with _claimed(mark) as free, contextlib.suppress(OSError):
                    if free:
                        mark.rmdir()


def _mark(path: Path) -> Path | None:
    """The folder that stands for `path`; None if that is nothing of the caches."""
    kind = path.parent.name
    try:
        if os.path.abspath(path.parent) != os.path.abspath(folder(kind)):
            return None
        return folder(USED) / f"{kind}-{path.name}"
    except (WrongUsage, OSError):
        return None


@contextlib.contextmanager
def _claimed(mark: Path) -> Iterator[bool]:
    """Whether nobody uses what `mark` stands for, nor begins to as long as this lasts."""
    last: float | None = None
    descriptor: int | None = None
    locked: bool | None = None
    with contextlib.suppress(OSError):
        last = mark.stat().st_mtime
    with contextlib.suppress(OSError):
        mark.mkdir(parents=True, exist_ok=True)
        if sys.platform != "win32":
            descriptor = os.open(mark, os.O_RDONLY)
            locked = _lock(descriptor, fcntl.LOCK_EX)
    try:
        if locked is None:  # no locks here
            yield last is None or time.time() - last > _RECENT_S
        else:
            yield locked
    finally:
        if last is None:
            with contextlib.suppress(OSError):
                mark.rmdir()
        if descriptor is not None and sys.platform != "win32":
            if locked:  # a process that was forked meanwhile has the descriptor too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _shared(mark: Path) -> int | None:
    """A descriptor of `mark`, locked together with others that use it; None if that cannot be."""
    if sys.platform == "win32":
        return None
    for _ in range(_TRIES):
        mark.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it has just been removed
            descriptor = os.open(mark, os.O_RDONLY)
            locked = _lock(descriptor, fcntl.LOCK_SH)
            if locked and _is_open(descriptor, mark):
                return descriptor
            os.close(descriptor)
            if locked is None:
                return None
        time.sleep(_PAUSE)
    return None


def _lock(descriptor: int, kind: int) -> bool | None:
    """Whether it could be locked; None where folders cannot be."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_open(descriptor: int, mark: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(mark))
    return False
