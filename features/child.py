"""Processes that may die without taking this one along, and that end when this one has died.

And what a process that was forked needs: properties that no other thread holds.
"""

import functools
import multiprocessing.spawn
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .errors import FeatureFileError, HeadstartError

_FAILED: Final = 3
"""Exit code of a child that wrote one line to say why."""
_WHY: Final = "why: "  # begins that line: HDF5 may complain before and after it
_SECONDS_BETWEEN_LOOKS: Final = 0.1

_START: Final = (
    f"import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import main; main()"
)

T = TypeVar("T")


class ChildDied(Exception):
    """The child did not say why; the message says how it ended."""


def call(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own and wait for it.

    The HDF5 library is known to crash its process when the disk fills or fails under it. In a
    child that costs a message; in the parent it would cost the run. (A pool of worker processes
    would do as well, and takes 0.3 s longer.) A HeadstartError of the function is raised here as a
    FeatureFileError; if the child ended in any other way, ChildDied.

    Where no Python can be started, as inside a program that embeds it, it is a plain call.
    """
    python = interpreter()
    if python is None:
        function(*arguments)
        return
    sent = pickle.dumps(search_path()) + pickle.dumps((os.getpid(), function, arguments))
    try:
        # -P: a file pickle.py in the working folder must not stand in for the real one.
        child = subprocess.run(
            [python, "-P", "-c", _START], input=sent, capture_output=True, check=False
        )
    except OSError as error:
        raise ChildDied(f"could not be started: {python}: {error.strerror}") from error
    said = child.stderr.decode("utf-8", "surrogateescape").strip().splitlines()
    why = [line.removeprefix(_WHY) for line in said if line.startswith(_WHY)]
    if child.returncode == _FAILED and why:
        raise FeatureFileError(why[0])
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise ChildDied(f"was ended by {name} (a full disk, or no memory?)")
    if child.returncode:
        raise ChildDied(f"failed: {said[-1] if said else child.returncode}")


def interpreter() -> str | None:
    """The Python that runs this process, or None where only a program that embeds it is known.

    Such a program would take our arguments for its own, and perhaps serve for ever.
    `multiprocessing.set_executable` names its Python.
    """
    python = os.fsdecode(multiprocessing.spawn.get_executable() or "")
    name = os.path.basename(python).casefold()
    known = "python" in name or "pypy" in name
    return (
        python if known and not getattr(sys, "frozen", False) and os.path.exists(python) else None
    )


def search_path() -> list[str]:
    """Where another process finds the modules that this one has found, be it by `sys.path` alone.

    Those of Python itself come first, so that a file random.py beside a notebook does not stand in
    for its own; the working folder comes last, for the same reason.
    """
    own = Path(os.__file__).parent
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was deleted
        here = ""
    places = [os.path.join(here, place) if here else place for place in sys.path]
    places = [os.path.normpath(place) for place in places if os.path.isabs(place)]

    def rank(place: str) -> int:
        return 0 if Path(place) in (own, own / "lib-dynload") else 2 if place == here else 1

    return sorted(dict.fromkeys(places), key=rank)


def main() -> None:
    """Make the call on standard input; if it fails, say why in one line on standard error."""
    parent, function, arguments = pickle.load(sys.stdin.buffer)  # from our own parent
    end_with(parent)
    try:
        function(*arguments)
    except HeadstartError as error:
        line = _WHY + " ".join(str(error).split("\n")) + "\n"
        sys.stderr.buffer.write(line.encode("utf-8", "surrogateescape"))
        sys.exit(_FAILED)


def end_with(parent: int) -> None:
    """End this process as soon as its parent, the process `parent`, has ended.

    Nobody can tell its children when a process is killed outright. Left alone, they would go on
    writing beside the run that the user starts next. (Windows tells no process that its parent
    has died; there a helper finishes what it has in hand.)
    """
    if os.name != "nt":
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def after_fork(function: Callable[[], None]) -> None:
    """Have a function called in every process that is forked from this one.

    Of the threads of its parent it has the one that forked: locks that others held stay held, and
    work that was given to them is never done.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, where there is no fork
        os.register_at_fork(after_in_child=function)


class once(functools.cached_property[T]):  # noqa: N801
    """A cached property without a lock, as it is since Python 3.12.

    That of Python 3.11 has one lock for all instances of a class, held while a file is read or a
    backbone is loaded. All other instances wait meanwhile, and a process that is forked waits for
    ever.
    """

    if not TYPE_CHECKING:  # its types are those of functools

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            if self.attrname not in instance.__dict__:
                instance.__dict__[self.attrname] = self.func(instance)
            return instance.__dict__[self.attrname]
