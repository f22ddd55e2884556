"""The images that a run has to look at -> published units, by whatever executor there is."""

import contextlib
import dataclasses
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, as_completed, wait
from typing import Final

import joblib

from ...features.errors import FeatureFileError
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.units import UNIT_IMAGES
from ...features.origin import Origin
from ...features.provenance.augmentation import NO_AUGMENTATION, Augmentation
from ...features.records import UNREAD, FileStat, SeenFile
from .. import engines
from ..embedding import Embedding
from ..sources.image import ImageReference
from . import here, processes, unit
from .progress import Progress
from .summary import Tally
from .unit import Done, Job, NotBegun

_WAITING: Final = 2
"""Tasks ready for the next free worker; references are small."""


@dataclasses.dataclass(frozen=True)
class CaughtUp:
    """Everything that has been made known."""

    known: Known
    stats: dict[bytes, FileStat]
    """Of each image by its path, as it was when it was looked at: `known` has it by this."""
    tally: Tally


def catch_up(
    known: Known,
    embedding: Embedding,
    images: Sequence[ImageReference],
    stats: Mapping[bytes, FileStat],
    *,
    augmentation: Augmentation = NO_AUGMENTATION,
    rescan: bool = False,
    workers: int = 1,
    unit_images: int = UNIT_IMAGES,
    progress: bool = False,
) -> CaughtUp:
    """Make everything about `images` known that is not; `stats` are theirs, by path.

    That is what each is, and the vectors of its views. With `rescan` every image is read again.
    """
    stats, tally = dict(stats), Tally()
    unsettled = stats.keys() if rescan else known.unsettled(stats.values())
    todo = [
        image
        for image in images
        if image.path in unsettled or _lacks_views(known, image, stats[image.path], augmentation)
    ]
    todo.sort(key=lambda image: image.place)
    if todo:
        engines.warn_of_slow_bf16(embedding.request.precision)
        with (
            contextlib.closing(Progress(len(todo), shown=progress)) as shown,
            contextlib.closing(
                _units(known, embedding, todo, augmentation, workers, unit_images, shown)
            ) as made,
        ):
            files: list[SeenFile] = []
            for done in made:
                tally.add(done)
                files += done.files
        stats |= {file.path: file.stat for file in files}
        known = known.again()
        lost = sum(not _reads_back(known.seen(file.stat), file) for file in files)
        if lost:
            raise FeatureFileError(
                f"{units.folder_of(known.out)}: {lost} images that were just embedded do not read "
                f"back; check the disk, then run the same command again"
            )
    return CaughtUp(known, stats, tally)


def _lacks_views(
    known: Known, image: ImageReference, stat: FileStat, augmentation: Augmentation
) -> bool:
    views = augmentation.of_split(image.split)
    if views == 1:
        return False
    seen = known.seen(stat)
    return seen is not None and not seen.reason and bool(known.lacking(seen.digest, views))


def _reads_back(kept: SeenFile | None, file: SeenFile) -> bool:
    return kept is not None and (file.digest in (kept.digest, UNREAD))


def _units(
    known: Known,
    embedding: Embedding,
    todo: Sequence[ImageReference],
    augmentation: Augmentation,
    workers: int,
    unit_images: int,
    shown: Progress,
) -> Generator[Done]:
    # A unit has about as many vectors however many views an image has.
    length = min(math.ceil(unit_images / augmentation.views), math.ceil(len(todo) / workers))
    parts = [todo[start : start + length] for start in range(0, len(todo), length)]
    job = Job(
        embedding,
        known.out,
        known.source,
        known.fresh,
        known.without,
        known.origin,
        known.turn,
        augmentation,
    )
    if known.origin is not None:
        # Files that were only renamed, or cannot be read, need no backbone: neither are processes
        # started for them alone nor is anything loaded.
        with here.executor(job, known, shown.add) as executor, contextlib.suppress(NotBegun):
            while parts:
                yield executor.submit(unit.make, job, parts[0]).result()
                del parts[0]
    if not parts:
        return
    if workers == 1:
        shown.say(f"loading {embedding.request} ...")
        with here.executor(job, known, shown.add) as executor:
            # In this thread, where Ctrl-C reaches it.
            yield from _made(_begun(job, known, unit.begin(job)), parts, executor, here.WIDTH)
        return
    shown.say(f"loading {embedding.request} in {workers} processes ...")
    # Together the workers have one thread for each core.
    embedding = embedding.unloaded(share=max(1, joblib.cpu_count() // workers))
    job = dataclasses.replace(job, embedding=embedding)
    with processes.executor(workers, known.out) as executor:
        # One begins alone: it may have to download weights, which no two should do at once, and if
        # they are not available this says so before any image is decoded.
        job = _begun(job, known, executor.submit(unit.begin, job).result())
        for done in _made(job, parts, executor, workers):
            shown.add(len(done.files))
            yield done


def _begun(job: Job, known: Known, origin: Origin) -> Job:
    """The job for all who come after the process that has begun it."""
    origin = job.origin or origin.called(str(job.out), known.remedy)
    return dataclasses.replace(job, origin=origin, begun=True)


def _made(
    job: Job, parts: Iterable[Sequence[ImageReference]], executor: Executor, width: int
) -> Iterator[Done]:
    """Have units made, `width` at a time and a few more waiting; in the order of their ends."""
    waiting: set[Future[Done]] = set()
    for part in parts:
        waiting.add(executor.submit(unit.make, job, part))
        full = len(waiting) >= width + _WAITING
        ended, waiting = wait(waiting, None if full else 0, FIRST_COMPLETED)
        yield from (one.result() for one in ended)
    yield from (one.result() for one in as_completed(waiting))
