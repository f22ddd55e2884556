"""The labels as they are now -> what is found of them, by threads beside the one that labels."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...classify.examples import contents
from ...classify.scores.groups import Grouping
from ...classify.studies.atlas import places
from ...classify.studies.learner import Learner
from ...features.errors import FeatureFileError, HeadstartError, first_line
from ...features.layout import FEATURES
from ...features.store import FeatureStore

BELIEFS: Final = "beliefs"
"""What the head says of all images; always wanted."""
DOUBTS, STRANGENESS = "doubts", "strangeness"
"""Found anew after labels have changed, as long as somebody asks for them."""
GROUPS, PLACES = "groups", "places"
"""Found once: labels have no say in them."""

_WITHOUT: Final = {
    BELIEFS: "nothing is learned (labels are kept all the same)",
    GROUPS: "near-copies are not found",
    PLACES: "there is no map",
}
"""What there is not, if it cannot be found."""

_ASKED_S: Final = 20.0
"""For so long after somebody has asked for it a thing is kept up to date."""

_ENDING_S: Final = 10.0
"""For so long the end waits for what is being found; a step of learning, and the import of SciPy
before it, take less. Where Python ends while a thread is in a library of C++, the process is
aborted ("terminate called without an active exception")."""


class Findings:
    """What is found of the labels of some rows of a feature file.

    Parameters
    ----------
    store : FeatureStore
        The file.
    rows : ndarray of intp, shape (M,)
        Its images.
    changed : threading.Condition
        Held by whoever calls; notified when something has been found.
    labels : callable
        With `changed` held, the turn, a number that grows with every change of labels, and (M,)
        codes, to be left alone.

    Attributes
    ----------
    faults : dict of str to str
        What cannot be found, and why, in a line.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: NDArray[np.intp],
        changed: threading.Condition,
        labels: Callable[[], tuple[int, NDArray[np.int32]]],
    ) -> None:
        self._store, self._rows = store, rows
        self._changed, self._labels = changed, labels
        self.faults: dict[str, str] = {}
        self._found: dict[str, tuple[int, Any]] = {}
        """Of which turn of the labels each is; of turn 0 what does not depend on them."""
        self._asked: dict[str, float] = {}
        self._begun: set[str] = set()
        self._stopped = False
        self._threads: list[threading.Thread] = []
        self._learner: Learner | None = None

    def start(self) -> None:
        """Begin to learn."""
        self._beside(BELIEFS, self._learn_on)

    def stop(self) -> None:
        """End it; what is being found is let go."""
        self._stopped = True
        self._changed.notify_all()

    def wait_until_over(self) -> None:
        """Wait, after `stop`, for what is being found, but not for ever."""
        until = time.monotonic() + _ENDING_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def latest(self, what: str) -> Any:
        """What was found last; None if nothing was yet."""
        return self._found.get(what, (0, None))[1]

    def turn_of(self, what: str) -> int:
        """Of which turn of the labels the latest is."""
        return self._found.get(what, (0, None))[0]

    def is_new(self, what: str) -> bool:
        """Whether it is of the labels as they are now."""
        return what in self._found and self._found[what][0] in (0, self._labels()[0])

    def ask(self, what: str) -> None:
        """Have it found."""
        self._asked[what] = time.monotonic()
        self._changed.notify_all()
        if what in (GROUPS, PLACES) and what not in self._begun:
            self._begun.add(what)
            self._beside(what, self._find_groups if what == GROUPS else self._find_places)

    def wait_for(self, needed: Iterable[str], seconds: float) -> bool:
        """Wait until all are of the labels as they are now, so long at most; whether they are."""
        needed = tuple(needed)
        self._changed.wait_for(
            lambda: self._stopped or self.lacks(needed) or all(map(self.is_new, needed)), seconds
        )
        return all(map(self.is_new, needed))

    @property
    def fault(self) -> str:
        """What cannot be found, and why, in a line; empty if there is nothing."""
        return "; ".join(f"{_WITHOUT[what]}: {why}" for what, why in self.faults.items())

    def lacks(self, needed: Iterable[str]) -> bool:
        """Whether something cannot be found; without beliefs, nothing of labels is."""
        return bool(self.faults.keys() & {BELIEFS, *needed})

    def _beside(self, what: str, work: Callable[[], None]) -> None:
        def working() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the page says it, and labels are kept on
                said = str(error) if isinstance(error, HeadstartError) else first_line(error)
                with self._changed:
                    self.faults[what] = said
                    self._changed.notify_all()

        thread = threading.Thread(target=working, daemon=True, name=what)
        self._threads.append(thread)
        thread.start()

    def _put(self, what: str, turn: int, found: Any) -> None:
        with self._changed:
            self._found[what] = turn, found
            self._changed.notify_all()

    def _learn_on(self) -> None:
        learner = Learner.of(self._store, self._rows)
        with self._changed:
            self._learner = learner
            self._changed.notify_all()
        work: dict[str, Callable[[NDArray[np.int32]], Any]] = {
            BELIEFS: learner.learn,
            DOUBTS: learner.doubts,
            STRANGENESS: lambda codes: learner.strangeness(codes >= 0),
        }
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next(work) is not None)
                what = self._next(work)
                if self._stopped or what is None:
                    return
                turn, codes = self._labels()
                codes = codes.copy()
            self._put(what, turn, work[what](codes))

    def _next(self, work: Iterable[str]) -> str | None:
        """The first that is out of date and asked for."""
        since = time.monotonic() - _ASKED_S
        return next(
            (
                what
                for what in work
                if not self.is_new(what) and (what == BELIEFS or self._asked.get(what, 0) > since)
            ),
            None,
        )

    def _find_groups(self) -> None:
        # The file may have been sealed anew, with the labels that were given meanwhile.
        store = FeatureStore(self._store.path)
        digests = store.digests[store.views == 0]
        if not np.array_equal(digests, self._store.digests[self._rows]):
            raise FeatureFileError(f"{store.name}: has other images now; start again")
        features = store.read(FEATURES)[store.views == 0]
        self._put(GROUPS, 0, Grouping(features, contents(digests)).groups)

    def _find_places(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or BELIEFS in self.faults or self._learner is not None
            )
            learner = self._learner
        if learner is not None:
            self._put(PLACES, 0, places(learner.vectors))
