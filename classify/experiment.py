"""A feature file -> what is to be learned from it, and how that will be scored."""

import dataclasses
import functools
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..features.errors import TrainingError, WrongUsage
from ..features.store import FeatureStore
from .examples import Examples, rarest_class, stratified_folds, training_and_test
from .heads.recipe import Task
from .scores.duplicates import SIMILAR, Similarity
from .scores.evaluation import Scores, score

BALANCED: Final = "balanced"

_FEWEST: Final = 3  # one to train on, one to choose by, one to score


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is to be learned from a feature file, and how it will be scored."""

    store: FeatureStore
    examples: Examples
    """To train on."""
    test: Examples | None
    """To score, if the file has a test split."""
    folds: list[NDArray[np.intp]]
    """Rows of `examples` that are held out together."""
    task: Task
    notes: list[str]

    @classmethod
    def of(
        cls, store: FeatureStore, folds: int, seed: int, class_weight: str | None
    ) -> "Experiment":
        """Check everything, and cut the training rows into folds."""
        if folds < 2:
            raise WrongUsage(f"folds {folds}: at least 2 are needed to hold something out")
        if not 0 <= seed < 2**32:
            raise WrongUsage(f"seed {seed}: a number from 0 to {2**32 - 1} is expected")
        if class_weight not in (None, BALANCED):
            raise WrongUsage(f"class_weight {class_weight!r}: use {BALANCED!r} or leave it out")
        examples, test, notes = training_and_test(store)
        cut = stratified_folds(examples.codes, examples.identities, folds, seed, examples.names)
        if len(cut) < folds:
            rarest, images = rarest_class(examples.codes, examples.identities)
            notes.append(
                f"{len(cut)} folds instead of {folds}, because class {examples.names[rarest]!r} "
                f"has only {images} distinct images"
            )
        if test is None:
            require_folds(store, examples, folds)
        names = examples.classes
        codes = examples.codes_among(names)
        task = Task(examples.features, codes, np.array(names), class_weight == BALANCED, seed)
        return cls(store, examples, test, cut, task, notes)

    @property
    def scored(self) -> Examples:
        """The rows that scores are of."""
        return self.examples if self.test is None else self.test

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
            majority=self.names[int(np.bincount(self.task.codes).argmax())],
            basis=cross_validated if self.test is None else "test split",
            notes=[*self.notes, *notes, *self._near_duplicates(self.right(probabilities))],
        )

    @functools.cached_property
    def _partners(self) -> tuple[NDArray[np.intp], list[str]]:
        """Which scored rows have a near-duplicate that was trained on; where one such pair is."""
        trained, paths = len(self.examples), self.examples.paths
        if self.test is None:
            similarity = Similarity(self.examples.features)
            everything = np.arange(trained)
            sides = [(rows, np.setdiff1d(everything, rows)) for rows in self.folds]
        else:
            similarity = Similarity(self.examples.features, self.test.features)
            sides = [(np.arange(len(self.test)) + trained, np.arange(trained))]
            paths = np.concatenate([paths, self.test.paths])
        rows = np.concatenate([scored for scored, _ in sides])
        found = [similarity.nearest(*one) for one in sides]
        partners = np.concatenate([one for one, _ in found])
        cosines = np.concatenate([one for _, one in found])
        first = int(cosines.argmax())
        pair = [os.fsdecode(paths[row]) for row in (rows[first], partners[first])]
        affected = np.sort(rows[partners >= 0])
        return (affected if self.test is None else affected - trained), pair

    def _near_duplicates(self, right: NDArray[np.bool_]) -> list[str]:
        rows, pair = self._partners
        if not len(rows):
            return []
        others = np.delete(right, rows)
        without = f"; without them accuracy is {100 * others.mean():.1f}%" if len(others) else ""
        note = (
            f"{len(rows)} of {len(right)} scored images have a near-duplicate among those trained "
            f"on (cosine above {SIMILAR}; {pair[0]} and {pair[1]} are the most alike){without}"
        )
        return [note]


def require_folds(store: FeatureStore, examples: Examples, folds: int) -> None:
    """Refuse what leaves too little to cross-validate the scores and the choice of parameters."""
    why = f"cross-validated scores need at least {_FEWEST} folds, one of them to choose by"
    if folds < _FEWEST:
        raise WrongUsage(f"folds {folds}: {why}")
    rarest, images = rarest_class(examples.codes, examples.identities)
    if images < _FEWEST:
        raise TrainingError(
            f"{store.path}: class {examples.names[rarest]!r} has only {images} distinct images, "
            f"but {why}; add images of it, or leave it out"
        )
