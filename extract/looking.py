"""The images listed -> what each was found to be, read and decoded before it is needed."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import joblib

from ..features.units import UNREAD, SeenFile
from .decode import Undecodable, decode
from .reading import Unreadable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from ..features.known import Known
    from .request import Request
    from .sources import ImageReference

_AHEAD: Final = 128
"""Images decoded before they are needed: 34 MB at 299 pixels."""


@dataclasses.dataclass(frozen=True)
class Looked:
    """What looking at one image gave.

    Attributes
    ----------
    file : SeenFile
        What it was found to be.
    pixels : ndarray of uint8, shape (size, size, 3), or None
        None if it cannot be decoded, or need not be: its vector is known.
    read_seconds : float
        Until its bytes were there.
    decode_seconds : float
        Of one processor core: for hashing, decoding and resizing.
    """

    file: SeenFile
    pixels: NDArray[np.uint8] | None
    read_seconds: float
    decode_seconds: float


def look_ahead(
    images: Sequence[ImageReference], known: Known, request: Request
) -> Generator[Looked, None, None]:
    """Look at images in a thread for each core, always a little ahead of whoever asks.

    Parameters
    ----------
    images : sequence of ImageReference
        What to look at; the results come in the same order.
    known : Known
        Contents that need not be decoded.
    request : Request
        Size and fit of the pixels.
    """
    pool = ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="decode")
    try:
        waiting: collections.deque[Future[Looked]] = collections.deque()
        for image in images:
            waiting.append(pool.submit(_look, image, known, request))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _look(image: ImageReference, known: Known, request: Request) -> Looked:
    started = time.perf_counter()
    seen = SeenFile(image.path, 0, 0, UNREAD, 0, 0)
    try:
        data, stat = image.read()
    except (Unreadable, MemoryError) as error:
        seen = dataclasses.replace(seen, reason=_reason(error))
        return Looked(seen, None, time.perf_counter() - started, 0.0)
    read_seconds = time.perf_counter() - started

    computing = time.thread_time()
    seen = dataclasses.replace(seen, size=stat.size, mtime_ns=stat.mtime_ns)
    digest, pixels = hashlib.sha256(data).digest(), None
    twin = known.image(digest)
    try:
        if twin is not None:
            width, height = twin.width, twin.height
        else:
            decoded = decode(data, request.size, request.fit)
            pixels, width, height = decoded.pixels, decoded.width, decoded.height
        seen = dataclasses.replace(seen, digest=digest, width=width, height=height)
    except Undecodable as error:
        seen = dataclasses.replace(seen, digest=digest, reason=_reason(error))
    except MemoryError as error:
        seen = dataclasses.replace(seen, reason=_reason(error))  # UNREAD: it is tried again
    return Looked(seen, pixels, read_seconds, time.thread_time() - computing)


def _reason(error: Unreadable | Undecodable | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "needs more memory than there is now"
    return str(error)
