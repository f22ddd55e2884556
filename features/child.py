"""Processes that may die without taking this one along, and that end when this one has died.

And what a process that was forked needs: properties that no other thread holds.
"""

import contextlib
import functools
import io
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
from .journal import progress

_FAILED: Final = 3
"""Exit code of a child that wrote one line to say why."""
_WHY: Final = "why: "  # begins that line: HDF5 may complain before and after it
_SECONDS_BETWEEN_LOOKS: Final = 0.1

_START: Final = (
    f"import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import main; main()"
)

_waiting: Final[list[tuple[int, Callable[..., object], subprocess.Popen[bytes]]]] = []
"""The process that `prepare` started, if it has not been called: whose, for what, and itself."""

T = TypeVar("T")


class ChildDied(Exception):
    """The child did not say why; the message says how it ended."""


def call(function: Callable[..., object], *arguments: Any) -> None:
    """Call a function in a process of its own and wait for it.

    The HDF5 library is known to crash its process when the disk fills or fails under it. In a
    child that costs a message; in the parent it would cost the run. (A pool of worker processes
    would do as well, and takes 0.3 s longer.) A HeadstartError of the function is raised here as a
    FeatureFileError; if the child ended in any other way, ChildDied.

    Where no Python can be started, as inside a program that embeds it, it is a plain call. One that
    `prepare` has started need not be waited for.
    """
    python = interpreter()
    if python is None:
        function(*arguments)
        return
    shown = progress.shown()
    delay = progress.DELAY if shown else None
    head, sent = _head(function), io.BytesIO()
    sent.write(head)
    pickle.dump((delay, arguments), sent)  # once: columns of a million rows are 100 MB
    waiting = _taken(function)
    try:
        if waiting is not None:
            child = _ended(waiting, bytes(sent.getbuffer()[len(head) :]))
        else:
            child = subprocess.run(
                _command(python),
                input=sent.getbuffer(),
                stdout=_output(),
                stderr=subprocess.PIPE,
                check=False,
            )
    except OSError as error:
        raise ChildDied(f"could not be started: {python}: {error.strerror}") from error
    finally:
        if shown:  # one that was killed has left its bar
            progress.wipe()
    said = child.stderr.decode("utf-8", "surrogateescape").strip().splitlines()
    why = [line.removeprefix(_WHY) for line in said if line.startswith(_WHY)]
    if child.returncode == _FAILED and why:
        raise FeatureFileError(why[0])
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise ChildDied(f"was ended by {name} (a full disk, or no memory?)")
    if child.returncode:
        raise ChildDied(f"failed: {said[-1] if said else child.returncode}")


def prepare(function: Callable[..., object]) -> None:
    """Start the process of the next call of `function` now, so that it has started by then.

    It waits for its arguments, and ends with this process, or by `dismiss`.
    """
    python = interpreter()
    if python is None or any(
        (owner, prepared, process.poll()) == (os.getpid(), function, None)
        for owner, prepared, process in _waiting
    ):
        return
    dismiss()
    with contextlib.suppress(OSError):  # `call` will tell
        pipe = subprocess.PIPE
        process = subprocess.Popen(_command(python), stdin=pipe, stdout=_output(), stderr=pipe)
        _waiting.append((os.getpid(), function, process))
        if process.stdin is not None:
            process.stdin.write(_head(function))
            process.stdin.flush()


def dismiss() -> None:
    """End the process that `prepare` started, if it still waits."""
    while _waiting:
        owner, _, process = _waiting.pop()
        if owner == os.getpid():
            with contextlib.suppress(OSError):
                process.kill()
            process.communicate()


def _taken(function: Callable[..., object]) -> subprocess.Popen[bytes] | None:
    """The process that waits for a call of `function`, if there is one and it lives."""
    with contextlib.suppress(IndexError):  # another thread was faster
        owner, prepared, process = _waiting.pop()
        if owner == os.getpid() and prepared is function and process.poll() is None:
            return process
        _waiting.append((owner, prepared, process))
        dismiss()
    return None


def _ended(process: subprocess.Popen[bytes], sent: bytes) -> subprocess.CompletedProcess[bytes]:
    """What became of a process that was waiting for what it is sent."""
    try:
        out, err = process.communicate(sent)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _output() -> int:
    """Where a child shows its bars: our terminal, where they are wanted."""
    return sys.stderr.fileno() if progress.shown() else subprocess.PIPE


def _command(python: str) -> list[str]:
    # -P: a file pickle.py in the working folder must not stand in for the real one.
    return [python, "-P", "-c", _START]


def _head(function: Callable[..., object]) -> bytes:
    """What a child is sent before the arguments of its call."""
    return pickle.dumps(search_path()) + pickle.dumps((os.getpid(), function))


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
    parent, function = pickle.load(sys.stdin.buffer)  # from our own parent
    end_with(parent)
    # Where bars go goes nothing else: libraries print.
    bars = os.fdopen(os.dup(1), "w", errors="replace")
    os.dup2(2, 1)
    try:
        delay, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:  # the call is not made after all
        return
    try:
        progress.DELAY = delay or 0.0
        with progress.showing_progress(delay is not None, stream=bars):
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
