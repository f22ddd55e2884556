"""The images that a run has to look at -> published units: embed what is new, and write it."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ..features import units
from ..features.errors import FeatureFileError
from ..features.known import FileStat
from ..features.units import UNIT_IMAGES, UNREAD, SeenFile
from . import engines
from .distribute import Crew, UnitWork
from .looking import look_ahead
from .progress import Progress
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from ..features.known import Known
    from ..features.units import Origin
    from .embedding import Embedding
    from .looking import Looked
    from .sources import ImageReference

_SUBMITTED_AHEAD: Final = 32
"""Images waiting inside the engine, so that it goes on while this thread writes a unit (20 ms)."""


@dataclasses.dataclass
class _OpenUnit:
    """A unit in the making: files looked at, and the calls whose vectors it will hold.

    `pixels` are those of the next call, and `looked` the files that were looked at for it.
    """

    files: list[SeenFile] = dataclasses.field(default_factory=list)
    pixels: dict[bytes, NDArray[np.uint8]] = dataclasses.field(default_factory=dict)
    looked: int = 0
    calls: list[tuple[list[bytes], Future[NDArray[np.float32]]]] = dataclasses.field(
        default_factory=list
    )
    whole: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is missing any more."""
        return self.whole and all(call.done() for _, call in self.calls)


class _Busy:
    """Counts the seconds in which at least one of several overlapping calls is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = self._first = time.perf_counter()
        self._busy = 0.0

    def begin(self) -> None:
        """A call begins."""
        with self._lock:
            now = time.perf_counter()
            if not self._running:
                if not self._busy:
                    self._first = now
                self._since = now
            self._running += 1

    def end(self, _: object = None) -> None:
        """A call ends."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self._busy += time.perf_counter() - self._since
                self._since = time.perf_counter()

    def seconds(self) -> tuple[float, float]:
        """Busy and idle, from the first call to the last."""
        with self._lock:
            # Whoever waits for a call is told before `end` is, so one may be open still.
            last = time.perf_counter() if self._running else self._since
            busy = self._busy + (last - self._since)
            return busy, last - self._first - busy


class Work:
    """The images of one run that have to be looked at, published unit by unit.

    Parameters
    ----------
    known : Known
        What need not be embedded again, and what new vectors have to agree with first of all. Also
        an attribute, which `catch_up` renews.
    embedding : Embedding
        Makes the vectors.
    workers : int, default=1
        Processes that embed; 1 is this one itself.
    reference : Reference, optional
        What new vectors have to agree with, where `known` has none.

    Attributes
    ----------
    embedded : set of bytes
        Digests of the contents that went through the backbone.
    decoded : int
        Images decoded.
    seconds : dict of str to float
        ``load``, ``read``, ``decode``, ``embed``, ``write``, ``waiting``: see `Summary`.
    environment : mapping of str to Any
        Where the vectors were computed; empty if none were.
    """

    def __init__(
        self,
        known: Known,
        embedding: Embedding,
        workers: int = 1,
        reference: Reference | None = None,
    ) -> None:
        self.known = known
        self.embedding = embedding
        self.embedded: set[bytes] = set()
        self.decoded = 0
        self.seconds = dict.fromkeys(("load", "read", "decode", "embed", "write", "waiting"), 0.0)
        self.environment: Mapping[str, Any] = {}
        self.workers = workers
        self._reference = Reference.to(known.origin, known.out, known.remedy) or reference
        self._compared = self._reference is None
        self._busy = _Busy()
        self._running: collections.deque[tuple[Future[NDArray[np.float32]], int]]
        self._running = collections.deque()

    def catch_up(
        self, images: Sequence[ImageReference], *, progress: bool = False
    ) -> dict[bytes, FileStat]:
        """Make everything about `images` known that is not.

        Returns
        -------
        dict of bytes to FileStat
            Of each image by its path, as it was when it was looked at: what `known` has it by.

        Raises
        ------
        FeatureFileError
            If what was published does not read back.
        """
        stats = {image.path: image.stat() for image in images}
        todo = [image for image in images if must_read(self.known.seen(stats[image.path]))]
        if todo:
            for file in self.over(todo, progress=progress):
                stats[file.path] = FileStat(file.path, file.size, file.mtime_ns)
            self.known = self.known.again()
            lost = [stat for stat in stats.values() if self.known.seen(stat) is None]
            if lost:
                raise FeatureFileError(
                    f"{units.folder_of(self.known.out)}: {len(lost)} images that were just "
                    f"embedded do not read back; check the disk, then run the same command again"
                )
        return stats

    def over(self, images: Sequence[ImageReference], *, progress: bool) -> Iterator[SeenFile]:
        """Look at `images`, embed what is new, publish it, and yield what each file was."""
        engines.warn_of_slow_bf16(self.embedding.request.precision)
        shown = Progress(len(images), shown=progress)
        length = min(UNIT_IMAGES, math.ceil(len(images) / self.workers))
        looked = look_ahead(images, self.known, self.embedding.request)
        try:
            parts = (itertools.islice(looked, length) for _ in range(0, len(images), length))
            work = self._here if self.workers == 1 else self._by_crew
            yield from work(parts, shown)
        finally:
            for call, _ in self._running:
                call.cancel()
            looked.close()
            shown.close()

    def _new_pixels(self, one: Looked) -> NDArray[np.uint8] | None:
        """Count an image; its pixels, if nobody has met this content before."""
        self.seconds["read"] += one.read_seconds
        self.seconds["decode"] += one.decode_seconds
        if one.pixels is None:
            return None
        self.decoded += 1
        if one.file.digest in self.embedded:
            return None
        self.embedded.add(one.file.digest)
        return one.pixels

    def _here(self, parts: Iterator[Iterator[Looked]], shown: Progress) -> Iterator[SeenFile]:
        """Embed in this process; a unit is written while the engine is at the next one."""
        if self.known.origin is None:
            shown.say(f"loading {self.embedding.request} ...")
            _ = self.embedding.provenance  # weights that cannot be had end the run right here
            _ = self.embedding.canary_calls  # beside the first images being read
        unfinished: collections.deque[_OpenUnit] = collections.deque()
        for part in parts:
            unit = _OpenUnit()
            unfinished.append(unit)
            for one in part:
                self._take(unit, one, shown)
                while unfinished[0].done:
                    yield from self._publish_open(unfinished.popleft())
            self._submit(unit, shown)
            unit.whole = True
        for unit in unfinished:
            yield from self._publish_open(unit)
        while self._running:
            self._wait_for_one(shown)
        self.seconds["embed"], self.seconds["waiting"] = self._busy.seconds()

    def _take(self, unit: _OpenUnit, one: Looked, shown: Progress) -> None:
        unit.files.append(one.file)
        unit.looked += 1
        pixels = self._new_pixels(one)
        if pixels is not None:
            unit.pixels[one.file.digest] = pixels
            # Asking for the batch loads the backbone, which a run without new images never does.
            if len(unit.pixels) >= self.embedding.engine.batch:
                self._submit(unit, shown)

    def _submit(self, unit: _OpenUnit, shown: Progress) -> None:
        """Hand the pixels gathered for `unit` to the engine, once it has room for them."""
        pixels, looked = unit.pixels, unit.looked
        unit.pixels, unit.looked = {}, 0
        if not pixels:
            shown.add(looked)
            return
        # The test images go first; that they agree is known soon after, or before anything is kept.
        if not self._compared and all(call.done() for call in self.embedding.canary_calls):
            self._compare()
        engine = self.embedding.engine
        while len(self._running) >= max(engine.calls + 1, _SUBMITTED_AHEAD // engine.batch):
            self._wait_for_one(shown)
        self._busy.begin()
        call = self.embedding.submit(pixels)
        call.add_done_callback(self._busy.end)
        self._running.append((call, looked))
        unit.calls.append((list(pixels), call))

    def _compare(self) -> None:
        if not self._compared:
            self.embedding.require_same(self._reference)
            self._compared = True

    def _wait_for_one(self, shown: Progress) -> None:
        call, looked = self._running.popleft()
        call.result()
        shown.add(looked)

    def _publish_open(self, unit: _OpenUnit) -> list[SeenFile]:
        vectors: dict[bytes, NDArray[np.floating]] = {}
        if unit.calls:
            self._compare()
        for digests, call in unit.calls:
            vectors |= zip(digests, self.embedding.stored(call.result()), strict=True)
        origin = self.known.origin
        if vectors or origin is None:
            canary = None if origin is None else origin.canary
            origin = self.embedding.origin(self.known.source, canary)
            self.environment = origin.environment
        self._publish(origin, unit.files, vectors)
        return unit.files

    def _publish(
        self,
        origin: Origin,
        files: Sequence[SeenFile],
        vectors: dict[bytes, NDArray[np.floating]],
    ) -> None:
        started = time.perf_counter()
        units.publish(units.folder_of(self.known.out), origin, files, vectors)
        self.seconds["write"] += time.perf_counter() - started

    def _by_crew(self, parts: Iterator[Iterator[Looked]], shown: Progress) -> Iterator[SeenFile]:
        """Have worker processes embed, a unit each at a time; this one only reads."""
        with Crew(self.workers, self.embedding, self.known, self._reference) as crew:
            if self.known.origin is None:
                shown.say(f"loading {self.embedding.request} in {self.workers} processes ...")
            # Only where nothing is known does a run without new images have to load a backbone.
            origin = self.known.origin or crew.origin
            unchanged: list[SeenFile] = []
            work = self._units_for_crew(parts, origin, unchanged, shown)
            first = next(work, None)
            if first is not None:
                self.environment = crew.origin.environment
                started, worked = time.perf_counter(), 0.0
                for done in crew.publish(itertools.chain([first], work)):
                    self.seconds["embed"] += done.embed_seconds
                    self.seconds["write"] += done.write_seconds
                    worked += done.load_seconds + done.embed_seconds + done.write_seconds
                    shown.add(len(done.files))
                    yield from done.files
                there = self.workers * (time.perf_counter() - started)
                self.seconds["waiting"] = max(0.0, there - worked)
            yield from unchanged
            self.seconds["load"] += crew.load_seconds

    def _units_for_crew(
        self,
        parts: Iterator[Iterator[Looked]],
        origin: Origin,
        unchanged: list[SeenFile],
        shown: Progress,
    ) -> Iterator[UnitWork]:
        for part in parts:
            files: list[SeenFile] = []
            pixels: dict[bytes, NDArray[np.uint8]] = {}
            for one in part:
                files.append(one.file)
                new = self._new_pixels(one)
                if new is not None:
                    pixels[one.file.digest] = new
            if pixels:
                yield UnitWork(files, pixels)
            else:
                self._publish(origin, files, {})
                unchanged += files
                shown.add(len(files))


def must_read(seen: SeenFile | None) -> bool:
    """Whether an image has to be looked at, given what is known of it."""
    return seen is None or seen.digest == UNREAD
