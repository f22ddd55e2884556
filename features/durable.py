"""Durable files: a file appears whole under its name, or not at all."""

import contextlib
import errno
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from .errors import FeatureFileError, HeadstartError, first_line

_TEMPORARY: Final = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]+@(?P<host>.*)\.tmp", re.DOTALL
)
_ABANDONED_S: Final = 24 * 3600.0
"""After this long a temporary file is no one's, though a process may have its owner's number."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NOT_THERE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


def require_target(path: Path) -> None:
    """Refuse, before work is spent on a file, a name that it cannot be written under."""
    if path.is_dir():
        raise HeadstartError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise HeadstartError(f"{path.parent}: no such folder for {path.name}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise HeadstartError(f"{path.parent}: no permission to write {path.name} there")


def cannot_write(path: Path, why: Exception | str, *, full: bool = False) -> FeatureFileError:
    """The error to raise when `path` could not be written: why, and how to go on.

    `path` is what the user knows the file by, not a temporary name. h5py reports a full disk as
    OSError or RuntimeError, with the reason of the operating system somewhere inside a long text.
    """
    inside = re.search(r"error message = '([^']*)'", str(why))
    if inside:
        reason = inside[1]
    elif isinstance(why, OSError) and why.strerror:
        reason = why.strerror
    else:
        reason = first_line(why)
    remedy = "run the same command again"
    if full or reason in map(os.strerror, _FULL):
        remedy = f"make space on the disk and {remedy}"
    elif reason in map(os.strerror, _NOT_THERE):
        remedy = "choose another output"
    return FeatureFileError(
        f"{path}: cannot be written: {reason}. What was there before and the finished work are "
        f"kept; {remedy}"
    )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`.

    The bytes are on the disk before the name is, so that neither a crash nor a full disk can
    leave a half-written file under `path`. On any error the temporary file is removed and what
    stood at `path` is untouched.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def publish(path: Path, data: bytes) -> bool:
    """Write `data` under the new name `path`; False if something is there, which stays as it is."""
    temporary = temporary_beside(path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # FAT and some network file systems have no hard links. Renaming is as atomic;
            # only "first wins" becomes "last wins", and both hold the same images.
            os.replace(temporary, path)
        sync(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return True


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in `folder` under names of `temporary_beside`.

    With `name`, only what was to become the file of that name.
    """
    for left in folder.glob(".*.tmp"):
        owner = _TEMPORARY.fullmatch(left.name)
        if name is not None and (owner is None or owner["name"] != name):
            continue
        with contextlib.suppress(FileNotFoundError):
            if not _abandoned(left, owner):
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def _abandoned(left: Path, owner: re.Match[str] | None) -> bool:
    if owner and owner["host"] == platform.node() and not psutil.pid_exists(int(owner["pid"])):
        return True
    return time.time() - left.stat().st_mtime > _ABANDONED_S


def state(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file takes the place of this one; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None  # if this is an error worth telling, reading the file will tell it
    return status.st_ino, status.st_mtime_ns, status.st_size


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk (folders only where the system can open them)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A new name for what will be `path`; it says which process of which machine is at work."""
    owner = f"{os.getpid()}-{secrets.token_hex(4)}@{platform.node()}"
    return path.with_name(f".{path.name}.{owner}.tmp")
