"""What every engine does: images go in from one side, vectors come out, several calls at once."""

import abc
import ctypes
import dataclasses
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...features.child import after_fork
from ...features.errors import BackboneError, first_line
from ..backbones.build import Backbone
from ..machine import forked_after

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_log = logging.getLogger("headstart")

_PIXELS_A_CALL: Final = 110_000
_MOST_A_CALL: Final = 8

_NO_MEMORY: Final = (
    "resource_exhausted",  # JAX
    "resourceexhausted",  # TensorFlow
    "oom when",
    "out of memory",
    "bad_alloc",  # what C++ libraries such as OpenVINO pass on
    "bad allocation",
    "failed to allocate",
    "cannot allocate",
    "alloc_failed",  # cuDNN and cuBLAS
)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How an engine uses the machine; none of it changes a vector by more than rounding."""

    batch: int | None = None
    """Images per call."""
    streams: int | None = None
    """Calls that run side by side (``openvino`` only)."""
    threads: int | None = None
    """Processor cores to use."""
    share: int | None = None
    """Cores for this one of several worker processes, unless `threads` says otherwise."""


def few_a_call(size: int) -> int:
    """Images of `size` pixels for a call that one core computes, beside those of other cores.

    One at 299 pixels, two at 224, up to eight at small sizes: more do not fit into the caches of a
    core (MobileNetV2 at 224 pixels in f32 by OpenVINO: 270 images per second by ones and twos, 230
    by fours), fewer are calls without need.
    """
    return min(_MOST_A_CALL, max(1, _PIXELS_A_CALL // size**2))


class Engine(abc.ABC):
    """Runs a frozen graph.

    Every call has the same shape: a short batch is filled up with black images, so that the graph
    is compiled once and a vector does not depend on how many images came with it. Where there is
    not enough memory for a call, it and all that follow take half as many images.
    """

    name: ClassVar[str]
    """By which it is asked for."""
    calls: int = 1
    """Calls at a time that keep it busy."""

    def __init__(self, backbone: Backbone, batch: int) -> None:
        self._shape = (backbone.size, backbone.size, 3)
        self._dimension = backbone.dimension
        self._process = os.getpid()
        self._halving = threading.Lock()
        self._compiled = self._fitting(batch)
        self._pool = ThreadPoolExecutor(self.calls, thread_name_prefix="embed")
        _alive.add(self)

    @property
    def batch(self) -> int:
        """Images per call."""
        return self._compiled[0]

    def submit(self, images: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Have the vectors of images computed: (n, size, size, 3) uint8 RGB -> (n, D) float32.

        Best with `batch` images, but any number will do.
        """
        if os.getpid() != self._process:
            raise forked_after(self.name)
        return self._pool.submit(self._vectors, images)

    def submit_all(self, images: NDArray[np.uint8]) -> list[Future[NDArray[np.float32]]]:
        """Have the vectors of any number of images computed, a call for each `batch` of them."""
        batch = self.batch
        return [self.submit(images[k : k + batch]) for k in range(0, len(images), batch)]

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Wait for the vectors of any number of images; see `submit`."""
        vectors = [call.result() for call in self.submit_all(images)]
        return np.concatenate([np.empty((0, self._dimension), np.float32), *vectors])

    @abc.abstractmethod
    def environment(self) -> dict[str, Any]:
        """What runs the graph: recorded, never compared."""

    @abc.abstractmethod
    def _compile(self, batch: int) -> Run:
        """Something that takes exactly `batch` images, from several threads; may set `calls`."""

    def _vectors(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        vectors = np.empty((len(images), self._dimension), np.float32)
        done = 0
        while done < len(images):
            batch, run = self._compiled
            part = images[done : done + batch]
            call = part
            if len(part) < batch:
                call = np.zeros((batch, *self._shape), np.uint8)
                call[: len(part)] = part
            try:
                vectors[done : done + len(part)] = run(call)[: len(part)]
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._halve(batch, error)
            else:
                done += len(part)
        return vectors

    def _fitting(self, batch: int) -> tuple[int, Run]:
        """The graph compiled for `batch` images, or for as many as there is memory for."""
        while True:
            try:
                return batch, self._compile(batch)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                batch = _half(batch, error)

    def _halve(self, batch: int, error: Exception) -> None:
        with self._halving:
            if self.batch == batch:  # otherwise another call has run out of memory as well
                self._compiled = self._fitting(_half(batch, error))


_alive: Final[weakref.WeakSet[Engine]] = weakref.WeakSet()


def _never_free() -> None:
    # In a process that was forked: OpenVINO ends its process if it is freed without its threads.
    for engine in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


after_fork(_never_free)


def _half(batch: int, error: Exception) -> int:
    if batch == 1:
        raise BackboneError(
            f"there is not enough memory to embed a single image: {first_line(error)}; use a "
            f"smaller --size, fewer --streams or --workers, or another backbone"
        ) from error
    _log.warning(
        "not enough memory to embed %d images at once; going on with %d (--batch %d)",
        batch,
        batch // 2,
        batch // 2,
    )
    return batch // 2


def out_of_memory(error: Exception) -> bool:
    """Whether an error of any library means that memory ran out; few have a class for it."""
    if isinstance(error, MemoryError):
        return True
    said = f"{type(error).__name__} {error}".lower()
    return any(word in said for word in _NO_MEMORY)
