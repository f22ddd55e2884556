"""Several worker processes on one machine: each embeds whole units and publishes them itself.

The parent reads, decodes and sorts out what is new; a worker gets the pixels of a unit. Units are
the same files whoever makes them, so nothing else has to know how many processes there were.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Final, TypeVar

import joblib
import numpy as np

from ..features import units
from ..features.errors import HeadstartError
from ..features.orphan import end_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ..features.known import Known
    from ..features.units import Origin, SeenFile
    from .embedding import Embedding

T = TypeVar("T")

_UNITS_WAITING: Final = 2
"""Units with their pixels ready for the next free worker; one is 69 MB at 299 pixels."""


@dataclasses.dataclass(frozen=True)
class UnitWork:
    """The work of one unit: the files looked at, and pixels of the new contents by digest."""

    files: list[SeenFile]
    pixels: dict[bytes, NDArray[np.uint8]]


@dataclasses.dataclass(frozen=True)
class Done:
    """A published unit, with the seconds that a worker spent on it."""

    files: list[SeenFile]
    embed_seconds: float
    write_seconds: float


@dataclasses.dataclass(frozen=True)
class _Orders:
    """What every worker of a run has to know."""

    run: str
    threads: int
    embedding: Embedding
    known: Origin | None
    out: Path
    source: str


class Crew:
    """The worker processes of one run.

    Parameters
    ----------
    workers : int
        How many.
    embedding : Embedding
        What they do to images; each loads its own.
    known : Known
        What their vectors must agree with.

    Attributes
    ----------
    load_seconds : float
        What loading cost the first of them.
    """

    def __init__(self, workers: int, embedding: Embedding, known: Known) -> None:
        self.workers = workers
        self.load_seconds = 0.0
        self._origin: Origin | None = None
        self._orders = _Orders(
            run=secrets.token_hex(8),
            threads=max(1, joblib.cpu_count() // workers),
            embedding=embedding.unloaded(),
            known=known.origin,
            out=known.out,
            source=known.source,
        )

    @property
    def origin(self) -> Origin:
        """What their units carry.

        The first worker is asked alone: it may have to download weights, which no two processes
        should do at once, and if they cannot be had this says so before any image is decoded.
        """
        if self._origin is None:
            ((self._origin, self.load_seconds),) = self._run(_begin, [(self._orders,)])
        return self._origin

    def publish(self, work: Iterator[UnitWork]) -> Iterator[Done]:
        """Have units embedded and published, and tell of each when it is, in any order.

        Raises
        ------
        HeadstartError
            If a worker could not do it, or died.
        """
        origin = self.origin
        failed: list[BaseException] = []
        calls = ((self._orders, origin, unit) for unit in _until_it_fails(work, failed))
        yield from self._run(_unit, calls)
        if failed:
            raise failed[0]

    def _run(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        parallel = joblib.Parallel(
            n_jobs=self.workers,
            backend="loky",
            batch_size=1,
            pre_dispatch=self.workers + _UNITS_WAITING,
            max_nbytes=None,  # through the pipe: shared memory is small in many containers
            return_as="generator_unordered",
            initializer=end_with,
            initargs=(os.getpid(),),
        )
        try:
            yield from parallel(joblib.delayed(function)(*call) for call in calls)
        except BrokenProcessPool as error:
            raise HeadstartError(
                f"{self._orders.out}: a worker process died (was it killed for want of memory?). "
                f"The finished work is kept: run the same command again, or with fewer --workers"
            ) from error


def _until_it_fails(work: Iterator[UnitWork], failed: list[BaseException]) -> Iterator[UnitWork]:
    # joblib draws the work in a thread of its own, where an error would be lost and the run hang.
    try:
        yield from work
    except Exception as error:  # noqa: BLE001 - the main thread raises it again
        failed.append(error)


_embeddings: dict[str, Embedding] = {}
"""In a worker: the embedding of the present run, which keeps what it has loaded."""


def _embedding(orders: _Orders) -> Embedding:
    if orders.run not in _embeddings:
        # TensorFlow reads this when it starts; together the workers have one thread a core.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(orders.threads))
        _embeddings.clear()
        _embeddings[orders.run] = orders.embedding
        if orders.known is not None:
            orders.embedding.require_same_as(orders.known, orders.out)
    return _embeddings[orders.run]


def _begin(orders: _Orders) -> tuple[Origin, float]:
    embedding = _embedding(orders)
    canary = None if orders.known is None else orders.known.canary
    origin = embedding.origin(orders.source, canary)
    return origin, embedding.load_seconds


def _unit(orders: _Orders, origin: Origin, unit: UnitWork) -> Done:
    if orders.known is None:
        orders = dataclasses.replace(orders, known=origin)
    embedding = _embedding(orders)
    started = time.perf_counter()
    vectors = embedding.embed(np.stack(list(unit.pixels.values())))
    embedded = time.perf_counter()
    units.publish(
        units.folder_of(orders.out),
        origin,
        unit.files,
        dict(zip(unit.pixels, vectors, strict=True)),
    )
    return Done(unit.files, embedded - started, time.perf_counter() - embedded)
