"""A trained head -> its learning curve: accuracy against images per class."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..features.errors import WrongUsage
from ..features.store import FeatureStore
from .experiment import Experiment
from .head import Head
from .heads import RECIPES, recipe_of
from .heads.recipe import Cut, chosen_codes
from .scores.intervals import accuracy_interval

_SMALLEST: Final = 2
_MOST_VALUES: Final = 2**25
"""Decision values up to which every fold has a curve of its own; beyond that one fold must do."""


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve."""

    per_class: int
    """Training images of each class (all of a class that has fewer)."""
    accuracy: float
    """On images left out."""
    interval: tuple[float, float]
    """95% interval of the accuracy."""


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Accuracy against images per class.

    Attributes
    ----------
    points : tuple of CurvePoint
        Sizes double; the last has all images that cross-validation can train on.
    baseline : float
        Accuracy of always predicting the commonest class.
    """

    points: tuple[CurvePoint, ...]
    baseline: float


def learning_curve(head: Head, store: FeatureStore) -> LearningCurve:
    """Train the same kind of head on ever more images per class, and score it on images left out.

    Parameters
    ----------
    head : Head
        One of the kinds that have a name. Its parameters are kept for all sizes; they were chosen
        with all images, so that the curve shows what more images bring, and not an honest score.
    store : FeatureStore
        The file that it was trained on. Its test split is not used.

    Raises
    ------
    WrongUsage
        If the head was made of a classifier that was handed in, or trained on another file.
    """
    if head.name not in RECIPES:
        raise WrongUsage(f"{head.name}: only {', '.join(RECIPES)} heads have a learning curve")
    if head.training_digest != store.content_digest:
        raise WrongUsage(
            f"{store.path}: the head was trained on another file, or before it changed"
        )
    experiment = Experiment.of(store, head.folds, head.seed, head.class_weight)
    task, folds = experiment.task, experiment.folds
    everything = np.arange(len(task.codes))
    sizes = _sizes(int(np.bincount(task.codes).max() * (1 - 1 / len(folds))))
    if len(everything) * len(task.names) * len(sizes) * len(folds) > _MOST_VALUES:
        folds = folds[:1]
    generator = np.random.default_rng(head.seed)
    cuts = []
    for held_out in folds:
        shuffled = generator.permutation(np.setdiff1d(everything, held_out))
        place = _place_in_class(task.codes[shuffled])
        cuts += [Cut(np.sort(shuffled[place < size]), (held_out,)) for size in sizes]
    step = recipe_of(head.name).at(head.parameters, task, cuts)
    decisions = [of_fold for (of_fold,) in step.decisions]
    points = []
    rows = np.concatenate(folds)
    for number, size in enumerate(sizes):
        chosen = np.concatenate([chosen_codes(one) for one in decisions[number :: len(sizes)]])
        right = chosen == task.codes[rows]
        interval = accuracy_interval(right, experiment.examples.identities[rows])
        points.append(CurvePoint(size, float(right.mean()), interval))
    majority = np.bincount(task.codes).max() / len(task.codes)
    return LearningCurve(tuple(points), float(majority))


def _sizes(most: int) -> list[int]:
    doubling = [_SMALLEST * 2**k for k in range(64) if _SMALLEST * 2**k < most]
    return [*doubling, most]


def _place_in_class(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each row, how many rows before it have the same class."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    place = np.empty(len(codes), np.intp)
    place[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place
