"""A feature file -> what is to be learned from it, and how that will be scored."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..features.errors import WrongUsage, count, listed, printable
from ..features.store import FeatureStore
from .examples import Examples
from .examples.augmented import averaged, require_views
from .examples.parted import training_and_test
from .examples.sampled import Draw, as_frequent_as_in_the_file, in_memory, require_room, sample
from .examples.stored import bytes_of, require_room_for
from .folds import FEWEST, FEWEST_BESIDE_A_TEST, folds_of
from .heads.prediction import mean_of_views
from .heads.recipe import Task
from .scores.evaluation import Scores, score
from .scores.seen import Seen
from .solver.rows import Stored, joined

BALANCED: Final = "balanced"

_MOST_VALUES: Final = 2**25
"""Probabilities of held-out rows, views included, up to which all of a file that is read in blocks
are held out: 256 MB, and as much again of decision values."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What parameters are chosen by where the vectors of all examples stay in the file."""

    rows: NDArray[np.intp]
    """Which of the examples, in order."""
    task: Task
    """These, in memory."""
    folds: list[NDArray[np.intp]]
    """Rows of this task that are held out together."""
    alone: bool
    """Whether nothing else is held out, be it to calibrate or to score."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is to be learned from a feature file, and how it will be scored."""

    store: FeatureStore
    examples: Examples
    """To train on."""
    test: Examples | None
    """To score, if the file has a test split."""
    known: Examples | None
    """Test images that look like training images, which are not scored."""
    folds: list[NDArray[np.intp]]
    """Rows of `examples` that are held out together; a row may be in none."""
    task: Task
    """The examples and their further views."""
    tta: bool
    """Whether an image is predicted by the mean over its views."""
    min_images: int
    """Of a class, for it to be here at all."""
    seen: Callable[[], Seen]
    """Tells near-copies of the training rows."""
    notes: list[str]
    contradictory: Examples
    """Rows that were left out because others of the same bytes have another label."""
    search: Search | None = None
    """If the vectors are in the file: what to choose parameters by. None of it is in folds that are
    scored, unless it has to do for these too."""

    @classmethod
    def of(
        cls,
        store: FeatureStore,
        folds: int,
        seed: int,
        class_weight: str | None,
        min_images: int = 1,
        *,
        tta: bool = False,
        tested: bool = True,
    ) -> "Experiment":
        """Check everything, and cut the training rows into folds.

        Without `tested` a test split is nothing special: all rows are held out in turn.
        """
        require_possible(folds, seed, min_images)
        if class_weight not in (None, BALANCED):
            raise WrongUsage(f"class_weight {class_weight!r}: use {BALANCED!r} or leave it out")
        parted = training_and_test(store, min_images, seed=seed, split=tested)
        examples, test, notes = parted.training, parted.test, list(parted.notes)
        if tta:
            scored = examples if test is None else test
            require_views(store, scored.augmented, len(scored))
        cut = folds_of(store, examples, folds, seed, notes, scored=test is None)
        task = task_of(examples, examples.classes, class_weight == BALANCED, seed)
        search = None
        if isinstance(task.features, Stored):
            require_room_for(store, 0 if test is None else len(test), len(task.names))
            search, cut, more = _beside(store, examples, task, folds, cut, scored=test is None)
            notes += more
        return cls(
            store,
            examples,
            test,
            parted.known,
            cut,
            task,
            tta,
            min_images,
            parted.seen,
            notes,
            parted.contradictory,
            search,
        )

    @functools.cached_property
    def rows(self) -> NDArray[np.intp]:
        """Training rows that some fold holds out, sorted."""
        return np.sort(np.concatenate(self.folds))

    def held_out(self, of_rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R, K) probabilities of the rows of the task, or of the search if that is held out alone.

        Returns those of the images at `rows`.
        """
        task, places = self.task, self.rows
        if self.search is not None and self.search.alone:
            task, places = self.search.task, np.searchsorted(self.search.rows, self.rows)
        if self.tta and task.image is not None:
            of_rows = mean_of_views(of_rows, task.image, int(task.image.max()) + 1)
        return of_rows[places]

    @functools.cached_property
    def scored(self) -> Examples:
        """The rows that scores are of."""
        return self.examples.rows(self.rows) if self.test is None else self.test

    def right(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which scored rows have the true class as their most probable one."""
        right: NDArray[np.bool_] = probabilities.argmax(axis=1) == self.scored.codes_among(
            self.names
        )
        return right

    @property
    def names(self) -> list[str]:
        """The classes."""
        names: list[str] = self.task.names.tolist()
        return names

    def score(self, probabilities: NDArray[np.float64], *notes: str) -> Scores:
        """Score the probabilities of the scored rows."""
        every = [*self.notes, *self._mix, *self._views, *notes]
        cross_validated = f"{len(self.folds)}-fold cross-validation"
        return score(
            self.scored,
            probabilities,
            self.names,
            majority=self.names[int(np.bincount(self.codes).argmax())],
            basis=cross_validated if self.test is None else "test split",
            notes=list(map(self.store.provenance.worded, every)),
        )

    @property
    def codes(self) -> NDArray[np.intp]:
        """(N,): the classes of the examples, as indices into `names`."""
        codes: NDArray[np.intp] = self.task.codes[: len(self.examples)]
        return codes

    @property
    def _views(self) -> list[str]:
        if not self.tta:
            return []
        return [averaged(self.store)]

    @property
    def _mix(self) -> list[str]:
        """For which shares of the classes the scores hold, where that is not what one thinks."""
        if not self.task.balanced:
            return []
        counts = np.bincount(self.scored.codes, minlength=len(self.scored.names))
        shares = [
            f"{counts[code] / counts.sum():.0%} {printable(self.scored.names[code])}"
            for code in np.argsort(-counts, kind="stable").tolist()
            if counts[code]
        ]
        mix = (
            f"the probabilities are for classes that are equally frequent; accuracy, log loss and "
            f"calibration are measured on images that are {listed(shares, 3)}"
        )
        return [mix]


def require_possible(folds: int, seed: int, min_images: int) -> None:
    """Refuse numbers that no cross-validation can be done with."""
    for name, value, least, most in (
        ("folds", folds, 2, 1 << 30),
        ("seed", seed, 0, 2**32 - 1),
        ("min_images", min_images, 1, 1 << 30),
    ):
        if not isinstance(value, int | np.integer) or not least <= value <= most:
            raise WrongUsage(f"{name} {value!r}: use a whole number from {least} to {most}")


def task_of(examples: Examples, names: Sequence[str], balanced: bool, seed: int) -> Task:
    """Learn the classes `names` from examples and all their views."""
    features, codes, image = examples.features, examples.codes_among(names), None
    further = examples.augmented
    if further is not None and len(further.image):
        features = joined(features, further.features)
        image = np.concatenate([np.arange(len(codes)), further.image])
        codes = codes[image]
    return Task(features, codes, np.array(names), balanced, seed, image)


def _beside(
    store: FeatureStore,
    examples: Examples,
    task: Task,
    folds: int,
    cut: list[NDArray[np.intp]],
    *,
    scored: bool,
) -> tuple[Search, list[NDArray[np.intp]], list[str]]:
    """What parameters are chosen by where vectors stay in the file; the folds beside it; notes.

    What parameters were chosen by is not scored, so that scores are of images that had no say.
    """
    require_room(examples, store.name)
    draw = sample(examples, task.seed, FEWEST if scored else FEWEST_BESIDE_A_TEST)
    left = cut
    if scored:
        taken = np.union1d(draw.rows, draw.beside)
        left = [rest for fold in cut if len(rest := np.setdiff1d(fold, taken))]
    scorable = len(np.unique(examples.codes[np.concatenate([np.zeros(0, np.intp), *left])])) > 1
    alone = len(task.codes) * len(task.names) > _MOST_VALUES or len(left) < 2 or not scorable
    search, notes = _search(store, examples, task, folds, draw, alone=alone, scored=scored)
    drawn = (
        f"the vectors take {bytes_of(store) / 1e9:.1f} GB and were read in blocks: parameters were "
        f"chosen on {len(draw.rows):,} of the {len(examples):,} training images, drawn from every "
        f"class"
    )
    if alone:
        left = [draw.rows[fold] for fold in search.folds]
        if scored:
            number = sum(map(len, left))
            drawn += f"; the scores are of {number:,} of these, by heads trained on these alone"
            return search, left, [drawn, *notes]
    elif scored:
        drawn += ", which are not scored"
        if len(draw.beside):
            drawn += f", nor are {len(draw.beside):,} further images of their groups"
        every, others = (np.unique(examples.codes[np.concatenate(of)]) for of in (cut, left))
        if len(others) < len(every):
            drawn += f"; no image is left to score of {count(len(every) - len(others), 'class')}"
    return search, left, [drawn]


def _search(
    store: FeatureStore,
    examples: Examples,
    task: Task,
    folds: int,
    draw: Draw,
    *,
    alone: bool,
    scored: bool,
) -> tuple[Search, list[str]]:
    """The draw in memory, cut into folds of its own; what there is to say of scores of it alone."""
    own = in_memory(examples.rows(draw.rows), store.name)
    notes = [f"{len(own):,} of the {len(examples):,} images were drawn to choose parameters by"]
    cut = folds_of(store, own, folds, task.seed, notes, scored=scored)
    del notes[0]  # it was there for whatever this refuses
    if alone:
        every = sum(map(len, cut))
        places = as_frequent_as_in_the_file(examples, [draw.rows[fold] for fold in cut], task.seed)
        cut = [np.searchsorted(draw.rows, fold) for fold in places]
        if sum(map(len, cut)) < every:
            notes.append(
                "of rare classes, which more was drawn of, so few are scored that each class is as "
                "frequent as in the file"
            )
    of_draw = task_of(own, task.names.tolist(), task.balanced, task.seed)
    return Search(draw.rows, of_draw, cut, alone), notes
