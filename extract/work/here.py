"""Units made in this process: while one is written, the engine is at the next."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from ...features.journal.known import Known
from . import unit

WIDTH: Final = 2
"""Units at a time."""


@contextlib.contextmanager
def executor(
    job: unit.Job, known: Known, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Executor]:
    """Threads of this process; what they have in hand is dropped if the run fails."""
    worker = unit.Worker(job, known, progress)
    unit.workers[job.run] = worker
    threads = ThreadPoolExecutor(WIDTH, thread_name_prefix="unit")
    try:
        yield threads
    except BaseException:
        worker.close(at_once=True)
        raise
    finally:
        try:
            threads.shutdown(wait=True, cancel_futures=True)
            worker.close()
        finally:
            del unit.workers[job.run]
