"""Threads that nobody has to wait for, neither after an interrupt nor at the end of a process."""

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Task = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """Like a ThreadPoolExecutor, of which one can let go.

    Python waits for the threads of that one before it ends, and a decoder may sit in native code
    for longer than anybody wants to wait. These are daemons, so that Python does not; what they
    still do has no effect but on their own future.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._unfinished: set[Future[Any]] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(
        self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs
    ) -> Future[_T]:
        """Have a function called; see `concurrent.futures.Executor.submit`."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise CancelledError("these threads have been closed")
            self._unfinished.add(future)
            future.add_done_callback(self._unfinished.discard)
            self._tasks.put((future, lambda: function(*arguments, **named)))
            if len(self._threads) < self._count:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and end the threads; see `concurrent.futures.Executor.shutdown`."""
        with self._lock:
            self._closed = True
        if cancel_futures:
            self._drop_waiting()
        for _ in self._threads:
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def abandon(self) -> None:
        """Let go: whoever waits for a result gets a CancelledError at once."""
        self.shutdown(wait=False, cancel_futures=True)
        for future in tuple(self._unfinished):
            with contextlib.suppress(InvalidStateError):  # it has just ended
                if not future.cancel():
                    future.set_exception(CancelledError())
        self._threads.clear()

    def _drop_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                if (task := self._tasks.get_nowait()) is not None:
                    task[0].cancel()
                    task[0].set_running_or_notify_cancel()  # only this tells those who wait

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what has been submitted, unless there is an error."""
        if kind is None:
            self.shutdown()
        else:
            self.abandon()


def _work(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, call = task
        del task  # idle, it would keep the last image in memory
        if future.set_running_or_notify_cancel():
            with contextlib.suppress(InvalidStateError):  # it has been abandoned
                _settle(future, call)
        del future, call


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is for those who asked
        future.set_exception(error)
    else:
        future.set_result(result)
