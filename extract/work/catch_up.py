"""The images that a run has to look at -> published units, by whatever executor there is."""

import contextlib
import dataclasses
import math
import queue
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import joblib

from ...features.errors import FeatureFileError
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.outputs import Output
from ...features.journal.units import UNIT_IMAGES
from ...features.origin import Origin
from ...features.provenance.augmentation import NO_AUGMENTATION, Augmentation
from ...features.records import UNREAD, FileStat
from .. import engines
from ..embedding import Embedding
from ..sources.image import ImageReference
from . import calibration, clusters, here, processes, unit
from .clusters import Given
from .clusters.crew import Crew, Part, ToDo
from .clusters.fetching import fetched
from .clusters.parts import Parts
from .progress import Progress
from .summary import Found, Tally
from .unit import Done, Job, NotBegun


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
    executor: Given | None = None,
    unit_images: int = UNIT_IMAGES,
    progress: bool = False,
    ending: Callable[[], None] = lambda: None,
    before: Tally | None = None,
) -> CaughtUp:
    """Make everything about `images` known that is not; `stats` are theirs, by path.

    That is what each is, and the vectors of its views. With `rescan` every image is read again.
    `ending` is called when the last units are being made; `before` is of what was made before.
    """
    stats, tally = dict(stats), before or Tally()
    unsettled = stats.keys() if rescan else known.unsettled(stats.values())
    todo = [
        image
        for image in images
        if image.path in unsettled or _lacks_views(known, image, stats[image.path], augmentation)
    ]
    todo.sort(key=lambda image: image.place)
    if todo:
        engines.warn_of_slow_bf16(embedding.request.precision)
        engines.warn_of_slow_int8(embedding.request.precision)
        calibration.keep(embedding.request, known)
        with (
            contextlib.closing(Progress(len(todo), shown=progress)) as shown,
            contextlib.closing(
                _units(
                    known,
                    embedding,
                    todo,
                    augmentation,
                    workers,
                    executor,
                    unit_images,
                    shown,
                    ending,
                )
            ) as made,
        ):
            found = Found(tally)
            for done in made:
                found.add(done, stats)
        Output.at(known.out).pull()  # of workers on other machines
        known = known.again()
        # Once: what does not read back for another reason would not do so the next time.
        if before is None and (widows := _widows(known, todo, stats, augmentation)):
            return catch_up(
                known,
                embedding,
                widows,
                stats,
                augmentation=augmentation,
                workers=workers,
                executor=executor,
                unit_images=unit_images,
                progress=progress,
                ending=ending,
                before=tally,
            )
        lost = found.lost(known.seen(stats[image.path]) for image in todo)
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


def _widows(
    known: Known,
    images: Sequence[ImageReference],
    stats: Mapping[bytes, FileStat],
    augmentation: Augmentation,
) -> list[ImageReference]:
    """Images whose content, or a view, was left to another image's unit that was given up then."""
    found = (known.seen(stats[image.path]) for image in images)
    if not any(one is not None and one.digest == UNREAD for one in found):
        return []
    return [
        image
        for image in images
        if known.seen(stat := stats[image.path]) is None
        or _lacks_views(known, image, stat, augmentation)
    ]


def _units(
    known: Known,
    embedding: Embedding,
    todo: Sequence[ImageReference],
    augmentation: Augmentation,
    workers: int,
    executor: Given | None,
    unit_images: int,
    shown: Progress,
    ending: Callable[[], None],
) -> Generator[Done]:
    # A unit has about as many vectors however many views an image has.
    most = math.ceil(unit_images / augmentation.views)
    parts = Parts(todo, most, workers)
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
    if job.output.far and not any(image.place for image in todo):
        parts.shuffle()  # or two runs on one output would be at the same
    if known.origin is not None:
        # Files that were only renamed, or cannot be read, need no backbone: neither are processes
        # started for them alone nor is anything loaded.
        with here.executor(job, known, shown.add) as threads, contextlib.suppress(NotBegun):
            while parts:
                yield threads.submit(unit.make, job, parts.first()).result()
                parts.drop_first()
    if not parts:
        return
    if len(parts) == 1:
        ending()
    if executor is not None:
        yield from _by_cluster(known, job, parts, executor, shown, ending)
        return
    if workers == 1:
        shown.say(f"loading {embedding.request} ...")
        with here.executor(job, known, shown.add) as threads:
            # In this thread, where Ctrl-C reaches it.
            job = _begun(job, known, unit.begin(job))
            yield from _made(job, parts, Crew(threads, here.WIDTH), ending)
        return
    shown.say(f"loading {embedding.request} in {workers} processes ...")
    # Together the workers have one thread for each core.
    embedding = embedding.unloaded(share=max(1, joblib.cpu_count() // workers))
    job = dataclasses.replace(job, embedding=embedding)
    with processes.executor(workers, known.out) as pool:
        # One begins alone: it may have to download weights, which no two should do at once, and if
        # they are not available this says so before any image is decoded.
        job = _begun(job, known, pool.submit(unit.begin, job).result())
        yield from _counted(_made(job, parts, Crew(pool, workers), ending), shown)


def _by_cluster(
    known: Known,
    job: Job,
    parts: Parts,
    executor: Given,
    shown: Progress,
    ending: Callable[[], None],
) -> Iterator[Done]:
    with clusters.crew(executor) as crew, crew.at_work(job, next(iter(parts))[0]) as job:
        shown.say(f"loading {job.embedding.request} on {crew.name} ...")
        job = _begun(job, known, crew.begin(job))
        if len(parts) < (width := crew.width()):  # so that all have something to do
            parts = parts.among(width)
        with contextlib.closing(_made(job, parts, crew, ending, known)) as made:
            yield from _counted(fetched(made, Output.at(known.out)), shown)


def _begun(job: Job, known: Known, origin: Origin) -> Job:
    """The job for all who come after the process that has begun it."""
    origin = job.origin or origin.called(str(job.out), known.remedy)
    return dataclasses.replace(job, origin=origin, begun=True)


def _counted(made: Iterable[Done], shown: Progress) -> Iterator[Done]:
    """Units that others made, which this process hears of when they are whole."""
    for done in made:
        shown.add(len(done.files))
        yield done


def _made(
    job: Job,
    parts: Iterable[Sequence[ImageReference]],
    crew: Crew,
    ending: Callable[[], None],
    known: Known | None = None,
) -> Generator[Done]:
    """Have units made, as many at a time as the crew can and a few more waiting; as they end."""
    before = [] if known is None else [*known.units, *known.superseded]
    todo = ToDo(parts, {one.path.name for one in before})
    in_hand = dict[Future[Done], Part]()
    ended: queue.SimpleQueue[Future[Done]] = queue.SimpleQueue()
    prepared = False
    try:
        while True:
            while (part := todo.next(len(in_hand), crew)) is not None:
                future = crew.submit(job, part)
                in_hand[future] = part
                future.add_done_callback(ended.put)
            if not in_hand:
                return
            if not prepared and len(in_hand) < crew.width() + crew.spare:
                ending()  # the last units are being made
                prepared = True
            try:
                future = ended.get(timeout=crew.patience)
            except queue.Empty:
                continue
            part = in_hand.pop(future)
            try:
                done: Done | None = future.result()
            except Exception as error:  # noqa: BLE001 - it is raised, unless it can be seen to
                done = todo.failed(job, part, error, crew)
            if done is not None:
                todo.ended(done)
                yield done
    finally:
        for future in in_hand:
            crew.drop(future)
