"""Processes that may die without taking this one along, and that end when this one has died."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from .errors import FeatureFileError, HeadstartError

_FAILED: Final = 3
"""Exit code of a child that wrote one line to say why."""
_WHY: Final = "why: "  # begins that line: HDF5 may complain before and after it
_SECONDS_BETWEEN_LOOKS: Final = 0.1


class ChildDied(Exception):
    """The child did not say why; the message says how it ended."""


def call(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own and wait for it.

    The HDF5 library is known to crash its process when the disk fills or fails under it. In a
    child that costs a message; in the parent it would cost the run. (A pool of worker processes
    would do as well, and takes 0.3 s longer.) A HeadstartError of the function is raised here as a
    FeatureFileError; if the child ended in any other way, ChildDied.
    """
    # -P: a file numpy.py in the working folder must not stand in for the real one.
    child = subprocess.run(
        [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
        input=pickle.dumps((os.getpid(), function, arguments)),
        capture_output=True,
        check=False,
    )
    said = child.stderr.decode("utf-8", "surrogateescape").strip().splitlines()
    why = [line.removeprefix(_WHY) for line in said if line.startswith(_WHY)]
    if child.returncode == _FAILED and why:
        raise FeatureFileError(why[0])
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise ChildDied(f"was ended by {name} (a full disk, or no memory?)")
    if child.returncode:
        raise ChildDied(f"failed: {said[-1] if said else child.returncode}")


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
