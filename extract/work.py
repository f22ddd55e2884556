"""The images that a run has to look at -> published units: read and decode beside embedding."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import hashlib
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np

from ..features import units
from ..features.units import UNREAD, SeenFile
from .decode import Undecodable, decode
from .progress import Progress
from .reading import Unreadable, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ..features.known import Known
    from .embedding import Embedding
    from .sources import ImageReference

UNIT_IMAGES: Final = 256
"""Images a unit: the most that a killed run loses, about half a minute of Xception on two cores."""

_DECODED_AHEAD: Final = 128
"""Images decoded before they are needed: 34 MB at 299 pixels."""


@dataclasses.dataclass(frozen=True)
class _Looked:
    """What looking at one image gave: the file, and pixels if its vector is not known."""

    file: SeenFile
    pixels: NDArray[np.uint8] | None
    seconds: float


class Work:
    """The images of one run that have to be looked at, published unit by unit."""

    def __init__(self, known: Known, embedding: Embedding) -> None:
        self.known = known
        self.embedding = embedding
        self.embedded: set[bytes] = set()
        self.decoded = 0
        self.seconds = dict.fromkeys(("decode", "embed", "write"), 0.0)
        self._fits_known = known.provenance is None

    def over(self, images: Sequence[ImageReference], *, progress: bool) -> Iterator[SeenFile]:
        """Look at `images`, embed what is new, publish it, and yield what each file was."""
        shown = Progress(len(images), shown=progress)
        pool = ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="decode")
        try:
            if self.known.provenance is None:
                shown.say(f"loading {self.embedding.request} ...")
                _ = self.embedding.provenance  # weights that cannot be had end the run right here
            looked = self._looked_ahead(pool, images)
            for start in range(0, len(images), UNIT_IMAGES):
                length = min(UNIT_IMAGES, len(images) - start)
                yield from self._unit(itertools.islice(looked, length), shown)
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

    def _unit(self, looked: Iterator[_Looked], shown: Progress) -> list[SeenFile]:
        files: list[SeenFile] = []
        vectors: dict[bytes, NDArray[np.floating]] = {}
        pending: dict[bytes, NDArray[np.uint8]] = {}
        waiting = 0
        for one in looked:
            files.append(one.file)
            self.seconds["decode"] += one.seconds
            waiting += 1
            if one.pixels is not None:
                self.decoded += 1
                if one.file.digest not in self.embedded:
                    self.embedded.add(one.file.digest)
                    pending[one.file.digest] = one.pixels
            if len(pending) == self._batch(pending):
                vectors |= self._embed(pending)
                pending.clear()
                shown.add(waiting)
                waiting = 0
        if pending:
            vectors |= self._embed(pending)
        self._publish(files, vectors)
        shown.add(waiting)
        return files

    def _batch(self, pending: dict[bytes, NDArray[np.uint8]]) -> int:
        # Asking for the batch loads the backbone, which a run without new images never does.
        return self.embedding.batch if pending else 1

    def _embed(self, pending: dict[bytes, NDArray[np.uint8]]) -> dict[bytes, NDArray[np.floating]]:
        if not self._fits_known:
            self.embedding.require_same_as(self.known)
            self._fits_known = True
        started = time.perf_counter()
        vectors = self.embedding.embed(np.stack(list(pending.values())))
        self.seconds["embed"] += time.perf_counter() - started
        return dict(zip(pending, vectors, strict=True))

    def _publish(
        self, files: Sequence[SeenFile], vectors: dict[bytes, NDArray[np.floating]]
    ) -> None:
        started = time.perf_counter()
        known, embedding = self.known, self.embedding
        provenance, canary, environment = known.provenance, known.canary, known.environment
        if vectors or provenance is None or canary is None:
            provenance = embedding.provenance
            environment = embedding.environment | {
                "source": known.source,
                "extracted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
            canary = embedding.canary if canary is None else canary
        folder = units.folder_of(known.out)
        units.publish(folder, provenance, environment, canary, files, vectors)
        self.seconds["write"] += time.perf_counter() - started
