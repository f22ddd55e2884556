"""Opening a file of ours for reading: known names, plain storage, sizes that the file can hold.

HDF5 can point into other files (links, external storage, virtual datasets), hide gigabytes in a
few bytes (compression, unallocated chunks) and load plugins (unknown filters). None of that occurs
in our files, so whatever has it is refused before any data is read (`rules.foreign`).

HDF5 also marks a file that is open for writing, and opens no marked file; the mark stays when that
program is killed. It is read as if it had none: checksums and digest say if its rows are sound.
"""

import contextlib
import errno
import functools
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from . import durable, layout, rules
from .errors import FeatureFileError, first_line
from .origin import Origin, environment_fault
from .provenance import read as read_provenance
from .provenance.augmentation import Augmentation

_KINDS = {
    layout.FORMAT: "headstart feature file",
    layout.UNIT_FORMAT: "unit of headstart work",
}
# An attribute sits in the object header, which HDF5 limits to 64 KiB a message.
_MAX_ATTRIBUTE_BYTES = 1 << 16

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_VERSION, _OFFSET_BYTES, _FLAGS = 8, 9, 11
"""Where they stand in the superblock (HDF5 file format 3.0, section II.A)."""
_MARKED_VERSION: Final = 3  # earlier ones have no mark
_CHECKSUM: Final = 4  # bytes, at the end

_REMEDIES: Final = {
    errno.EACCES: "ask for permission to read it, or close it where it is open",
    errno.EPERM: "ask for permission to read it, or close it where it is open",
    errno.EMFILE: "let this process open more files (`ulimit -n`)",
    errno.ENFILE: "close programs that have many files open",
    errno.ENAMETOOLONG: "name another file",
    errno.ELOOP: "its links go in a circle; name another file",
    errno.ENOMEM: "free memory, and try again",
}
_OTHERWISE: Final = "its disk or the way to it fails; try again when it is back"
_NO_MEMORY: Final = re.compile("allocation failed|allocate memory|space available for allocation")


class AnotherVersion(FeatureFileError):
    """A file of ours in a version of its format that this headstart does not read."""

    def __init__(self, path: Path, found: int | None, read: int) -> None:
        self.versions = f"format version {found}; this headstart reads version {read}"
        super().__init__(
            f"{path}: {self.versions}; make it again with `headstart extract SOURCE -o {path} "
            f"--fresh`, or use the version of headstart that wrote it"
        )


class CannotRead(FeatureFileError):
    """A file that the system does not let us read now; what is in it may be sound."""


@contextlib.contextmanager
def opened(
    path: Path, expected_format: str, *, sound: tuple[int, int, int] | None = None
) -> Iterator[h5py.File]:
    """Open `path` read-only, check what it is, and report damage met while it is read.

    A file that is missing, of another kind or version, holds anything it should not, lacks a
    dataset or fails a checksum while it is read is a FeatureFileError; one that cannot be read at
    all is a CannotRead. What it holds is not checked again where its `durable.state` is still the
    one in which it was found `sound`.
    """
    kind = _KINDS[expected_format]
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FeatureFileError(f"{path}: is a folder or device, not a {kind}")
        with _file(path) as file:
            _check_kind(file, path, kind, expected_format)
            if sound is None or durable.state(path) != sound:
                wrong = rules.foreign(file, expected_format, os.path.getsize(path))
                if wrong:
                    raise FeatureFileError(f"{path}: damaged or foreign: {wrong}")
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FeatureFileError(
            f"{path}: no such file; `headstart extract` makes feature files"
        ) from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        reason = why_unreadable(error)
        if reason:
            raise CannotRead(f"{path}: cannot be read: {reason}") from error
        if not is_hdf5(path):
            raise FeatureFileError(
                f"{path}: not a {kind} (not HDF5 at all); `headstart extract` makes them"
            ) from error
        if marked(path):
            raise CannotRead(
                f"{path}: another program has it open for writing, or was killed while it had, and "
                f"it cannot be read like this ({first_line(error)}); close it there, or make it "
                f"again with `headstart extract SOURCE -o {path} --fresh`"
            ) from error
        raise FeatureFileError(f"{path}: damaged: {first_line(error)}") from error


@contextlib.contextmanager
def _file(path: Path) -> Iterator[h5py.File]:
    with contextlib.ExitStack() as closing:
        try:
            # Some file systems know no locks, and reading needs none: a sealed file is never
            # written again.
            file = h5py.File(path, "r", locking=False)
        except OSError as error:
            # Or this very process has it open in another way, which HDF5 wants to be the same.
            if not marked(path) and "locking flag" not in str(error):
                raise
            file = h5py.File(closing.enter_context(_Unmarked(path)), "r")
        yield closing.enter_context(file)


def why_unreadable(error: BaseException) -> str:
    """Why the system did not let a file be read, and what to do; "" if the error is another.

    h5py raises nearly any exception for it, with the number of the system's error in the text.
    """
    inside = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(inside[1]) if inside else 0)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        number = errno.ENOMEM
    return f"{os.strerror(number)}; {_REMEDIES.get(number, _OTHERWISE)}" if number else ""


def replaceable(path: Path) -> bool:
    """Whether `path` is a feature file, be it of another version or damaged beyond opening.

    One that cannot be read now is a CannotRead.
    """
    if not is_hdf5(path):
        return False
    try:
        with _file(path) as file:
            return text_attribute(file, layout.FORMAT_ATTRIBUTE) == layout.FORMAT
    except (OSError, RuntimeError, MemoryError) as error:
        reason = why_unreadable(error)
        if reason:
            raise CannotRead(f"{path}: cannot be read: {reason}") from error
        return True


def _check_kind(file: h5py.File, path: Path, kind: str, expected_format: str) -> None:
    if text_attribute(file, layout.FORMAT_ATTRIBUTE) != expected_format:
        raise FeatureFileError(
            f"{path}: an HDF5 file, but not a {kind}; `headstart extract` makes them"
        )
    version = integer_attribute(file, layout.VERSION_ATTRIBUTE)
    if version != layout.VERSIONS[expected_format]:
        raise AnotherVersion(path, version, layout.VERSIONS[expected_format])


def text_attribute(file: h5py.File, name: str) -> str:
    """A text attribute of the root group, or "" if it is missing, no text or overlong."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return ""
    attribute = h5py.h5a.open(file.id, name.encode())
    plain = attribute.shape == () and attribute.dtype.kind in "SO"
    if not plain or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
        return ""
    value = file.attrs[name]
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode("utf-8")
        return ""
    return value if isinstance(value, str) else ""


def origin_of(file: h5py.File, name: str) -> Origin:
    """What made the vectors of a file, called `name` in messages; call it inside `opened`."""
    try:
        environment = json.loads(text_attribute(file, layout.ENVIRONMENT_ATTRIBUTE))
        fault = environment_fault(environment)
    except (ValueError, RecursionError) as error:
        fault = f"cannot be read: {first_line(error)}"
    if fault:
        raise FeatureFileError(f"{name}: damaged or foreign: the recorded environment {fault}")
    try:
        provenance = read_provenance(text_attribute(file, layout.PROVENANCE_ATTRIBUTE))
        views = Augmentation.from_json(text_attribute(file, layout.AUGMENTATION_ATTRIBUTE))
    except FeatureFileError as error:
        raise FeatureFileError(f"{name}: damaged or foreign: {error}") from error
    canary = whole(file, layout.CANARY, name)
    if not provenance.takes(canary):
        raise FeatureFileError(f"{name}: damaged or foreign: its canary is empty, or of others")
    return Origin(provenance, environment, canary, name, augmentation=views)


def whole(file: h5py.File, dataset: str, name: str) -> NDArray[Any]:
    """A whole dataset, if it keeps its rules; call it inside `opened`."""

    @functools.cache
    def read(one: str) -> NDArray[Any]:
        array: NDArray[Any] = file[one][()]
        return array

    for fault in rules.broken(dataset, read):
        raise FeatureFileError(f"{name}: damaged or foreign: {dataset}: {fault}")
    return read(dataset)


def integer_attribute(file: h5py.File, name: str) -> int | None:
    """An integer attribute of the root group; None if it is missing or of another type."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or attribute.dtype.kind not in "iu":
        return None
    return int(file.attrs[name])


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a readable file that starts as HDF5 does."""
    with contextlib.suppress(OSError, ValueError):
        # A pipe would be waited for.
        return stat.S_ISREG(os.stat(path).st_mode) and bool(h5py.is_hdf5(path))
    return False


def marked(path: Path) -> bool:
    """Whether a program opened this file for writing, and has not closed it."""
    with open(path, "rb") as file:
        head = file.read(_FLAGS + 1)
    return (
        len(head) > _FLAGS
        and head.startswith(_SIGNATURE)
        and head[_VERSION] == _MARKED_VERSION
        and head[_FLAGS] != 0
    )


class _Unmarked(io.FileIO):
    """A file without its mark, if it has one, for `h5py.File`; on the disk nothing changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._superblock = b""
        if not marked(path):
            return
        head = bytearray(self.read(1 << 8) or b"")
        length = 12 + 4 * head[_OFFSET_BYTES]  # of what the checksum covers
        head[_FLAGS] = 0
        checksum = lookup3(bytes(head[:length])).to_bytes(_CHECKSUM, "little")
        self._superblock = bytes(head[:length]) + checksum

    def readinto(self, buffer: Any, /) -> int | None:
        """Read on; the superblock as it was before the file was marked."""
        start = self.tell()
        count = super().readinto(buffer)
        own = self._superblock[start : start + (count or 0)]
        memoryview(buffer)[: len(own)] = own
        return count


def lookup3(data: bytes) -> int:
    """Jenkins' checksum of 32 bits, as HDF5 keeps it of its metadata (`hashlittle`, seed 0)."""
    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    parts = -(-len(data) // 12)
    words = np.frombuffer(data.ljust(12 * parts, b"\0"), "<u4").reshape(-1, 3).tolist()
    for part, (x, y, z) in enumerate(words):
        a, b, c = (a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF
        a, b, c = _final(a, b, c) if part == parts - 1 else _mix(a, b, c)
    return c


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in (4, 6, 8, 16, 19, 4):
        a = (a - c & 0xFFFFFFFF) ^ _turned(c, turn)
        c = c + b & 0xFFFFFFFF
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _turned(b, turn) & 0xFFFFFFFF
        a, b, c = b, c, a
    return c, a, b


def _turned(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF
