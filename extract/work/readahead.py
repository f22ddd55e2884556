"""References to images -> what each was found to be, read and decoded before it is needed.

Reading from this machine is done by the threads that decode. Reading from far away is mostly
waiting: many images are read at a time, and the threads that decode take what has come.
"""

import collections
import dataclasses
import functools
import hashlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features.journal.known import Known
from ...features.provenance.augmentation import NO_AUGMENTATION, Augmentation
from ...features.records import AGAIN, UNREAD, FileStat, SeenFile
from ..backbones.request import Request
from ..images.decode import Missing, Undecodable, decode
from ..images.views import view
from ..sources.image import ImageReference, Unreadable
from .threads import Threads

AHEAD: Final = 64
"""Images of a unit that are decoded before they are needed: 17 MB at 299 pixels."""

_FEWEST_AHEAD: Final = 2
"""Where each has many views, so that they do not fill the memory."""

FAR_AHEAD: Final = 128
"""The same for images that are far, of which some are still on their way: two for each of the
`READERS`, so that none waits for an image that is late."""

FAR_BYTES: Final = 256 << 20
"""No more is on its way, but for a single image, so that large images cannot fill the memory."""

READERS: Final = 64
"""Threads that read what cannot be begun and left to itself, as members of archives."""

_Data = tuple[bytes, FileStat]


@dataclasses.dataclass(frozen=True)
class Looked:
    """What looking at one image gave."""

    file: SeenFile
    pixels: dict[int, NDArray[np.uint8]]
    """(size, size, 3) by the number of the view, of those whose vectors are not known; none if it
    cannot be decoded."""
    read_seconds: float
    """Until its bytes were there."""
    decode_seconds: float
    """Of one processor core: for hashing, decoding and resizing."""


def look_ahead(
    images: Iterable[ImageReference],
    known: Known | None,
    request: Request,
    threads: Executor,
    augmentation: Augmentation = NO_AUGMENTATION,
) -> Iterator[Looked]:
    """Look at images in threads, in their order; the first are submitted at once."""
    results = _looked(images, known, request, threads, augmentation)
    next(results)  # begins; so whoever drops it before its first result ends what has begun, too
    return (looked for looked in results if looked is not None)


def _looked(
    images: Iterable[ImageReference],
    known: Known | None,
    request: Request,
    threads: Executor,
    augmentation: Augmentation,
) -> Iterator[Looked | None]:
    coming = iter(images)
    waiting: collections.deque[tuple[Future[Looked], int]] = collections.deque()
    far = _Far()
    held: ImageReference | None = None
    bytes_ahead = 0
    ahead, far_ahead = (
        max(most // augmentation.views, _FEWEST_AHEAD) for most in (AHEAD, FAR_AHEAD)
    )

    def begin() -> None:
        nonlocal held, bytes_ahead
        while (image := held or next(coming, None)) is not None:
            held, reading, size = None, None, 0
            if image.far:
                size = image.stat().size
            if len(waiting) >= (far_ahead if image.far else ahead) or (
                bytes_ahead and size and bytes_ahead + size > FAR_BYTES
            ):
                held = image
                return
            if image.far:
                reading = far.begin(image)
            waiting.append(
                (threads.submit(_look, image, known, request, augmentation, reading), size)
            )
            bytes_ahead += size

    try:
        begin()
        yield None
        while waiting:
            future, size = waiting.popleft()
            looked = future.result()
            bytes_ahead -= size
            begin()
            yield looked
    finally:
        for future, _ in waiting:
            future.cancel()
        far.close()


class _Far:
    """Reading of images that are far away: begun here, waited for elsewhere."""

    def __init__(self) -> None:
        self._readers: Threads | None = None
        self._begun: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def begin(self, image: ImageReference) -> Callable[[], _Data]:
        """Begin to read an image; what is returned waits for it, and raises as `read` does."""
        try:
            bytes_ = image.begin()
        except Unreadable:
            return image.read  # says it again
        if bytes_ is not None:
            self._begun.add(bytes_)
            return functools.partial(_ended, image, bytes_)
        if self._readers is None:
            self._readers = Threads(READERS, "read")
        data = self._readers.submit(image.read)
        self._begun.add(data)
        return data.result

    def close(self) -> None:
        """Let go of what is still on its way."""
        for future in tuple(self._begun):
            future.cancel()
        if self._readers is not None:
            self._readers.abandon()


def _ended(image: ImageReference, data: "Future[bytes]") -> _Data:
    return image.ended(data.result())


def _look(
    image: ImageReference,
    known: Known | None,
    request: Request,
    augmentation: Augmentation,
    reading: Callable[[], _Data] | None = None,
) -> Looked:
    started = time.perf_counter()
    seen = SeenFile(FileStat(image.path, 0, 0, 0), UNREAD, 0, 0)
    pixels: dict[int, NDArray[np.uint8]] = {}
    try:
        data, stat = image.read() if reading is None else reading()
    except (Unreadable, MemoryError) as error:
        seen = seen._replace(reason=_reason(error))
        return Looked(seen, pixels, time.perf_counter() - started, 0.0)
    read_seconds, computing = time.perf_counter() - started, time.thread_time()
    digest = hashlib.sha256(data).digest()
    seen = seen._replace(stat=stat, digest=digest)
    twin, views = known.image(digest) if known else None, augmentation.of_split(image.split)
    lacking = known.lacking(digest, views) if known else range(views)
    try:
        if twin is not None and not lacking:
            width, height = twin.width, twin.height
        else:
            decoded = decode(data, request.size, request.fit)
            width, height = decoded.width, decoded.height
            pixels = {
                number: view(decoded.pixels, digest, number, augmentation.recipe)
                if number
                else decoded.pixels
                for number in lacking
            }
        seen = seen._replace(width=width, height=height)
    except (Missing, MemoryError) as error:
        seen = seen._replace(digest=UNREAD, reason=_reason(error))  # it is tried again
    except Undecodable as error:
        seen = seen._replace(reason=_reason(error))
    return Looked(seen, pixels, read_seconds, time.thread_time() - computing)


def _reason(error: Unreadable | Undecodable | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return f"there is not enough memory to decode it now; {AGAIN}"
    return str(error)
