"""Durable files: a file appears whole under its name, or not at all."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import HeadstartError, first_line
from .unwritable import cannot_write as cannot_write

_TEMPORARY: Final = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>[0-9]{1,9})-[0-9a-f]+@(?P<host>.*)\.tmp", re.DOTALL
)
_LONG: Final = 48
"""Bytes of a name from which on a temporary name has a digest of it: file systems allow 143 to 255
bytes in all."""

_ABANDONED_S: Final = 24 * 3600.0
"""After this long a temporary file is no one's, though a process may have its owner's number."""

_made: Final[set[Path]] = set()
"""All temporary names of this process."""


def require_target(path: Path, *also: str) -> Path:
    """Refuse, before work is spent on a file, a name that it cannot be written under.

    `also` are endings of further names that the work needs beside it. What comes back is the file
    that is going to be replaced: where `path` is a link, it is written through, and stays.
    """
    try:
        _ = path.is_absolute() or os.getcwd()
    except FileNotFoundError as error:
        raise HeadstartError(
            f"{path}: the working folder, where it would lie, is gone; give an absolute path"
        ) from error
    target = followed(path)
    if os.path.isdir(target):
        raise HeadstartError(f"{path}: is a folder; name a file in it")
    ends = path.suffix.lower(), target.suffix.lower()
    if all(ends) and ends[0] != ends[1]:
        raise HeadstartError(
            f"{path}: is a link to {target}, which would be replaced by a file of another kind; "
            f"choose another output"
        )
    if not os.path.isdir(target.parent):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", str(path)):
            raise HeadstartError(
                f"{path}: looks like a URL; but for feature files everything is written to this "
                f"machine: name a file here"
            )
        link = "" if target == path else f", to which {path} is a link"
        raise HeadstartError(
            f"{target.parent}: no such folder for {target.name}{link}; make it first"
        )
    try:
        found = _mode(target)
        _mode(temporary_beside(target))
        for end in also:
            _mode(target.with_name(target.name + end))
    except (OSError, ValueError) as error:
        raise _no_name(path, error) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise HeadstartError(f"{target.parent}: no permission to write {target.name} there")
    if found is None:
        return target
    if stat.S_ISLNK(found):
        raise HeadstartError(f"{path}: is a link that leads back to itself; name a file")
    if not stat.S_ISREG(found):
        raise HeadstartError(
            f"{path}: is a pipe or a device; a finished file takes the place of what was there "
            f"before, so name a file"
        )
    if not os.access(target, os.W_OK):
        raise HeadstartError(
            f"{path}: is write-protected; make it writable, or choose another output"
        )
    return target


def followed(path: Path) -> Path:
    """The file that is replaced when `path` is written: where a link leads, if it is one."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _no_name(path: Path, error: OSError | ValueError) -> HeadstartError:
    if isinstance(error, ValueError):  # a NUL in it, or half a surrogate pair
        why = "no file can have this name"
    elif error.errno == errno.ENAMETOOLONG:
        size = len(os.fsencode(path.name))
        why = f"the name is too long ({size} bytes, and the work needs longer ones beside it)"
    else:
        why = first_line(error.strerror or error)
    return HeadstartError(f"{path}: {why}; choose another output")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; on success it takes the place of `path`.

    The bytes are on the disk before the name is, so that neither a crash nor a full disk can
    leave a half-written file under `path`. On any error the temporary file is removed and what
    stood at `path` is untouched. A link is written through; mode, owner and group of a file that
    is replaced are kept, as far as we may; what killed processes left under this name is removed.
    """
    target = followed(path)
    sweep(target.parent, target.name)
    temporary = temporary_beside(target)
    try:
        _make_private(temporary, target)
        yield temporary
        _take_after(temporary, target)
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Do as `replacing` for a file that is no feature file; an OSError becomes one line."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise cannot_write(path, error, work_kept=False) from error


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder of ours beside `path`, to be removed at the end, or after a kill."""
    target = followed(path)
    sweep(target.parent, target.name)
    folder = temporary_beside(target)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_private(temporary: Path, target: Path) -> None:
    # Nobody reads the new contents who may not read the old; we ourselves have to write them.
    mode = 0o666
    with contextlib.suppress(OSError):
        mode = (stat.S_IMODE(target.stat().st_mode) & 0o666) | 0o600
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))


def _take_after(temporary: Path, target: Path) -> None:
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(OSError, AttributeError):  # only root may; Windows has no owners
        os.chown(temporary, before.st_uid, before.st_gid)
    with contextlib.suppress(OSError):  # some file systems have no modes
        temporary.chmod(stat.S_IMODE(before.st_mode))


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


def sweep(folder: Path, name: str | None = None, *, alone: bool = False) -> None:
    """Remove what killed processes left in `folder` under names of `temporary_beside`.

    With `name`, only what was to become the file of that name. Who knows that no other process of
    this machine may write that file says `alone`: one that was killed may take seconds to die,
    while the disk is busy with what it wrote. (A folder is of somebody who lives: it may be of the
    process that waits for this one.)
    """
    wanted = None if name is None else short(name)
    for left in folder.glob(".*.tmp"):
        owner = _TEMPORARY.fullmatch(left.name)
        if wanted is not None and (owner is None or owner["name"] != wanted):
            continue
        with contextlib.suppress(OSError):  # it is gone, or it is not ours to remove
            is_folder = left.is_dir() and not left.is_symlink()
            if not _abandoned(left, owner, alone=alone and not is_folder):
                continue
            if is_folder:
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def _abandoned(left: Path, owner: re.Match[str] | None, *, alone: bool) -> bool:
    if time.time() - left.lstat().st_mtime > _ABANDONED_S:
        return True
    if owner is None or owner["host"] != short(platform.node()):
        return False
    pid = int(owner["pid"])
    return pid != os.getpid() if alone else not _lives(pid)


def _lives(pid: int) -> bool:
    import psutil  # takes a twentieth of what `info` does

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def state(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file takes the place of this one; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None  # if this is an error worth telling, reading the file will tell it
    return status.st_ino, status.st_mtime_ns, status.st_size


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk (folders only where the system can open them)."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    # Windows flushes only what may be written.
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A new name for what will be `path`; it says which process of which machine is at work."""
    owner = f"{os.getpid()}-{secrets.token_hex(4)}@{short(platform.node())}"
    made = path.with_name(f".{short(path.name)}.{owner}.tmp")
    _made.add(made)
    return made


def drop_unfinished() -> None:
    """Remove what this process has written and not finished, before it ends in an instant."""
    for left in tuple(_made):
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def short(name: str) -> str:
    """The name itself, or its beginning and a digest, so that a longer name still fits a disk."""
    whole = os.fsencode(name)
    if len(whole) <= _LONG:
        return name
    return f"{name[:8]}~{hashlib.sha256(whole).hexdigest()[:16]}"
