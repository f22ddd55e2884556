"""References to images -> what each was found to be, read and decoded before it is needed."""

import collections
import dataclasses
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.journal.known import Known
from ...features.records import UNREAD, FileStat, SeenFile
from ..backbones.request import Request
from ..images.decode import Undecodable, decode
from ..sources.image import ImageReference, Unreadable

AHEAD: Final = 64
"""Images of a unit that are decoded before they are needed: 17 MB at 299 pixels."""


@dataclasses.dataclass(frozen=True)
class Looked:
    """What looking at one image gave."""

    file: SeenFile
    pixels: NDArray[np.uint8] | None
    """(size, size, 3); None if it cannot be decoded, or need not be: its vector is known."""
    read_seconds: float
    """Until its bytes were there."""
    decode_seconds: float
    """Of one processor core: for hashing, decoding and resizing."""


def look_ahead(
    images: Iterable[ImageReference], known: Known | None, request: Request, threads: Executor
) -> Iterator[Looked]:
    """Look at images in threads, in their order; the first are submitted at once."""
    coming = iter(images)
    waiting: collections.deque[Future[Looked]] = collections.deque()

    def begin(count: int) -> None:
        for image in itertools.islice(coming, count):
            waiting.append(threads.submit(_look, image, known, request))

    def results() -> Iterator[Looked]:
        try:
            while waiting:
                looked = waiting.popleft().result()
                begin(1)
                yield looked
        finally:
            for future in waiting:
                future.cancel()

    begin(AHEAD)
    return results()


def _look(image: ImageReference, known: Known | None, request: Request) -> Looked:
    started = time.perf_counter()
    seen, pixels = SeenFile(FileStat(image.path, 0, 0, 0), UNREAD, 0, 0), None
    try:
        data, stat = image.read()
    except (Unreadable, MemoryError) as error:
        seen = seen._replace(reason=_reason(error))
        return Looked(seen, None, time.perf_counter() - started, 0.0)
    read_seconds, computing = time.perf_counter() - started, time.thread_time()
    digest = hashlib.sha256(data).digest()
    seen = seen._replace(stat=stat, digest=digest)
    twin = known.image(digest) if known else None
    try:
        if twin is not None:
            width, height = twin.width, twin.height
        else:
            decoded = decode(data, request.size, request.fit)
            pixels, width, height = decoded.pixels, decoded.width, decoded.height
        seen = seen._replace(width=width, height=height)
    except Undecodable as error:
        seen = seen._replace(reason=_reason(error))
    except MemoryError as error:
        seen = seen._replace(digest=UNREAD, reason=_reason(error))  # it is tried again
    return Looked(seen, pixels, read_seconds, time.thread_time() - computing)


def _reason(error: Unreadable | Undecodable | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it now"
    return str(error)
