"""Units made by the workers of a Dask cluster."""

import contextlib
import logging
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from multiprocessing import resource_tracker
from typing import Any, Final

from ....features.errors import HeadstartError, WrongUsage, first_line
from ....features.journal.marks import Unmarked
from . import there
from .crew import Cluster, Fate
from .dask_futures import Futures, connection

_SECONDS_TO_ANSWER: Final = 10.0
"""A scheduler that is there answers in less, be its machine ever so busy."""

_SECONDS_TO_RETURN: Final = 300.0
"""Whoever looks after a scheduler has started it again by then, and its workers too."""

_SIDE_BY_SIDE: Final = 2
"""Units at a time in one worker, however many threads it has: while one is written, the engine is
at the next, and no more than these are lost with it."""

_LOGGERS: Final = ("", ".client", ".core", ".comm", ".nanny", ".worker", ".scheduler")

_log = logging.getLogger("headstart")


@contextlib.contextmanager
def crew_at(address: str) -> Iterator[Cluster]:
    """The workers of the cluster with this address of its scheduler, or of one on this machine."""
    with _quiet():
        if address != "local":
            with _connected(address) as client, contextlib.closing(_Dask(client, address)) as crew:
                yield crew
            return
        with contextlib.ExitStack() as opened:
            with _uninterrupted():
                local = opened.enter_context(_local())
                client = opened.enter_context(_connected(local))
                crew = opened.enter_context(contextlib.closing(_Dask(client, "local")))
            yield crew


def _local() -> Any:
    import dask
    from distributed import LocalCluster

    # Processes as Dask itself chooses: of few cores each has one.
    with dask.config.set({"distributed.scheduler.allowed-failures": 2}):
        try:
            return LocalCluster(  # type: ignore[no-untyped-call]
                processes=True,
                dashboard_address="127.0.0.1:0",  # or it would be at 8787, and say where it is not
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError) as error:
            raise HeadstartError(
                f"dask:local: its worker processes do not start ({first_line(error)}); in a "
                f"script, extract() has to be called under: if __name__ == '__main__':"
            ) from error


@contextlib.contextmanager
def crew_of(given: Any) -> Iterator[Cluster]:
    """The workers of a Client, or of the executor of one; both are left open."""
    client = getattr(given, "_client", given)  # that an executor has
    if getattr(given, "_shutdown", None) is True or client.status in ("closing", "closed"):
        raise WrongUsage(
            f"executor: this {type(given).__name__} is closed, and takes no more work; pass a "
            f"Client that is open"
        )
    with contextlib.closing(_Dask(client, client.scheduler.address)) as crew:
        yield crew


def _connected(cluster: Any, **how: Any) -> Any:
    from distributed import Client

    try:
        return Client(  # type: ignore[no-untyped-call]
            cluster, timeout=_SECONDS_TO_ANSWER, set_as_default=False, **how
        )
    except (OSError, ValueError, ImportError) as error:
        raise HeadstartError(
            f"--dask {cluster}: no Dask scheduler answers there ({first_line(error)}); start one "
            f"(dask scheduler), or mend the address"
        ) from error
    except TypeError as error:  # what Dask says where TLS is not set up
        raise HeadstartError(
            f"--dask {cluster}: {first_line(error)}; name its certificates in the configuration of "
            f"Dask (distributed.comm.tls), or mend the address"
        ) from error


class _Dask(Cluster):
    def __init__(self, client: Any, address: str) -> None:
        super().__init__()
        self.name = f"the Dask cluster at {address}" if address != "local" else "a Dask cluster"
        self._client = self._given = client
        self._where = client.scheduler.address
        self._marked_under = connection(client)
        self._futures = Futures()
        self._asked = 0.0
        self._threads: dict[str, int] = {}
        self._alone = False

    def width(self) -> int:
        now = time.monotonic()
        if now - self._asked >= self.patience or not self._asked:
            now_there = self._workers()
            self._threads = now_there or self._threads
            self._say_if_alone(now_there)
            self._futures.end_lost(self._client)
            self._asked = time.monotonic()
        return sum(min(_SIDE_BY_SIDE, threads) for threads in self._threads.values())

    def send(self, packed: bytes) -> "Future[Any]":
        return self._futures.submit(self._client, packed)

    def drop(self, future: "Future[Any]") -> None:
        """Leave it to `close`, which drops all in one request."""

    def fate(self, error: Exception) -> Fate:
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            return Fate.DEADLY
        if isinstance(error, Unmarked) and error.mark != self.mark.name:
            return Fate.LOST  # given out under an older one
        return Fate.LOST if isinstance(error, CancelledError) else Fate.FAILED

    def explained(self, error: Exception) -> Exception:
        if isinstance(error, CancelledError):
            return HeadstartError(
                f"{self.name}: what it was given got lost again and again ({first_line(error)}). "
                f"The finished work is kept: run the same command again"
            )
        return super().explained(error)

    def wait_until_back(self) -> None:
        until, said = time.monotonic() + _SECONDS_TO_RETURN, False
        while not self._renewed():
            if time.monotonic() > until:
                raise HeadstartError(
                    f"{self.name}: its scheduler, or all its workers, are gone and did not come "
                    f"back in {_SECONDS_TO_RETURN:.0f} s. The finished work is kept: start them, "
                    f"then run the same command again"
                )
            if not said:
                _log.warning(
                    "%s: its scheduler is gone; waiting up to %.0f s for it and its workers",
                    self.name,
                    _SECONDS_TO_RETURN,
                )
                said = True
            time.sleep(0.2)
        self._asked = 0.0

    def _renewed(self) -> bool:
        """Whether there are workers; whatever an older connection gave out is wanted no more.

        Workers that are left alone would go on with what waits there.
        """
        there_are = bool(self._workers())
        if self._marked_under is not (now := connection(self._client)):
            self.mark.renew()
            self._marked_under = now
        return there_are

    def _say_if_alone(self, workers: Mapping[str, int]) -> None:
        """Say it once when a scheduler that is there has no workers; it is waited for some."""
        if workers:
            self._alone = False
        elif not self._alone and self._client.status == "running":
            self._alone = True
            _log.warning(
                "%s has no workers; waiting for some. Start them (dask worker %s), or interrupt "
                "this run: the finished work is kept",
                self.name,
                self._where,
            )

    def require_alike(self, packed: bytes) -> None:
        self._say_if_alone(self._workers())
        answers = self._client.run(pickle.loads, packed, on_error="return")
        for answer in answers.values():
            if isinstance(answer, tuple):
                self._warn_if_odd(*answer)
            elif isinstance(answer, Exception) and not isinstance(answer, OSError):  # it has left
                self.refuse(answer)

    def _warn_if_odd(self, who: str, theirs: Mapping[str, str]) -> None:
        """Say that a worker has other libraries than this process: its vectors may not fit."""
        for name, ours in there.libraries().items():
            if (found := theirs.get(name)) != ours:
                _log.warning(
                    "worker %s has %s, here it is %s; whether its vectors fit is seen before its "
                    "first unit is kept",
                    who,
                    f"no {name}" if found is None else f"{name} {found}",
                    ours,
                )

    def forget(self, packed: bytes) -> None:
        def ask() -> None:
            with contextlib.suppress(Exception):
                self._client.run(pickle.loads, packed, on_error="ignore")

        if self._client.status == "running":
            # A worker that does not answer must not keep the run from ending.
            asked = threading.Thread(target=ask, daemon=True)
            asked.start()
            asked.join(_SECONDS_TO_ANSWER)

    def close(self) -> None:
        """Drop what is in hand, and close what was opened here."""
        if self._client.status == "running":
            self._futures.cancel(self._client)
        if self._client is not self._given:
            self._client.close()

    def _workers(self) -> dict[str, int]:
        """The threads of each worker that is there now, by its address."""
        if self._client.status in ("closing", "closed"):  # it gave up
            try:
                self._client = _connected(self._where, security=self._given.security)
            except HeadstartError:
                return {}
        if self._client.status != "running":
            return {}
        try:
            threads: dict[str, int] = self._client.nthreads()
        except OSError:
            return {}
        return dict(threads)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hear of Ctrl-C at the end; what is started meanwhile, and what that starts, never does.

    It reaches every process of a terminal, and each worker would print where it was; this process
    ends them. Nor can half a cluster be closed.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # or it would lift the ban when the first worker starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask say nothing: what goes wrong is said in one line."""
    loggers = [logging.getLogger(f"distributed{name}") for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
