"""The images that a run has to look at -> published units: read and decode beside embedding."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np

from ..features import units
from ..features.units import UNREAD, SeenFile
from .decode import Undecodable, decode
from .distribute import Crew, UnitWork
from .progress import Progress
from .reading import Unreadable, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ..features.known import Known
    from ..features.units import Origin
    from .embedding import Embedding
    from .sources import ImageReference

UNIT_IMAGES: Final = 256
"""Images a unit: the most that a killed run loses for each of its workers, about half a minute of
Xception on two cores."""

_DECODED_AHEAD: Final = 128
"""Images decoded before they are needed: 34 MB at 299 pixels."""


@dataclasses.dataclass(frozen=True)
class _Looked:
    """What looking at one image gave: the file, and pixels if its vector is not known."""

    file: SeenFile
    pixels: NDArray[np.uint8] | None
    seconds: float


class Work:
    """The images of one run that have to be looked at, published unit by unit.

    Parameters
    ----------
    known : Known
        What need not be embedded again, and what new vectors have to agree with.
    embedding : Embedding
        Makes the vectors.
    workers : int, default=1
        Processes that embed; 1 is this one itself.

    Attributes
    ----------
    embedded : set of bytes
        Digests of the contents that went through the backbone.
    decoded : int
        Images decoded.
    seconds : dict of str to float
        ``load``, ``decode``, ``embed``, ``write``: see `Summary`.
    """

    def __init__(self, known: Known, embedding: Embedding, workers: int = 1) -> None:
        self.known = known
        self.embedding = embedding
        self.embedded: set[bytes] = set()
        self.decoded = 0
        self.seconds = dict.fromkeys(("load", "decode", "embed", "write"), 0.0)
        self._workers = workers
        self._fits_known = known.origin is None

    def over(self, images: Sequence[ImageReference], *, progress: bool) -> Iterator[SeenFile]:
        """Look at `images`, embed what is new, publish it, and yield what each file was."""
        shown = Progress(len(images), shown=progress)
        pool = ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="decode")
        length = min(UNIT_IMAGES, math.ceil(len(images) / self._workers))
        try:
            looked = self._looked_ahead(pool, images)
            parts = (itertools.islice(looked, length) for _ in range(0, len(images), length))
            work = self._here if self._workers == 1 else self._by_crew
            yield from work(parts, shown)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            shown.close()

    def _looked_ahead(
        self, pool: ThreadPoolExecutor, images: Sequence[ImageReference]
    ) -> Iterator[_Looked]:
        waiting: collections.deque[Future[_Looked]] = collections.deque()
        for image in images:
            waiting.append(pool.submit(self._look, image))
            if len(waiting) > _DECODED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _look(self, image: ImageReference) -> _Looked:
        started = time.perf_counter()
        pixels, width, height, reason = None, 0, 0, ""
        size, mtime_ns, digest = 0, 0, UNREAD
        try:
            data, status = read(image.location)
            size, mtime_ns = status.st_size, status.st_mtime_ns
            digest = hashlib.sha256(data).digest()
            twin = self.known.image(digest)
            if twin is not None:
                width, height = twin.width, twin.height
            else:
                decoded = decode(data, self.embedding.request.size, self.embedding.request.fit)
                pixels, width, height = decoded.pixels, decoded.width, decoded.height
        except (Unreadable, Undecodable) as error:
            reason = str(error)
        except MemoryError:
            reason, digest = "needs more memory than there is now", UNREAD
        file = SeenFile(image.path, size, mtime_ns, digest, width, height, reason)
        return _Looked(file, pixels, time.perf_counter() - started)

    def _new_pixels(self, one: _Looked) -> NDArray[np.uint8] | None:
        """Count an image; its pixels, if nobody has met this content before."""
        self.seconds["decode"] += one.seconds
        if one.pixels is None:
            return None
        self.decoded += 1
        if one.file.digest in self.embedded:
            return None
        self.embedded.add(one.file.digest)
        return one.pixels

    def _here(self, parts: Iterator[Iterator[_Looked]], shown: Progress) -> Iterator[SeenFile]:
        """Embed in this process, batch by batch, so that little is held in memory."""
        if self.known.origin is None:
            shown.say(f"loading {self.embedding.request} ...")
            _ = self.embedding.provenance  # weights that cannot be had end the run right here
        for part in parts:
            yield from self._unit_here(part, shown)

    def _unit_here(self, looked: Iterator[_Looked], shown: Progress) -> list[SeenFile]:
        files: list[SeenFile] = []
        vectors: dict[bytes, NDArray[np.floating]] = {}
        pending: dict[bytes, NDArray[np.uint8]] = {}
        waiting = 0
        for one in looked:
            files.append(one.file)
            waiting += 1
            pixels = self._new_pixels(one)
            if pixels is not None:
                pending[one.file.digest] = pixels
            if len(pending) == self._batch(pending):
                vectors |= self._embed(pending)
                pending.clear()
                shown.add(waiting)
                waiting = 0
        if pending:
            vectors |= self._embed(pending)
        origin = self.known.origin
        if vectors or origin is None:
            canary = None if origin is None else origin.canary
            origin = self.embedding.origin(self.known.source, canary)
        self._publish(origin, files, vectors)
        shown.add(waiting)
        return files

    def _batch(self, pending: dict[bytes, NDArray[np.uint8]]) -> int:
        # Asking for the batch loads the backbone, which a run without new images never does.
        return self.embedding.batch if pending else 1

    def _embed(self, pending: dict[bytes, NDArray[np.uint8]]) -> dict[bytes, NDArray[np.floating]]:
        if not self._fits_known and self.known.origin is not None:
            self.embedding.require_same_as(self.known.origin, self.known.out)
            self._fits_known = True
        started = time.perf_counter()
        vectors = self.embedding.embed_contents(pending)
        self.seconds["embed"] += time.perf_counter() - started
        return vectors

    def _publish(
        self,
        origin: Origin,
        files: Sequence[SeenFile],
        vectors: dict[bytes, NDArray[np.floating]],
    ) -> None:
        started = time.perf_counter()
        units.publish(units.folder_of(self.known.out), origin, files, vectors)
        self.seconds["write"] += time.perf_counter() - started

    def _by_crew(self, parts: Iterator[Iterator[_Looked]], shown: Progress) -> Iterator[SeenFile]:
        """Have worker processes embed, a unit each at a time; this one only reads."""
        with Crew(self._workers, self.embedding, self.known) as crew:
            if self.known.origin is None:
                shown.say(f"loading {self.embedding.request} in {self._workers} processes ...")
            # Only where nothing is known does a run without new images have to load a backbone.
            origin = self.known.origin or crew.origin
            unchanged: list[SeenFile] = []
            work = self._units_for_crew(parts, origin, unchanged, shown)
            first = next(work, None)
            if first is not None:
                for done in crew.publish(itertools.chain([first], work)):
                    self.seconds["embed"] += done.embed_seconds
                    self.seconds["write"] += done.write_seconds
                    shown.add(len(done.files))
                    yield from done.files
            yield from unchanged
            self.seconds["load"] += crew.load_seconds

    def _units_for_crew(
        self,
        parts: Iterator[Iterator[_Looked]],
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
