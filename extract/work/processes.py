"""Units made by worker processes on this machine, each with a backbone of its own in memory."""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ...features.child import end_with
from ...features.errors import HeadstartError


@contextlib.contextmanager
def executor(workers: int, out: Path) -> Iterator[Executor]:
    """As many processes; they are gone at the end, at once if the run fails."""
    from loky import ProcessPoolExecutor  # 0.1 s that a run in this process does without

    processes = ProcessPoolExecutor(workers, initializer=end_with, initargs=(os.getpid(),))
    failed = True
    try:
        yield processes
        failed = False
    except BrokenProcessPool as error:
        raise HeadstartError(
            f"{out}: a worker process died (was it killed because memory ran out?). The finished "
            f"work is kept: run the same command again, or with fewer --workers"
        ) from error
    finally:
        processes.shutdown(wait=True, kill_workers=failed)
