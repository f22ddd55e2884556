"""A feature file, a journal and what is found of them behind one lock: the page, not the web."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...classify.scores.intervals import in_percent
from ...classify.studies.learner import Beliefs, Doubts
from ...features.errors import FeatureFileError, HeadstartError, WrongUsage
from ...features.store import FeatureStore
from ..pictures import texts_of
from . import queues
from .findings import BELIEFS, DOUBTS, GROUPS, PLACES, STRANGENESS, Findings
from .journal import Journal
from .labels import MOST_CLASSES, Labels, checked_class, in_line

MOST_TOLD: Final = 2000
"""Images that one answer has."""
DIGITS: Final = 12
"""Of a digest, that the page gets."""

_NEEDED: Final = {
    "uncertain": (BELIEFS,),
    "suspects": (BELIEFS, DOUBTS),
    "near-copies": (BELIEFS, GROUPS),
    "unfamiliar": (BELIEFS, STRANGENESS),
    "random": (BELIEFS,),
    "all": (BELIEFS,),
}
"""What the order of each queue is made of, or what it shows."""

_NO_ESTIMATE: Final = (
    "no estimate of accuracy yet: it takes two classes, and labels of images drawn at random (◇)"
)


class Session:
    """Answers the page. Labels are kept at once; threads find out meanwhile what follows from them.

    Parameters
    ----------
    store : FeatureStore
        Whose images are labelled.
    journal : Journal
        What was labelled before, and where labels are kept.
    classes : sequence of str
        Classes that may be given, before those of the file.
    """

    def __init__(self, store: FeatureStore, journal: Journal, classes: Sequence[str] = ()) -> None:
        self.store, self.journal = store, journal
        self.rows = np.flatnonzero(store.views == 0)
        if not len(self.rows):
            raise FeatureFileError(f"{store.name}: has no images to label; extract some first")
        self.paths = [store.paths[row] for row in self.rows.tolist()]
        told = [name for event in journal.events for name in event.get("classes", ())]
        self.labels = Labels(store, self.rows, [*classes, *told])
        self.labels.replay(journal)
        known = {*told}
        new = [name for name in self.labels.names if name not in known]
        if new:  # so that each has the same key the next time
            journal.append({"classes": new})
        self._changed = threading.Condition(threading.RLock())
        self._turn = 1
        """Counts the changes of labels."""
        self._last = np.zeros(len(self.rows), np.intp)
        """The turn at which the label of each image changed last."""
        self.found = Findings(
            store, self.rows, self._changed, lambda: (self._turn, self.labels.codes)
        )
        self._stopped = False
        self._searched: list[str] | None = None
        self._texts = texts_of(store)

    def stop(self) -> None:
        """End it, and let another process have the journal."""
        with self._changed:
            if not self._stopped:
                self._stopped = True
                self.found.stop()
                self.journal.close()

    def state(self) -> dict[str, Any]:
        """How far it is: classes, counts, the estimate."""
        with self._changed:
            labels, found = self.labels, self.found
            estimate, text, brief = labels.estimate(), _NO_ESTIMATE, "◇ no estimate yet"
            if estimate is not None:
                low, high = estimate.interval
                brief = (
                    f"◇ {estimate.accuracy:.0%} of {estimate.labels:,} right "
                    f"({100 * low:.0f} to {high:.0%})"
                )
                text = (
                    f"{in_percent(estimate.accuracy, estimate.interval)} of {estimate.labels:,} "
                    f"images drawn at random (◇) were predicted right before they had a label"
                )
            return {
                "file": in_line(self.store.path.name),
                "classes": [in_line(name) for name in labels.names],
                "counts": labels.counts(),
                "images": len(labels.codes),
                "unlabelled": int(np.count_nonzero(labels.codes < 0)),
                "changed": labels.changed,
                "undo": labels.undoable,
                "estimate": text,
                "brief": brief,
                "turn": self._turn,
                "learned": found.is_new(BELIEFS),
                "head": found.latest(BELIEFS) is not None,
                "fault": found.fault,
            }

    def queue(
        self,
        name: str,
        count: int,
        *,
        lasso: Sequence[Sequence[float]] = (),
        search: str = "",
        shown: Sequence[int] = (),
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """The first images of a queue, of those that are inside a lasso and match a search.

        Of images that are `shown` it is told as well what is predicted now. It is waited so many
        seconds for what the queue needs to be found; `pending` says whether there is more to come.
        """
        if name not in _NEEDED:
            raise WrongUsage(f"queue {name!r}: use one of {', '.join(_NEEDED)}")
        with self._changed:
            needed = _NEEDED[name]
            for what in needed:
                self.found.ask(what)
            ready = self.found.wait_for(needed, wait)
            images = self._order(name)
            places = self.found.latest(PLACES)
            if len(lasso) > 2 and places is not None:
                images = queues.lassoed(self.labels, name, images, places, lasso)
            if search.strip():
                images = images[self._matching(search)[images]]
            draws = not lasso and not search.strip()
            return {
                "queue": name,
                "total": len(images),
                "images": list(self._told(images[: min(count, MOST_TOLD)], name, draws)),
                "shown": list(self._told(self._checked(shown), name, draws)),
                "pending": not ready and not self.found.lacks(needed),
                "state": self.state(),
            }

    def map(self, wait: float = 0.0, *, placed: bool = True) -> dict[str, Any]:
        """Where all images are on the map, in thousandths, and which class they have or may have.

        There are no places before they are found, nor if they are not asked for.
        """
        with self._changed:
            self.found.ask(PLACES)
            self.found.wait_for([PLACES], wait)
            places, beliefs = self.found.latest(PLACES), self.found.latest(BELIEFS)
            codes = self.labels.codes
            predicted = np.full_like(codes, -1) if beliefs is None else beliefs.predicted
            answer: dict[str, Any] = {"labels": codes.tolist(), "predicted": predicted.tolist()}
            if places is not None and placed:
                answer["x"], answer["y"] = (places * 1000).round().astype(int).T.tolist()
            return answer

    def add_class(self, name: object) -> dict[str, Any]:
        """A class that may be given from now on, or one that is known; its number is `code`."""
        with self._changed:
            name = checked_class(name, self.labels.names)
            if name not in self.labels.names:
                if len(self.labels.names) >= MOST_CLASSES:
                    raise WrongUsage(f"class {name!r}: there are {MOST_CLASSES:,} already")
                self._keep({"classes": [name]})
            return {"code": self.labels.code_of(name), "state": self.state()}

    def label(
        self, chosen: Mapping[int, Sequence[int]], queue: str = "", *, filtered: bool = False
    ) -> dict[str, Any]:
        """Give classes to images, by numbers; the class -1 takes labels away.

        All of them are one line of the journal, which is on the disk when this returns.
        """
        with self._changed:
            for images in chosen.values():
                self._checked(images)
            beliefs = self.found.latest(BELIEFS)
            # A head that was fitted before its label was undone has seen that.
            fresh = self.found.turn_of(BELIEFS) >= self._last
            predicted = np.full_like(self.labels.codes, -1)
            if beliefs is not None:
                predicted[fresh] = beliefs.predicted[fresh]
            return self._keep(self.labels.event(chosen, "" if filtered else queue, predicted))

    def undo(self) -> dict[str, Any]:
        """Take back the last labels that were given, or taken away."""
        with self._changed:
            if not self.labels.undoable:
                raise WrongUsage("there is nothing to undo")
            return self._keep({"undo": True})

    def given(self) -> list[str]:
        """The label of each image now, "" for none."""
        with self._changed:
            names = [*self.labels.names, ""]
            return [names[code] for code in self.labels.codes.tolist()]

    def reopened(self) -> None:
        """Go on with the feature file as it is now, which has the same images."""
        store = FeatureStore(self.store.path)
        labels = Labels(store, np.flatnonzero(store.views == 0))
        if labels.digests != self.labels.digests:
            raise FeatureFileError(
                f"{store.name}: has other images now; start `headstart label` again (Ctrl-C ends "
                f"this one)"
            )
        with self._changed:
            own = [self.labels.code_of(name) for name in labels.names]
            self.store = store
            self.labels.of_file = np.array([*own, -1], np.int32)[labels.of_file]

    def _keep(self, event: Mapping[str, Any]) -> dict[str, Any]:
        if self._stopped:
            raise HeadstartError(f"{self.journal.path}: is closed; the server is stopping")
        self.journal.append(event)
        images = self.labels.apply(dict(event))
        if images:
            self._turn += 1
            self._last[images] = self._turn
            self._changed.notify_all()
        told = list(self._told(np.array(images[:MOST_TOLD], np.intp), ""))
        return {"images": told, "state": self.state()}

    def _checked(self, images: Sequence[int]) -> NDArray[np.intp]:
        odd = [image for image in images if not 0 <= image < len(self.rows)]
        if odd:
            raise WrongUsage(f"image {odd[0]}: there are {len(self.rows)}")
        return np.array(images, np.intp)

    def _order(self, name: str) -> NDArray[np.intp]:
        labels, found = self.labels, self.found.latest(_NEEDED[name][-1])
        if name == "uncertain":
            return queues.uncertain(labels, found)
        if name == "random":
            return queues.random(labels)
        if name == "all":
            return np.arange(len(labels.codes))
        if found is None:
            return np.empty(0, np.intp)
        if name == "suspects":
            return queues.suspects(labels, found)
        if name == "unfamiliar":
            return queues.unfamiliar(labels, found)
        return queues.near_copies(labels, found)

    def _told(
        self, images: NDArray[np.intp], queue: str, draws: bool = False
    ) -> Iterator[dict[str, Any]]:
        labels = self.labels
        beliefs: Beliefs | None = self.found.latest(BELIEFS)
        doubts: Doubts | None = self.found.latest(DOUBTS) if queue == "suspects" else None
        groups = self.found.latest(GROUPS) if queue == "near-copies" else None
        for image in images.tolist():
            told = {
                "image": image,
                "digest": labels.digests[image][:DIGITS],
                "path": in_line(self.paths[image]),
                "label": int(labels.codes[image]),
                "drawn": draws and labels.is_drawn(image, queue),
            }
            if doubts is not None:
                if (predicted := int(doubts.predicted[image])) < 0:
                    continue  # its label was taken away meanwhile
                told["predicted"] = predicted
                told["given"] = round(float(doubts.given[image]), 4)
            elif beliefs is not None:
                told["predicted"] = int(beliefs.predicted[image])
                told["confidence"] = round(float(beliefs.confidence[image]), 4)
            if groups is not None:
                told["group"] = int(groups[image])
            if self._texts is not None:
                told["text"] = in_line(self._texts.text(int(self.rows[image])))
            yield told

    def _matching(self, search: str) -> NDArray[np.bool_]:
        """(M,): which images have a text in their path or in the name of their class."""
        wanted = search.strip().casefold()
        if self._searched is None:
            texts = self.store.texts if self._texts else []
            said = [texts[row] for row in self.rows.tolist()] if texts else [""] * len(self.paths)
            both = zip(self.paths, said, strict=True)
            self._searched = [f"{path}\n{text}".casefold() for path, text in both]
        named = [wanted in name.casefold() for name in self.labels.names]
        has = np.array([*named, False])[self.labels.codes]
        return np.asarray(has | np.array([wanted in path for path in self._searched]))
