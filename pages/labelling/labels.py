"""The labels of a feature file and the lines of a journal -> which image has which label now."""

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...classify.studies.learner import UNLABELLED, Estimate
from ...features.errors import HeadstartError, WrongUsage, printable
from ...features.layout import NO_LABEL
from ...features.store import FeatureStore
from .journal import Event, Journal, labels_event

LONGEST: Final = 200
"""Characters of a class that is given here; those of a file may be longer."""
MOST_CLASSES: Final = 10_000
_LONGEST_SHOWN: Final = 300
"""Characters of a name that the page gets: it tells images and classes by their numbers."""

RECENT: Final = 200
"""Drawn images that the estimate is of, the last ones: a head of long ago says little of that of
today."""
DRAWING: Final = ("uncertain", "random")
"""Queues in which images come as they are drawn."""
SHARE: Final = 10
"""Every tenth image of the queue is drawn at random, and a tenth of all are kept for that."""


@dataclasses.dataclass(frozen=True)
class _Change:
    """What labels were before a line of the journal."""

    images: NDArray[np.intp]
    codes: NDArray[np.int32]
    checked: NDArray[np.bool_]
    drawn: dict[int, int | None]
    """Of the images that were drawn: what was predicted of them before, if anything."""
    asked: tuple[int, int]


class Labels:
    """Which of M images has which label: that of the file, or what was given since.

    Attributes
    ----------
    names : list of str
        The classes, in the order in which their keys are; only ever appended to.
    codes : ndarray of int32, shape (M,)
        Indices into `names`; -1 for images without a label.
    checked : ndarray of bool, shape (M,)
        Images whose label was given when they had one already: they are suspects no more.
    drawn : dict of int to int
        Images that were drawn at random, in order, and the class predicted before their label.
    asked : tuple of int
        How many images of the uncertain queue were labelled, and how many of these were drawn.
    kept : ndarray of bool, shape (M,)
        The random tenth of the images without a label in the file: the uncertain queue shows them
        only as drawn ones, so that they say how good predictions of any image are.
    order : ndarray of intp, shape (M,)
        All images in a random order, always the same, those that are kept first.
    """

    def __init__(
        self, store: FeatureStore, rows: NDArray[np.intp], classes: Sequence[str] = ()
    ) -> None:
        digests = store.digests[rows]
        self.digests = [digest.tobytes().hex() for digest in digests]
        self._images: dict[str, list[int]] = {}
        for image, digest in enumerate(self.digests):
            self._images.setdefault(digest, []).append(image)
        self.names: list[str] = []
        self._code: dict[str, int] = {}
        for name in (*classes, *sorted(store.label_names)):
            self.code_of(name)
        numbers = np.array([self._code[name] for name in store.label_names], np.int32)
        labels = store.labels[rows]
        self.codes = np.full(len(rows), UNLABELLED, np.int32)
        has = labels != NO_LABEL
        self.codes[has] = numbers[labels[has]]
        self.of_file = self.codes.copy()
        self.checked = np.zeros(len(rows), np.bool_)
        self.drawn: dict[int, int] = {}
        self.asked = 0, 0
        mixed = _mixed(digests)
        self.kept = (mixed % SHARE == 0) & ~has
        self.order = np.lexsort((mixed, ~self.kept))
        self._changes: list[_Change] = []

    def replay(self, journal: Journal) -> None:
        """Do what a journal says.

        Raises
        ------
        HeadstartError
            If it is of other images: an undo would reach into them.
        """
        digests = [
            digest
            for event in journal.events
            for of_name in event.get("labels", {}).values()
            for digest in of_name
        ]
        if digests and not any(digest in self._images for digest in digests):
            raise HeadstartError(
                f"{journal.path}: the labels in it are of other images than those of this feature "
                f"file; choose another output by -o"
            )
        for event in journal.events:
            self.apply(event)

    def code_of(self, name: str) -> int:
        """The number of a class, which is new if need be."""
        if name not in self._code:
            self._code[name] = len(self.names)
            self.names.append(name)
        return self._code[name]

    @property
    def undoable(self) -> int:
        """How many times labels can be undone."""
        return len(self._changes)

    @property
    def changed(self) -> int:
        """How many images have another label than in the file."""
        return int(np.count_nonzero(self.codes != self.of_file))

    @property
    def given(self) -> NDArray[np.intp]:
        """Images whose label was given, changed or taken away here."""
        every = [change.images for change in self._changes]
        return np.unique(np.concatenate([np.empty(0, np.intp), *every]))

    def estimate(self) -> Estimate | None:
        """How often predictions are right, by the images that were drawn."""
        labelled = [image for image in self.drawn if self.codes[image] >= 0][-RECENT:]
        predicted = np.array([self.drawn[image] for image in labelled], np.int32)
        return Estimate.of(predicted == self.codes[labelled])

    def counts(self) -> list[int]:
        """How many images each class has."""
        labelled = self.codes[self.codes >= 0]
        counts: list[int] = np.bincount(labelled, minlength=len(self.names)).tolist()
        return counts

    def is_drawn(self, image: int, queue: str) -> bool:
        """Whether an image that gets a label now counts for the estimate."""
        return queue in DRAWING and bool(self.kept[image] and self.codes[image] < 0)

    def event(
        self, chosen: Mapping[int, Sequence[int]], queue: str, predicted: NDArray[np.int32]
    ) -> Event:
        """The line for labels of images, by numbers; of (M,) classes `predicted`, -1 is none."""
        found: dict[str, list[str]] = {}
        was: dict[str, list[str]] = {}
        drawn: dict[str, str] = {}
        for code, images in chosen.items():
            if not -1 <= code < len(self.names):
                raise WrongUsage(f"class number {code}: there are {len(self.names)}")
            digests = found.setdefault("" if code < 0 else self.names[code], [])
            for image in images:
                digest, expected = self.digests[image], predicted[image]
                digests.append(digest)
                # All files of the same bytes get the label; undo gives each its own again.
                before = {int(self.codes[copy]) for copy in self._images[digest]}
                for one in sorted(before, reverse=True) if before != {UNLABELLED} else ():
                    was.setdefault(self.names[one] if one >= 0 else "", []).append(digest)
                if code >= 0 <= expected and self.is_drawn(image, queue):
                    drawn[digest] = self.names[expected]
        return labels_event(found, was, queue, drawn)

    def apply(self, event: Event) -> list[int]:
        """Do what a line of the journal says; the images whose labels it changed."""
        if "classes" in event:
            for name in event["classes"]:
                self.code_of(name)
            return []
        if "labels" not in event:
            return self._undo()
        found = {
            image: self.code_of(name) if name else UNLABELLED
            for name, digests in event["labels"].items()
            for digest in digests
            for image in self._images.get(digest, ())
        }
        images = np.fromiter(found, np.intp, len(found))
        had: dict[int, list[int]] = {}
        for name, digests in event.get("was", {}).items():
            for digest in digests:
                for image in self._images.get(digest, ()):
                    had.setdefault(image, []).append(self.code_of(name) if name else UNLABELLED)
        before = np.array([self._before(image, had.get(image)) for image in found], np.int32)
        drawn = {
            image: self._code.get(predicted, UNLABELLED)
            for digest, predicted in event.get("drawn", {}).items()
            for image in self._images.get(digest, ())[:1]
        }
        predicted_before = {image: self.drawn.pop(image, None) for image in drawn}
        self._changes.append(
            _Change(images, before, self.checked[images], predicted_before, self.asked)
        )
        self.drawn |= drawn
        self.codes[images] = np.fromiter(found.values(), np.int32, len(found))
        self.checked[images] = (before >= 0) & (self.codes[images] >= 0)
        if event.get("queue") == "uncertain":
            asked, of_them = self.asked
            self.asked = asked + max(min(len(found), SHARE), len(drawn)), of_them + len(drawn)
        return list(found)

    def _before(self, image: int, had: list[int] | None) -> int:
        """The label that an image had: of several that files of its bytes had, its own."""
        if had is None:
            return UNLABELLED
        own = int(self.codes[image])
        return own if own in had else had[0]

    def _undo(self) -> list[int]:
        if not self._changes:
            return []
        last = self._changes.pop()
        self.codes[last.images], self.checked[last.images] = last.codes, last.checked
        self.asked = last.asked
        for image, predicted in last.drawn.items():
            del self.drawn[image]
            if predicted is not None:
                self.drawn[image] = predicted
        images: list[int] = last.images.tolist()
        return images


def checked_class(name: object, known: Iterable[str] = ()) -> str:
    """The name of a class as it is kept: composed, without spaces around it.

    Raises
    ------
    WrongUsage
        If nothing could be called so.
    """
    if not isinstance(name, str):
        raise WrongUsage(f"class {str(name)[:40]!r}: a name is expected")
    name = unicodedata.normalize("NFC", name.strip())
    if not name:
        raise WrongUsage("class: the name is empty; type one")
    if name in known:
        return name
    if len(name) > LONGEST:
        raise WrongUsage(f"class {name[:20]!r}...: at most {LONGEST} characters")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise WrongUsage(f"class {name[:40]!a}: is no text (half a character)") from None
    if printable(name) != name or "\t" in name:
        raise WrongUsage(f"class {name[:40]!a}: has a control character in it")
    return name


def checked_classes(classes: Iterable[str] | str | None) -> list[str]:
    """The classes that a user named, each once; of a text, those between commas."""
    if isinstance(classes, str):
        classes = [name for name in classes.split(",") if name.strip()]
    found = list(dict.fromkeys(checked_class(name) for name in classes or ()))
    if len(found) > MOST_CLASSES:
        raise HeadstartError(f"classes: {len(found):,} of them; at most {MOST_CLASSES:,}")
    return found


def in_line(name: str) -> str:
    """A name or a text as the page shows it: of one line, and written in one direction."""
    name = " ".join(name.split("\n"))
    short = name if len(name) <= _LONGEST_SHOWN else name[: _LONGEST_SHOWN - 1] + "…"
    return printable(short)


def _mixed(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(M, 32) digests -> (M,) random numbers, the same for the same image (splitmix64).

    The digests of files that others made need not look random.
    """
    words = np.ascontiguousarray(digests).view("<u8").astype(np.uint64)
    mixed = np.zeros(len(words), np.uint64)
    for column in words.T:
        mixed = (mixed ^ column) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
