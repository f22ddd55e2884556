"""A cluster of workers that are not there, and images that are nowhere."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import io
import os
import pickle
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import made
from headstart.extract.embedding import Embedding
from headstart.extract.sources.image import ImageReference
from headstart.extract.work import unit
from headstart.extract.work.clusters import there
from headstart.extract.work.clusters.crew import Cluster, Fate
from headstart.features.journal import units
from headstart.features.records import FileStat, SeenFile

UNIT, RATE = 256, 30.0
"""Images; per second of a worker."""

DEATHS, DEADLY = 2000, 3
"""Of so many units one is lost with its worker; so many are deadly to all."""

DIMENSION = 8
"""Of the vectors that workers publish; the driver never sees them."""


class Reference(ImageReference):
    """An image that is nowhere."""

    def exists(self) -> bool:
        """Ask a disk, and believe what is asked for."""
        return os.path.lexists("/")

    def stat(self) -> FileStat:
        """Numbers that no other image has."""
        own = int.from_bytes(hashlib.blake2b(self.path, digest_size=8).digest(), "big")
        return FileStat(self.path, 50_000 + own % 100_000, 1_700_000_000_000 + own // 3, own)


class References(Sequence[Any]):
    """Images that come into being when they are asked for."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(self._number))]
        if place >= self._number:
            raise IndexError(place)
        path = f"class{place // 1000 % 1000:03}/{place:010}.jpg"
        return Reference(path.encode(), f"/data/photographs/{path}".encode(), path[:8], "train")


class Stats(dict[bytes, FileStat]):
    """What the listing knew of the images, likewise."""

    def get(self, path: bytes, default: Any = None) -> Any:  # noqa: ARG002
        """That of an image by its path."""
        return Reference(path, b"").stat()


class Stub(Embedding):
    """An embedding that never embeds."""

    def origin(self, source: str = "") -> Any:
        """As if there were a backbone."""
        environment = {"source": source, "device": "none"}
        return dataclasses.replace(made.origin(DIMENSION), environment=environment)

    def unloaded(self, share: int) -> Any:  # noqa: ARG002
        """The same."""
        return self


class Died(Exception):
    """A simulated worker did."""


class Calls(pickle.Unpickler):
    """Unpacks what is sent to a worker, without calling it."""

    def find_class(self, module: str, name: str) -> Any:
        """A call becomes its arguments."""
        return _arguments if name == "call" else super().find_class(module, name)


def _arguments(*arguments: Any) -> Any:
    return arguments


class Simulated(Cluster):
    """Workers that are not there; a thread of this process answers for all of them."""

    name = "a simulated cluster"

    def __init__(self, workers: int, *, publish: bool) -> None:
        super().__init__()
        self.given_out = self.deaths = 0
        self.clock = self.reading = 0.0
        self._workers, self._publish = workers, publish
        self._chance = random.Random(0)
        self._waiting: list[tuple[float, int, bytes, Future[Any]]] = []
        self._changed = threading.Condition()
        self._deadly: set[bytes] = set()
        threading.Thread(target=self._work, daemon=True).start()

    def width(self) -> int:
        """All of them are there."""
        return self._workers

    def fate(self, error: Exception) -> Fate:
        """A death is one."""
        return Fate.DIED if isinstance(error, Died) else Fate.FAILED

    def send(self, packed: bytes) -> Future[Any]:
        """Have something answered later."""
        future: Future[Any] = Future()
        with self._changed:
            ends = self.clock + UNIT / RATE * self._chance.uniform(0.9, 1.1)
            heapq.heappush(self._waiting, (ends, self.given_out, packed, future))
            self.given_out += 1
            self._changed.notify()
        return future

    def _work(self) -> None:
        full = self._workers + self.spare
        while True:
            with self._changed:
                # Until the driver has given out all it may; at the end it has no more.
                busy = self._changed.wait_for(lambda: len(self._waiting) >= full, timeout=5)
                some = min(8, len(self._waiting)) if busy else len(self._waiting)
                due = [heapq.heappop(self._waiting) for _ in range(some)]
                self.clock = due[-1][0] if due else self.clock
            for _, number, packed, future in due:
                try:
                    answer = pickle.dumps(self._answer(number, packed))
                except Died as death:
                    self.deaths += 1
                    future.set_exception(death)
                    continue
                started = time.thread_time()
                result = pickle.loads(answer)
                self.reading += time.thread_time() - started
                future.set_result(result)

    def _answer(self, number: int, packed: bytes) -> Any:
        *_, data = Calls(io.BytesIO(packed)).load()
        function, job, *arguments = pickle.loads(data)
        if function is there.begin:
            return job.embedding.origin(job.source)
        if function is not there.make:
            return None
        references, _, careful = arguments
        first = references[0].path
        if len(self._deadly) < DEADLY and number > 10 and number % 100 == 0:
            self._deadly.add(first)
        if (first in self._deadly and not careful) or self._chance.random() < 1 / DEATHS:
            raise Died
        files = [
            SeenFile(one.stat(), hashlib.sha256(one.path).digest(), 640, 480) for one in references
        ]
        worker, digests = f"{number % self._workers}-{job.run}", [one.digest for one in files]
        name = hashlib.sha256(first).hexdigest()[:32] + ".h5"
        if self._publish:
            rows = {one.key: [0.5] * DIMENSION for one in files}
            folder = units.folder_of(job.out)
            name = units.publish(folder, job.origin, files, rows, job.turn).name
        return unit.Done(worker, files, digests, [], {"device": "none"}, unit=name, cores=1)
