"""References to images -> one published unit: the function that every executor runs."""

import dataclasses
import datetime
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
from numpy.typing import NDArray

from ...features.child import once
from ...features.journal import marks
from ...features.journal.known import Known
from ...features.journal.outputs import Output
from ...features.origin import Origin
from ...features.provenance.augmentation import NO_AUGMENTATION, Augmentation
from ...features.records import Key, SeenFile
from ..embedding import Embedding
from ..sources.image import ImageReference
from .progress import Busy
from .readahead import Looked, look_ahead
from .threads import Threads

_SUBMITTED_AHEAD: Final = 32
"""Images waiting inside the engine, so that it goes on while a thread writes a unit (20 ms)."""

References = Sequence[ImageReference]


@dataclasses.dataclass(frozen=True)
class Job:
    """What every process that makes units of a run has to know; it pickles small."""

    embedding: Embedding
    out: Path
    source: str
    fresh: bool
    without: Collection[str]
    origin: Origin | None
    """What the vectors of the run come from, which all others have to fit; None as long as nothing
    is known and no process has begun the run."""
    turn: int
    """That of the units of this run, see `Unit`."""
    augmentation: Augmentation = NO_AUGMENTATION
    """Which views of the images there shall be."""
    begun: bool = False
    """Whether a process has begun it: before, nothing is loaded for it."""
    run: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    mark: str = ""
    """Of a run whose workers its end does not end: the name of its mark, see `journal.marks`; what
    they make is kept as long as that is there."""
    of: Output | None = None
    """What `out` is of in the process where the job was made, which fills it in."""

    def __post_init__(self) -> None:
        if self.of is None:
            object.__setattr__(self, "of", Output.at(self.out))

    @property
    def output(self) -> Output:
        """Where units go."""
        return self.of or Output.at(self.out)


@dataclasses.dataclass
class Done:
    """A published unit, and what it took."""

    worker: str
    files: list[SeenFile] = dataclasses.field(default_factory=list)
    embedded: list[bytes] = dataclasses.field(default_factory=list)
    """Digests of the contents that went through the backbone as they are."""
    views: list[Key] = dataclasses.field(default_factory=list)
    """Further views that did."""
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Where they did; empty if there are none."""
    unit: str = ""
    """The name of what is published."""
    cores: int = 0
    """Of the worker."""
    decoded: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    write_seconds: float = 0.0
    load_seconds: float = 0.0
    """This and the following are of the whole worker, up to now."""
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0


def begin(job: Job) -> Origin:
    """Load the backbone of the run, check it by the test images, and return its origin."""
    return _worker(job).fitting(job.origin)


def make(job: Job, references: Sequence[ImageReference], lost: Sequence[SeenFile] = ()) -> Done:
    """Read, decode and embed images, and publish them as one unit.

    It records those that are `lost`, too.
    """
    return _worker(job).make(job, references, lost)


class NotBegun(Exception):
    """A unit needs a backbone, and the run has not been begun."""


class Worker:
    """One process's part in a run; several threads may each make a unit of it.

    `progress` is told of every few images that are done; `left` says which of the images that it is
    given are still to be done.
    """

    def __init__(
        self,
        job: Job,
        known: Known,
        progress: Callable[[int], None] = lambda _: None,
        left: Callable[[References], References] = lambda every: every,
    ) -> None:
        self._left = left
        self._job = job
        self._known = known
        self._progress = progress
        self._embedding = job.embedding
        self._name = f"{os.getpid()}-{job.run}"
        self._met: set[Key] = set()
        self._busy = Busy()
        self._stopped = self._fits = False
        self._calls: set[Future[NDArray[np.float32]]] = set()
        self._failed: list[Future[NDArray[np.float32]]] = []
        self._feeding = threading.Lock()  # one unit at a time hands its images to the engine
        self._cores = job.embedding.tuning.share or joblib.cpu_count()
        self._decoders = Threads(self._cores, "decode")

    @once
    def origin(self) -> Origin:
        """What vectors computed here come from."""
        return self._embedding.origin(self._job.source)

    def fitting(self, run: Origin | None) -> Origin:
        """The same, refused if it does not fit that of the run, which others may have begun."""
        if run is not None and not self._fits:
            run.require(self.origin)
            self._fits = True
        return self.origin

    def make(
        self, job: Job, references: Sequence[ImageReference], lost: Sequence[SeenFile] = ()
    ) -> Done:
        """Make one unit; see the function `make`."""
        met: set[Key] = set()
        try:
            return self._made(job, references, lost, met)
        except BaseException:
            self._met -= met  # it may be made again
            raise

    def _made(
        self,
        job: Job,
        references: Sequence[ImageReference],
        lost: Sequence[SeenFile],
        met: set[Key],
    ) -> Done:
        done = Done(self._name, files=list(lost), cores=self._cores)
        looked = look_ahead(
            self._left(references),
            self._known,
            self._embedding.request,
            self._decoders,
            job.augmentation,
        )
        with self._feeding:
            calls = list(self._fed(job, looked, done, met))
        vectors: dict[Key, NDArray[np.floating]] = {}
        for keys, call in calls:
            self.fitting(job.origin)  # what does not fit is not kept
            vectors |= zip(keys, self._embedding.stored(call.result()), strict=True)
        if not vectors and all(self._known.seen(file.stat) == file for file in done.files):
            return done  # read again, and found to be what was known
        origin = job.origin or self.origin
        if vectors:
            done.embedded = [digest for digest, view in vectors if not view]
            done.views = [key for key in vectors if key[1]]
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            done.environment = {**self.origin.environment, "extracted": now}
            origin = dataclasses.replace(origin, environment=done.environment)
        origin = dataclasses.replace(origin, augmentation=job.augmentation)
        marks.require(job.out, job.mark)
        started = time.perf_counter()
        done.unit = job.output.publish(origin, done.files, vectors, job.turn)
        done.write_seconds = time.perf_counter() - started
        done.load_seconds = self._embedding.load_seconds
        done.busy_seconds, done.idle_seconds = self._busy.seconds()
        return done

    def close(self, *, at_once: bool = False) -> None:
        """End the threads; `at_once` drops what they have in hand, and waits for no decoder."""
        if at_once:
            self._stopped = True
            for call in tuple(self._calls):
                call.cancel()
            self._decoders.abandon()
        else:
            self._decoders.shutdown(wait=True, cancel_futures=True)

    def _fed(
        self, job: Job, looked: Iterable[Looked], done: Done, met: set[Key]
    ) -> Iterator[tuple[list[Key], Future[NDArray[np.float32]]]]:
        """Hand what is new to the engine, a call at a time; count everything."""
        pixels: dict[Key, NDArray[np.uint8]] = {}
        images = 0
        for one in looked:
            if self._stopped:
                raise CancelledError
            images += 1
            done.files.append(one.file)
            done.read_seconds += one.read_seconds
            done.decode_seconds += one.decode_seconds
            done.decoded += bool(one.pixels)
            for view, of_view in one.pixels.items():
                key = one.file.digest, view
                if key in self._met:
                    continue
                if not job.begun:
                    raise NotBegun
                self._met.add(key)
                met.add(key)
                pixels[key] = of_view
                if len(pixels) >= self._embedding.engine.batch:
                    yield list(pixels), self._submit(job, pixels, images)
                    pixels, images = {}, 0
        if pixels:
            yield list(pixels), self._submit(job, pixels, images)
        else:
            self._progress(images)

    def _submit(
        self, job: Job, pixels: Mapping[Key, NDArray[np.uint8]], images: int
    ) -> Future[NDArray[np.float32]]:
        # The test images go first; that they fit is known soon after, or before anything is kept.
        if all(call.done() for call in self._embedding.canary_calls):
            self.fitting(job.origin)
        self._room.acquire()
        for failed in self._failed:
            failed.result()  # raises
        self._busy.begin()
        call = self._embedding.submit(list(pixels.values()))
        self._calls.add(call)

        def ended(call: Future[NDArray[np.float32]]) -> None:
            self._calls.discard(call)
            if not call.cancelled() and call.exception():
                self._failed.append(call)
            self._busy.end()
            self._room.release()
            self._progress(images)

        call.add_done_callback(ended)
        return call

    @once
    def _room(self) -> threading.Semaphore:
        engine = self._embedding.engine
        return threading.Semaphore(max(engine.calls + 1, _SUBMITTED_AHEAD // engine.batch))


workers: Final[dict[str, Worker]] = {}
"""Those of this process, by run. In a worker process one comes into being with its first task."""
_choosing = threading.Lock()


def _worker(job: Job) -> Worker:
    if job.run in workers:  # without the lock, which a process may have been forked with
        return workers[job.run]
    with _choosing:
        if job.run not in workers:
            known = Known(
                job.output.path,
                source=job.source,
                fresh=job.fresh or not job.output.take_sealed(),
                without=job.without,
                read_units=not job.mark,
            )
            workers[job.run] = Worker(job, known)
        return workers[job.run]
