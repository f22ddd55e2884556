"""Units made by whatever has the interface of `concurrent.futures.Executor`."""

import contextlib
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import joblib

from ....features.errors import HeadstartError, first_line
from .crew import Cluster


@contextlib.contextmanager
def crew(executor: Executor) -> Iterator[Cluster]:
    """The workers of an executor, which is left open: it is another's."""
    yield _Given(executor)


class _Given(Cluster):
    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor = executor
        self.name = type(executor).__name__
        sizes = (getattr(executor, name, None) for name in ("num_workers", "_max_workers"))
        self._workers = next((size for size in sizes if isinstance(size, int) and size > 0), 0)
        if hasattr(executor, "_processes") and self._workers:  # all of them are on this machine
            self.share = max(1, joblib.cpu_count() // self._workers)

    def width(self) -> int:
        return self._workers or multiprocessing.cpu_count()

    def send(self, packed: bytes) -> "Future[Any]":
        try:
            return self._executor.submit(pickle.loads, packed)
        except BrokenExecutor as error:
            self.refuse(error)
        except RuntimeError as error:
            raise HeadstartError(
                f"{self.name}: takes no more work ({first_line(error)}); the finished work is "
                f"kept: run the same command again with an executor that is open"
            ) from error

    def forget(self, packed: bytes) -> None:
        pickle.loads(packed)  # threads have it in this process

    def explained(self, error: Exception) -> Exception:
        if isinstance(error, BrokenExecutor):
            return HeadstartError(
                f"{self.name}: a worker process died (was it killed because memory ran out?), and "
                f"it gives out no more work. The finished work is kept: run the same command again"
            )
        return super().explained(error)
