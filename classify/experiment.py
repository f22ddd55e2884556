"""A feature file -> what is to be learned from it, and how that will be scored."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..features.errors import TrainingError, WrongUsage, because, count, listed, printable
from ..features.store import FeatureStore
from .examples import Examples
from .examples.augmented import averaged, require_views
from .examples.parted import training_and_test
from .folds import FEWEST, Folds, stratified_folds
from .heads.prediction import mean_of_views
from .heads.recipe import Task
from .scores.evaluation import Scores, score
from .scores.seen import Seen

BALANCED: Final = "balanced"

_FEWEST_BESIDE_A_TEST: Final = FEWEST - 1  # none has to be scored


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
        )

    @functools.cached_property
    def rows(self) -> NDArray[np.intp]:
        """Training rows that some fold holds out, sorted."""
        return np.sort(np.concatenate(self.folds))

    def of_images(self, of_rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R, K) probabilities of the rows of the task -> (N, K) those of the images."""
        if not self.tta or self.task.image is None:
            return of_rows[: len(self.examples)]
        return mean_of_views(of_rows, self.task.image, len(self.examples))

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
        cross_validated = f"{len(self.folds)}-fold cross-validation"
        return score(
            self.scored,
            probabilities,
            self.names,
            majority=self.names[int(np.bincount(self.codes).argmax())],
            basis=cross_validated if self.test is None else "test split",
            notes=[*self.notes, *self._mix, *self._views, *notes],
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
        features = np.concatenate([features, further.features])
        image = np.concatenate([np.arange(len(codes)), further.image])
        codes = codes[image]
    return Task(features, codes, np.array(names), balanced, seed, image)


def folds_of(
    store: FeatureStore,
    examples: Examples,
    folds: int,
    seed: int,
    notes: list[str],
    *,
    scored: bool,
) -> list[NDArray[np.intp]]:
    """Cut training rows into folds, and note which classes are too small to hold any out.

    If the folds are `scored`, one image more of each class is needed.
    """
    why = f"cross-validated scores need at least {FEWEST} folds, one of them to choose by"
    if scored and folds < FEWEST:
        raise WrongUsage(f"folds {folds}: {why}")
    fewest = FEWEST if scored else _FEWEST_BESIDE_A_TEST
    cut: Folds = stratified_folds(examples.codes, examples.groups, folds, seed, fewest)
    small = cut.too_small.tolist()
    together = (
        " that can be held out apart" if (cut.apart[small] < examples.sizes[small]).any() else ""
    )
    few = (
        f"{count(len(small), 'class')} with fewer than {fewest} distinct images{together} "
        f"(copies, near-copies and groups count as one): "
        f"{listed([f'{examples.names[code]!r} ({cut.apart[code]:,})' for code in small])}"
    )
    if not cut.held_out:
        raise TrainingError(
            f"{store.path}: images can be held out of fewer than two classes; {few}; add images"
            f"{because(notes)}"
        )
    if small:
        rows = int(np.isin(examples.codes, small).sum())
        never = "trained on and never scored" if scored else "trained on and never held out"
        notes.append(f"{count(rows, 'image')} {never}, of {few}")
    if len(cut.held_out) < folds:
        notes.append(
            f"{len(cut.held_out)} folds instead of {folds}, because no class has more distinct "
            f"images"
        )
    return cut.held_out
