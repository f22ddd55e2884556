"""What runs on a worker of a cluster: what it is sent is a call, made when it is unpacked.

Bytes alone are sent, and `pickle.loads` is what a worker is asked to call: whoever hands them on
need not have headstart, and a worker without it says so. Version and output are looked at before
anything else is unpacked.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import pickle
import platform
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import joblib

from ....features import child
from ....features.errors import HeadstartError, ProvenanceMismatch
from ....features.journal import marks, units
from ....features.origin import Origin
from ....features.provenance.augmentation import Augmentation
from ....features.records import AGAIN, UNREAD, FileStat, SeenFile
from ...backbones.request import Request
from ...machine import versions
from ...sources.image import ImageReference
from .. import unit
from ..readahead import look_ahead
from ..threads import Threads
from ..unit import Done, Job

_LIBRARIES: Final = ("pillow", "numpy", "keras", "tensorflow", "openvino", "onnxruntime")

_IDLE_SECONDS: Final = 600.0
"""After so long without a call a backbone makes room for that of another run."""

_counting = threading.Lock()
_runs: "Final[dict[str, _Run]]" = {}
"""Those that this worker has made something for, and may have a backbone of."""
over: Final[set[str]] = set()
"""Runs that came to their end, as far as is known here: nothing of them is begun any more. What is
given out says it of those of its driver, as not every worker can be told by itself."""
_parts: "Final[weakref.WeakValueDictionary[tuple[str, bytes], threading.Lock]]" = (
    weakref.WeakValueDictionary()
)


@dataclasses.dataclass
class _Run:
    """A run that this worker makes units for."""

    out: Path
    mark: str
    calls: int = 0
    """Under way."""
    last: float = 0.0
    """When it was heard of."""

    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it, as far as can be told."""
        idle = time.monotonic() - self.last > _IDLE_SECONDS
        return idle or not marks.is_there(self.out, self.mark)


class _Call:
    """Something that is a call when it is unpacked."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return call, self._arguments


def packed(job: Job, function: Any, *arguments: object) -> bytes:
    """A call of a function of this module with a job."""
    import cloudpickle

    data = cloudpickle.dumps((function, job, *arguments))
    ended = tuple(over)
    return pickle.dumps(_Call(version(), os.fspath(job.out), job.mark, job.run, data, ended))


def call(
    their_version: str, out: str, mark: str, run: str, data: bytes, ended: tuple[str, ...] = ()
) -> Any:
    """Make a call that was packed, if this worker is one for it.

    Raises
    ------
    HeadstartError
        If it has another version of headstart, or does not see the output; if the run is over.
    """
    if their_version != version():
        raise HeadstartError(
            f"worker {_here()} has headstart {version()}, and this run is of headstart "
            f"{their_version}; install the same version on all workers"
        )
    try:
        marks.require(Path(out), mark)
    except marks.Unseen as error:
        raise HeadstartError(
            f"worker {_here()} does not see {units.folder_of(Path(out))}, where finished work is "
            f"kept; the output has to lie on a disk that all workers have under the same path, "
            f"or at a URL"
        ) from error
    over.update(ended)
    if run in over:
        raise HeadstartError(f"worker {_here()}: the run that this was given out for is over")
    function, *arguments = pickle.loads(data)
    with _counted(run, Path(out), mark):
        try:
            return function(*arguments)
        except ProvenanceMismatch as error:
            raise ProvenanceMismatch(f"worker {_here()}: {error}") from error


def version() -> str:
    """Of the headstart that runs here."""
    try:
        return importlib.metadata.version("headstart")
    except importlib.metadata.PackageNotFoundError:  # a checkout
        return "unknown"


def libraries() -> dict[str, str]:
    """Versions of what decodes and embeds here."""
    return versions(*_LIBRARIES)


def install() -> str:
    """What to do where a worker lacks it."""
    return f"install there what is here: headstart {version()}, and what else the run needs"


def ready(job: Job, sample: Sequence[ImageReference]) -> tuple[str, dict[str, str]]:
    """Who is there, with which libraries.

    Refused without engine, weights or a sample of images, and where it cannot write to the URL.

    That is what can be found out with nothing loaded: whether vectors fit is seen when the backbone
    is loaded.
    """
    try:
        job.embedding.require_here()
        job.output.require_place()
    except HeadstartError as error:
        raise HeadstartError(f"worker {_here()}: {error}") from error
    for one in sample:
        if not one.exists():
            raise HeadstartError(
                f"worker {_here()} does not see {os.fsdecode(one.location)}; is the folder of the "
                f"images mounted there, under the same path?"
            )
    return _here(), libraries()


def begin(job: Job) -> Origin:
    """Load the backbone of a run: what vectors come from."""
    return unit.begin(_own(job))


def make(job: Job, references: Sequence[ImageReference], expected: bool, careful: bool) -> Done:
    """Make a unit; some of its images are `expected` to be seen from here.

    With care it is found out first, in a process of its own, which of them a process dies of.
    """
    near = [one for one in references if not one.far]
    if expected and near and not any(one.exists() for one in near):
        raise HeadstartError(
            f"worker {_here()} sees none of the {len(near):,} images of a unit, the first of which "
            f"is {os.fsdecode(near[0].location)}; is their folder mounted there?"
        )
    with _alone(job, references):
        dead = _deadly(job, references) if careful else set()
        why = f"a process dies of decoding it; {AGAIN}"
        lost = [SeenFile(FileStat(path, 0, 0, 0), UNREAD, 0, 0, why) for path in sorted(dead)]
        sound = [one for one in references if one.path not in dead]
        return unit.make(_own(job), sound, lost)


def forget(job: Job) -> None:
    """Let go of the backbone of a run."""
    over.add(job.run)
    with _counting:
        worker = unit.workers.pop(job.run, None)
        _runs.pop(job.run, None)
    if worker is not None:
        worker.close(at_once=True)


def _here() -> str:
    return f"{platform.node()} (process {os.getpid()})"


def _own(job: Job) -> Job:
    """The job with the cores that are this worker's own, for the first call of a run."""
    if job.run in unit.workers:
        return job
    ready(job, ())
    share = job.embedding.tuning.share or _cores()
    return dataclasses.replace(job, embedding=job.embedding.unloaded(share))


def _cores() -> int:
    """How many processor cores this worker may use."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        with contextlib.suppress(ValueError):  # the worker of something else
            return max(1, int(get_worker().state.nthreads))
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            assigned = ray.get_runtime_context().get_assigned_resources()
            return max(1, int(assigned.get("CPU", 1)))
    return max(1, int(joblib.cpu_count()))


@contextlib.contextmanager
def _counted(run: str, out: Path, mark: str) -> Iterator[None]:
    """Count a call; what runs that are over left here makes room."""
    with _counting:
        others = [(name, one) for name, one in _runs.items() if name != run and not one.calls]
        gone = [name for name, one in others if name in over or one.is_over()]
        workers = [unit.workers.pop(name, None) for name in gone]
        for name in gone:
            del _runs[name]
        this = _runs.setdefault(run, _Run(out, mark))
        this.mark = mark
        this.calls += 1
    for worker in workers:
        if worker is not None:
            worker.close(at_once=True)
    try:
        yield
    finally:
        with _counting:
            this.calls -= 1
            this.last = time.monotonic()


@contextlib.contextmanager
def _alone(job: Job, references: Sequence[ImageReference]) -> Iterator[None]:
    """Be the only one at these images: a call that was thought to be lost may still be at them."""
    key = job.run, b"\0".join((references[0].path, references[-1].path))
    with _counting:
        lock = _parts.setdefault(key, threading.Lock())
    with lock:
        yield


def _deadly(job: Job, references: Sequence[ImageReference]) -> set[bytes]:
    """Paths of the images that a process dies of; none where that cannot be tried."""
    request = job.embedding.request
    if _dies(request, [], job.augmentation):
        return set()

    def among(some: Sequence[ImageReference]) -> set[bytes]:
        if not _dies(request, some, job.augmentation):
            return set()
        if len(some) == 1:
            return {some[0].path}
        middle = len(some) // 2
        return among(some[:middle]) | among(some[middle:])

    return among(references)


def _dies(
    request: Request, references: Sequence[ImageReference], augmentation: Augmentation
) -> bool:
    try:
        child.call(look_at, request, list(references), augmentation)
    except child.ChildDied:
        return True
    return False


def look_at(
    request: Request, references: Sequence[ImageReference], augmentation: Augmentation
) -> None:
    """Read and decode images as for a unit, in a process that may die of it."""
    with Threads(joblib.cpu_count(), "decode") as threads:
        for _ in look_ahead(references, None, request, threads, augmentation):
            pass
