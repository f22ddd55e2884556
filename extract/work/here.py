"""Units made in this process: while one is written, the engine is at the next."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from ...features.journal.known import Known
from ...features.records import must_read
from ..sources.image import ImageReference
from . import unit

WIDTH: Final = 2
"""Units at a time."""

_LOOK_EVERY: Final = 20.0
"""Seconds between two looks at what other runs have published at the same URL."""
_LOOK_SHARE: Final = 20.0
"""As many times longer than a look itself."""


@contextlib.contextmanager
def executor(
    job: unit.Job, known: Known, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Executor]:
    """Threads of this process; what they have in hand is dropped if the run fails."""
    worker = unit.Worker(job, known, progress, _Others(job, known, progress).left)
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


class _Others:
    """What other runs on the same output, a URL, have made since this one began."""

    def __init__(self, job: unit.Job, known: Known, progress: Callable[[int], None]) -> None:
        self._job, self._progress = job, progress
        self._before = self._now = known
        self._looking = threading.Lock()
        self._next = time.monotonic() + _LOOK_EVERY

    def left(self, references: unit.References) -> unit.References:
        """Those that nobody has made."""
        if not self._job.output.far:
            return references
        with self._looking:
            started = time.monotonic()
            if started >= self._next:
                if self._job.output.pull():
                    self._now = self._now.again()
                ended = time.monotonic()
                self._next = ended + max(_LOOK_EVERY, _LOOK_SHARE * (ended - started))
        left = [image for image in references if not self._made(image)]
        self._progress(len(references) - len(left))
        return left

    def _made(self, image: ImageReference) -> bool:
        stat = image.stat()
        seen = self._now.seen(stat)
        if seen is None or must_read(seen) or not must_read(self._before.seen(stat)):
            return False
        views = self._job.augmentation.of_split(image.split)
        return bool(seen.reason) or not self._now.lacking(seen.digest, views)
