"""The images that a run has to look at -> published units, by whatever executor there is."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, as_completed, wait
from typing import Final

import joblib

from ...features.errors import FeatureFileError
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.units import UNIT_IMAGES
from ...features.records import FileStat, must_read
from .. import engines
from ..embedding import Embedding
from ..sources.image import ImageReference
from . import here, processes, unit
from .progress import Progress
from .readahead import read
from .summary import Tally
from .unit import Done, Job

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
    *,
    workers: int = 1,
    unit_images: int = UNIT_IMAGES,
    progress: bool = False,
) -> CaughtUp:
    """Make everything about `images` known that is not."""
    stats = {image.path: image.stat() for image in images}
    todo = [image for image in images if must_read(known.seen(stats[image.path]))]
    tally = Tally()
    if todo:
        engines.warn_of_slow_bf16(embedding.request.precision)
        with (
            contextlib.closing(Progress(len(todo), shown=progress)) as shown,
            contextlib.closing(_units(known, embedding, todo, workers, unit_images, shown)) as made,
        ):
            for done in made:
                tally.add(done)
                stats |= {file.path: file.stat for file in done.files}
        known = known.again()
        lost = [stat for stat in stats.values() if known.seen(stat) is None]
        if lost:
            raise FeatureFileError(
                f"{units.folder_of(known.out)}: {len(lost)} images that were just embedded do not "
                f"read back; check the disk, then run the same command again"
            )
    return CaughtUp(known, stats, tally)


def _units(
    known: Known,
    embedding: Embedding,
    todo: Sequence[ImageReference],
    workers: int,
    unit_images: int,
    shown: Progress,
) -> Generator[Done]:
    anything = known.origin is not None
    if workers > 1 and anything:
        # Files that were only renamed need no backbone, so no process is started for them alone.
        renamed = list(itertools.takewhile(lambda image: _known_content(image, known), todo))
        yield from _units(known, embedding, renamed, 1, unit_images, shown)
        todo = todo[len(renamed) :]
    if not todo:
        return
    length = min(unit_images, math.ceil(len(todo) / workers))
    parts = [todo[start : start + length] for start in range(0, len(todo), length)]
    loading = f"loading {embedding.request}"
    if workers > 1:
        # Together the workers have one thread for each core.
        embedding = embedding.unloaded(share=max(1, joblib.cpu_count() // workers))
    job = Job(embedding, known.out, known.source, known.fresh, known.origin)
    if workers == 1:
        with here.executor(job, known, shown.add) as executor:
            if not anything:  # otherwise loading can wait for the first new image
                shown.say(f"{loading} ...")
                job = _begun(job, known, executor)
            yield from _made(job, parts, executor, here.WIDTH)
        return
    with processes.executor(workers, known.out) as executor:
        if not anything:
            shown.say(f"{loading} in {workers} processes ...")
        # One begins alone: it may have to download weights, which no two should do at once, and if
        # they are not available this says so before any image is decoded.
        job = _begun(job, known, executor)
        for done in _made(job, parts, executor, workers):
            shown.add(len(done.files))
            yield done


def _known_content(image: ImageReference, known: Known) -> bool:
    seen, _ = read(image)
    return known.image(seen.digest) is not None


def _begun(job: Job, known: Known, executor: Executor) -> Job:
    """Have one process begin; the vectors of all others have to fit its own."""
    begun = executor.submit(unit.begin, job).result()
    job.embedding.joins = (job.origin or begun).called(str(job.out), known.remedy)
    return dataclasses.replace(job, origin=job.embedding.joins)


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
