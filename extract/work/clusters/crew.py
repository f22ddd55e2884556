"""Who makes the units of a run: how many at a time, and what it means when one is not made."""

import abc
import collections
import contextlib
import dataclasses
import enum
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from typing import Any, Final, NoReturn

from ....features.errors import HeadstartError
from ....features.journal import marks, units
from ....features.journal.direct import given_out
from ....features.journal.outputs import Output
from ....features.origin import Origin
from ....features.records import AGAIN, UNREAD, FileStat, SeenFile
from ...sources.image import ImageReference
from .. import unit
from ..unit import Done, Job
from . import there

MOST_DEATHS: Final = 3
"""After so many processes that were at a unit have died it is looked at with care; after so many
more it is given up."""

_MOST_LOSSES: Final = 10
"""After so many times that a unit was lost with whoever gave it out, somebody does not want it."""

_log = logging.getLogger("headstart")


class Fate(enum.Enum):
    """What it means that a unit was not made."""

    FAILED = enum.auto()
    """There is an error, and it is the run's."""
    DIED = enum.auto()
    """The process that was at it died."""
    DEADLY = enum.auto()
    """All processes that were at it died."""
    LOST = enum.auto()
    """Whoever gives out the work does not know of it any more."""


class Crew:
    """An executor of this machine: what fails there is an error of the run."""

    patience: float | None = None
    """Seconds after which `width` may be another, though nothing has ended."""

    def __init__(self, executor: Executor, width: int) -> None:
        self._executor = executor
        self._width = width

    @property
    def spare(self) -> int:
        """Tasks that wait for the next free worker; references are small."""
        return 2

    def width(self) -> int:
        """How many units are made side by side now."""
        return self._width

    def submit(self, job: Job, part: "Part") -> Future[Done]:
        """Have the unit of a part made."""
        return self._executor.submit(unit.make, job, part.references)

    def drop(self, future: "Future[Any]") -> None:
        """Do without what was given out, as far as that can be told to anyone."""

    def fate(self, error: Exception) -> Fate:  # noqa: ARG002 - for those that derive
        """What it means that this was raised instead of a unit."""
        return Fate.FAILED

    def explained(self, error: Exception) -> Exception:
        """The same error, or one that says more."""
        return error

    def refuse(self, error: Exception) -> NoReturn:
        """End the run with an error."""
        explained = self.explained(error)
        raise explained from (None if explained is error else error)

    def verdict(self, error: Exception, losses: int) -> Fate:
        """What it means that this was raised and not a result, after so many that were lost.

        What is the run's own is raised; what is lost is heard of when it can be given out again.
        """
        fate = self.fate(error)
        if fate is Fate.FAILED or losses >= _MOST_LOSSES:
            self.refuse(error)
        if fate is Fate.LOST:
            self.wait_until_back()
        return fate

    def wait_until_back(self) -> None:
        """Wait for whoever gives out the work; it is an error if they do not come."""


@dataclasses.dataclass
class Part:
    """Images of one unit that is to be made, and what became of it so far."""

    references: Sequence[ImageReference]
    careful: bool = False
    """Whether each of them may be what processes die of."""
    deaths: int = 0
    losses: int = 0


class ToDo:
    """The parts that are to be given out.

    First come those whose process died, then new ones. Those that processes die of are the last,
    one at a time, so that it is clear whose fault it is.
    """

    def __init__(
        self, parts: Iterable[Sequence[ImageReference]], known: Collection[str] = ()
    ) -> None:
        """Begin with parts; the names of units are given that were there before."""
        self._new = iter(parts)
        self._again: collections.deque[Part] = collections.deque()
        self._suspects: collections.deque[Part] = collections.deque()
        self._accounted: set[str] = set(known)

    def next(self, in_hand: int, crew: Crew) -> Part | None:
        """What to give out beside so many that are in hand; None if nothing, for now."""
        if in_hand >= crew.width() + crew.spare:
            return None
        if self._again:
            return self._again.popleft()
        references = next(self._new, None)
        if references is not None:
            return Part(references)
        return self._suspects.popleft() if self._suspects and not in_hand else None

    def ended(self, done: Done) -> None:
        """Take note of a unit that was made."""
        self._accounted.add(done.unit)

    def failed(self, job: Job, part: Part, error: Exception, crew: Crew) -> Done | None:
        """See to a part that came to nothing; if it is given up, what is recorded of it."""
        fate = crew.verdict(error, part.losses)
        part.losses += fate is Fate.LOST
        part.deaths += fate is Fate.DIED
        if (done := self._published(job, part)) is not None:
            return done
        if fate is not Fate.DEADLY and part.deaths < MOST_DEATHS:
            self._again.append(part)
            return None
        if part.careful:
            return _given_up(job, part.references)
        _log.warning(
            "worker processes died while they were at a unit of %d images, from %s; it is looked "
            "at with care at the end",
            len(part.references),
            os.fsdecode(part.references[0].path),
        )
        self._suspects.append(Part(part.references, careful=True))
        return None

    def _published(self, job: Job, part: Part) -> Done | None:
        """The unit of a part, if only the news of it was lost."""
        Output.at(job.out).pull()  # at a URL it is there alone
        paths = {one.path for one in part.references}
        made = units.of_files(units.folder_of(job.out), job.turn, paths, self._accounted)
        if made is None:
            return None
        embedded = [digest for digest, view in made.keys if not view]
        views = [key for key in made.keys if key[1]]
        return Done("", made.files, embedded, views, unit=made.path.name)


def _given_up(job: Job, references: Sequence[ImageReference]) -> Done:
    others = f" and {len(references) - 1:,} others" if len(references) > 1 else ""
    why = f"worker processes died again and again while they were at this image{others}; {AGAIN}"
    files = [lost(one, why) for one in references]
    if job.origin is None:
        raise ValueError("nothing is known, and nobody has begun")
    origin = dataclasses.replace(job.origin, augmentation=job.augmentation)
    Output.at(job.out).publish(origin, files, {}, job.turn)
    return Done("", files=files)


def lost(reference: ImageReference, why: str) -> SeenFile:
    """What the ledger says of an image that could not be looked at; the next run tries it again."""
    return SeenFile(FileStat(reference.path, 0, 0, 0), UNREAD, 0, 0, why)


class Cluster(Crew, abc.ABC):
    """Workers that have their own headstart, and may be on other machines."""

    name: str
    """Of the cluster, for messages."""
    mark: marks.Mark
    """That of the run; with another one, what was given out before counts no more."""
    share = 0
    """Cores of each worker; 0 if they are asked themselves."""
    patience: float = 5.0

    def __init__(self) -> None:
        """Nothing of an executor of this machine."""

    @property
    def spare(self) -> int:
        """More where there are more workers: each waits for its answer on the way."""
        return max(4, self.width() // 8)

    @contextlib.contextmanager
    def at_work(self, job: Job, sample: ImageReference) -> Iterator[Job]:
        """The job for these workers, refused where one is none for it, or does not see an image."""
        of = given_out(job.output)
        out = job.out if of.far else of.path
        embedding = job.embedding.unloaded(self.share)
        job = dataclasses.replace(job, embedding=embedding, out=out, of=of)
        try:
            with marks.Mark(None if of.far else out) as self.mark:
                seen = [sample.anywhere()] if not sample.far and sample.exists() else []
                self.require_alike(self.packed(job, there.ready, seen))
                yield job
        finally:
            # The mark is gone, so nothing is begun any more that was given out; at a URL, by those
            # that hear of it.
            with contextlib.suppress(Exception):
                self.forget(there.packed(job, there.forget))
            there.over.add(job.run)

    def begin(self, job: Job) -> Origin:
        """Have one worker begin: what vectors of this run come from."""
        deaths = losses = 0
        while True:
            try:
                origin: Origin = self._result(self.send(self.packed(job, there.begin)))
            except Exception as error:
                fate = self.verdict(error, losses)
                deaths += fate is Fate.DIED
                losses += fate is Fate.LOST
                if fate is Fate.DEADLY or deaths >= MOST_DEATHS:
                    raise HeadstartError(
                        f"{self.name}: worker processes die while they load the backbone (is "
                        f"there enough memory for it?); run the same command again when that is "
                        f"mended"
                    ) from error
            else:
                return origin

    def _result(self, future: "Future[Any]") -> Any:
        """What comes of it; meanwhile `width` may see that there is nobody to do it."""
        while not wait([future], timeout=self.patience).done:
            self.width()
        return future.result()

    def submit(self, job: Job, part: Part) -> Future[Done]:
        """Have the unit of a part made; its images are expected where they are seen here."""
        references = [one.anywhere() for one in part.references]
        seen = any(one.exists() for one in references if not one.far)
        return self.send(self.packed(job, there.make, references, seen, part.careful))

    def packed(self, job: Job, function: Any, *arguments: object) -> bytes:
        """A call that a worker makes for the job, under the mark of now."""
        return there.packed(dataclasses.replace(job, mark=self.mark.name), function, *arguments)

    def drop(self, future: "Future[Any]") -> None:
        """Have nobody begin with it any more."""
        future.cancel()

    @abc.abstractmethod
    def send(self, packed: bytes) -> "Future[Any]":
        """Have a worker unpack something, which calls what was packed; its result."""

    def require_alike(self, packed: bytes) -> None:
        """Have every worker that there is now unpack something, and refuse one that cannot."""

    def forget(self, packed: bytes) -> None:
        """Let the workers unpack something when all is done, if they are still there."""

    def explained(self, error: Exception) -> Exception:
        """What a worker says that has no headstart, or another one."""
        if isinstance(error, ImportError | AttributeError) and "headstart" in str(error):
            return HeadstartError(
                f"{self.name}: a worker has no headstart, or another version of it "
                f"({str(error).splitlines()[0]}); {there.install()}"
            )
        return error
