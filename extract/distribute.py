"""Several worker processes on one machine: each embeds whole units and publishes them itself.

The parent reads, decodes and sorts out what is new; a worker gets the pixels of a unit. Units are
the same files whoever makes them, so nothing else has to know how many processes there were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import secrets
import time
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np
from joblib.externals.loky import ProcessPoolExecutor

from ..features import units
from ..features.errors import HeadstartError
from ..features.orphan import end_with
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ..features.known import Known
    from ..features.units import Origin, SeenFile
    from .embedding import Embedding

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
    load_seconds: float
    embed_seconds: float
    write_seconds: float


@dataclasses.dataclass(frozen=True)
class _Orders:
    """What every worker of a run has to know."""

    run: str
    embedding: Embedding
    out: Path
    source: str
    remedy: str


class Crew:
    """The worker processes of one run; a context, at whose end they are gone.

    Parameters
    ----------
    workers : int
        How many.
    embedding : Embedding
        What they do to images; each loads its own.
    known : Known
        Where their units go.
    reference : Reference or None
        What their vectors must agree with.

    Attributes
    ----------
    load_seconds : float
        What loading cost the first of them.
    """

    def __init__(
        self, workers: int, embedding: Embedding, known: Known, reference: Reference | None
    ) -> None:
        self.workers = workers
        self.load_seconds = 0.0
        self._reference = reference
        # Together the workers have one thread a core.
        mine = embedding.unloaded(share=max(1, joblib.cpu_count() // workers))
        self._orders = _Orders(secrets.token_hex(8), mine, known.out, known.source, known.remedy)
        self._executor = ProcessPoolExecutor(
            max_workers=workers, initializer=end_with, initargs=(os.getpid(),)
        )

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._executor.shutdown(wait=True, kill_workers=kind is not None)

    @functools.cached_property
    def origin(self) -> Origin:
        """What their units carry.

        The first worker is asked alone: it may have to download weights, which no two processes
        should do at once, and if they cannot be had this says so before any image is decoded.
        """
        with self._told_of_deaths():
            begun = self._executor.submit(_begin, self._orders, self._reference)
            origin: Origin
            origin, self.load_seconds = begun.result()
        return origin

    def publish(self, work: Iterable[UnitWork]) -> Iterator[Done]:
        """Have units embedded and published, and tell of each when it is, in any order.

        Raises
        ------
        HeadstartError
            If a worker could not do it, or died.
        """
        origin = self.origin
        waiting: set[Future[Done]] = set()
        with self._told_of_deaths():
            for unit in work:
                waiting.add(self._executor.submit(_unit, self._orders, origin, unit))
                full = len(waiting) >= self.workers + _UNITS_WAITING
                done, waiting = wait(waiting, None if full else 0, FIRST_COMPLETED)
                yield from (one.result() for one in done)
            yield from (one.result() for one in as_completed(waiting))

    @contextlib.contextmanager
    def _told_of_deaths(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            raise HeadstartError(
                f"{self._orders.out}: a worker process died (was it killed for want of memory?). "
                f"The finished work is kept: run the same command again, or with fewer --workers"
            ) from error


_present: tuple[str, Embedding] | None = None
"""In a worker: the present run, and its embedding, which keeps what it has loaded."""


def _embedding(orders: _Orders, reference: Reference | None) -> Embedding:
    global _present
    if _present is None or _present[0] != orders.run:
        orders.embedding.require_same(reference)
        _present = orders.run, orders.embedding  # only now: whoever failed must fail again
    return _present[1]


def _begin(orders: _Orders, reference: Reference | None) -> tuple[Origin, float]:
    embedding = _embedding(orders, reference)
    origin = embedding.origin(orders.source, None if reference is None else reference.canary)
    return origin, embedding.load_seconds


def _unit(orders: _Orders, origin: Origin, unit: UnitWork) -> Done:
    arrived = time.perf_counter()
    embedding = _embedding(orders, Reference.to(origin, orders.out, orders.remedy))
    started = time.perf_counter()
    vectors = embedding.embed_contents(unit.pixels)
    embedded = time.perf_counter()
    units.publish(units.folder_of(orders.out), origin, unit.files, vectors)
    written = time.perf_counter()
    return Done(unit.files, started - arrived, embedded - started, written - embedded)
