"""Units made by worker processes on this machine, each with a backbone of its own in memory."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ...features.child import end_with, interpreter, search_path
from ...features.errors import HeadstartError


@contextlib.contextmanager
def executor(workers: int, out: Path) -> Iterator[Executor]:
    """As many processes; they are gone at the end, at once if the run fails."""
    from loky import ProcessPoolExecutor  # 0.1 s that a run in this process does without

    _require_possible(workers)
    with _modules_found():
        processes = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))
        started = processes.submit(os.getpid)  # with the first task all of them start
    failed = True
    try:
        started.result()
        yield processes
        failed = False
    except BrokenProcessPool as error:
        raise HeadstartError(
            f"{out}: a worker process died (was it killed because memory ran out?). The finished "
            f"work is kept: run the same command again, or with fewer --workers"
        ) from error
    finally:
        processes.shutdown(wait=True, kill_workers=failed)


def _begin(parent: int) -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides, and ends the others with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def _require_possible(workers: int) -> None:
    why = None
    if multiprocessing.current_process().daemon:
        why = "this process is itself a daemon of multiprocessing, which can have no processes"
    elif interpreter() is None:
        why = "the program that this Python runs in is not known to start another one"
    else:
        try:
            os.getcwd()
        except FileNotFoundError:
            why = "the working folder, in which they start, no longer exists"
    if why:
        raise HeadstartError(f"workers {workers}: {why}; leave them out, or use 1")


@contextlib.contextmanager
def _modules_found() -> Iterator[None]:
    """Let processes that start find the modules that are found here, be it by `sys.path` alone."""
    names = ("PYTHONPATH", "PYTHONSAFEPATH")
    before = {name: os.environ.get(name) for name in names}
    # Safe: a file random.py in the working folder must not stand in for Python's own.
    os.environ.update(zip(names, (os.pathsep.join(search_path()), "1"), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
