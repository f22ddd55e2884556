"""How much memory is free; what was freed -> the system: else it counts as this process's own."""

import contextlib
import ctypes
from pathlib import Path
from typing import Final

import psutil

_GROUP: Final = Path("/sys/fs/cgroup")


def give_back() -> None:
    """Have the allocator return what it keeps of freed arrays, where it can be asked to.

    glibc keeps arrays of up to 32 MB for the next of their size: of 25,000 rows and 100 classes
    130 MB, when the next thing that is needed is a copy of the matrix.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> int:
    """Bytes available without swapping, also in a container with a limit of its own."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no such limit
        limit, used = (int((_GROUP / f"memory.{one}").read_text()) for one in ("max", "current"))
        free = min(free, max(limit - used + _files(), 0))
    return free


def _files() -> int:
    """Of what a container uses, the pages of files that nobody uses now: they go when asked for."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_GROUP / "memory.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "inactive_file":
                return int(number)
    return 0
