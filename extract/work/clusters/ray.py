"""Units made by the workers of a Ray cluster."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Final

from ....features.errors import HeadstartError, first_line
from .crew import Cluster, Fate

_SECONDS_TO_ANSWER: Final = 10.0
"""A head that is there answers in less; Ray itself waits a minute, and ends this process then."""

_MOST_UNANSWERED: Final = 3
"""After so many looks in a row at a head that does not answer it is gone."""


@contextlib.contextmanager
def crew(address: str) -> Iterator[Cluster]:
    """The workers of the cluster with this address; ``auto`` is the one that this machine is in."""
    import logging

    import ray

    ours = not ray.is_initialized()
    if ours:
        try:
            if address != "auto":
                _reach(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                configure_logging=True,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise HeadstartError(
                f"--ray {address}: no Ray cluster answers there ({first_line(error)}); start one "
                f"(ray start --head), or mend the address"
            ) from error
    try:
        yield _Ray(address)
    finally:
        if ours:
            # Where the head is gone it would wait for that.
            ending = threading.Thread(target=ray.shutdown, daemon=True)
            ending.start()
            ending.join(_SECONDS_TO_ANSWER)


def _reach(address: str) -> None:
    """See that somebody listens at ``HOST:PORT`` or ``ray://HOST:PORT``."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("HOST:PORT is expected")
    socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()


class _Ray(Cluster):
    def __init__(self, address: str) -> None:
        import ray

        super().__init__()
        self.name = f"the Ray cluster at {address}"
        self._asked = 0.0
        self._cores = self._unanswered = 0

        def unpack(packed: bytes) -> Any:  # in here, so that Ray sends it whole
            import pickle

            return pickle.loads(packed)

        # What dies is counted here: tried again by Ray it would be counted nowhere.
        self._unpack = ray.remote(num_cpus=1, max_retries=0)(unpack)

    def width(self) -> int:
        import ray

        now = time.monotonic()
        if now - self._asked >= self.patience or not self._asked:
            with contextlib.suppress(OSError, RuntimeError):
                self._require_head()  # or what follows would wait for it
                self._cores = int(ray.cluster_resources().get("CPU", 0))
            self._asked = time.monotonic()
        return self._cores

    def _require_head(self) -> None:
        """End the run in one line when the head is gone: a minute later Ray ends this process."""
        import ray

        try:
            _reach(ray.get_runtime_context().gcs_address)
        except ValueError:  # not by its address
            return
        except OSError as error:
            self._unanswered += 1
            if self._unanswered < _MOST_UNANSWERED:
                raise
            raise HeadstartError(
                f"{self.name}: its head is gone ({first_line(error)}). The finished work is kept: "
                f"start it, then run the same command again"
            ) from error
        else:
            self._unanswered = 0

    def send(self, packed: bytes) -> "Future[Any]":
        future: Future[Any] = self._unpack.remote(packed).future()
        return future

    def fate(self, error: Exception) -> Fate:
        from ray import exceptions

        died = (
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
            exceptions.LocalRayletDiedError,
        )
        if isinstance(error, exceptions.ObjectLostError):  # the news of it, with its machine
            return Fate.LOST
        return Fate.DIED if isinstance(error, died) else Fate.FAILED

    def explained(self, error: Exception) -> Exception:
        from ray import exceptions

        if isinstance(error, exceptions.RayTaskError):
            cause = error.cause
            return super().explained(cause if isinstance(cause, Exception) else error)
        if isinstance(error, exceptions.RayError):
            return HeadstartError(
                f"{self.name}: {first_line(error)}. The finished work is kept: run the same "
                f"command again"
            )
        return super().explained(error)
