"""What a scheduler of Dask was given, as futures that always end."""

import contextlib
import dataclasses
import pickle
import secrets
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any


def connection(client: Any) -> Any:
    """What a client is connected by, another one each time that it connects; None if it is not."""
    return client.scheduler_comm if client.status == "running" else None


@dataclasses.dataclass(frozen=True)
class _Given:
    theirs: Any
    """Dask's future."""
    connection: Any
    """By which it was given."""


class Futures:
    """Futures of what schedulers are asked to unpack; what is lost ends with `CancelledError`.

    The executor of a client (`distributed.cfexecutor`, of 2026.8 too) leaves its future open for
    ever where the scheduler goes away between the news that something is done and the answer to
    the question what came of it. A client that connects again forgets what it submits meanwhile.
    """

    def __init__(self) -> None:
        self._given: dict[Future[Any], _Given] = {}

    def submit(self, client: Any, packed: bytes) -> "Future[Any]":
        """Have a worker unpack something; its result."""
        future: Future[Any] = Future()
        by = connection(client)
        key = f"headstart-{secrets.token_hex(8)}"  # as the dashboard shows it
        try:
            theirs = client.submit(pickle.loads, packed, key=key)
        except Exception as error:
            if client.status == "running":
                raise
            _lose(future, error)  # as all that the scheduler was given
        else:
            self._given[future] = _Given(theirs, by)
            future.add_done_callback(self._given.pop)
            client.loop.add_callback(_hear, client, future, theirs)
        return future

    def end_lost(self, client: Any) -> None:
        """End what was given by another connection than that of now, where Dask does not."""
        now = connection(client)
        for future, given in [*self._given.items()]:
            if now is None or given.connection is not now:
                _lose(future, ConnectionError("the connection to the scheduler was lost"))

    def cancel(self, client: Any) -> None:
        """Have nobody begin any more with what is not done."""
        client.cancel([given.theirs for given in [*self._given.values()]])


async def _hear(client: Any, future: "Future[Any]", theirs: Any) -> None:
    """Have a future hear what becomes of Dask's."""
    try:
        result = await client.gather(theirs, asynchronous=True)
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future hears of it
        if theirs.status != "error":
            _lose(future, error)
            return
        if not isinstance(error, Exception):  # as Rust's panics, which Dask hands on
            error = RuntimeError(f"{type(error).__name__}: {error}")
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with contextlib.suppress(InvalidStateError):
            future.set_result(result)


def _lose(future: "Future[Any]", error: BaseException) -> None:
    lost = CancelledError(str(error))
    lost.__cause__ = error
    with contextlib.suppress(InvalidStateError):  # it was heard of
        future.set_exception(lost)
