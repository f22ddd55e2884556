"""A trained head -> its learning curve: accuracy against images per class."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.errors import WrongUsage
from ...features.journal.progress import part_of
from ...features.store import FeatureStore
from ..experiment import Experiment
from ..head import Head
from ..heads import RECIPES, recipe_of
from ..heads.recipe import Cut, chosen_codes
from ..scores.intervals import accuracy_interval, drawn_interval

_SMALLEST: Final = 2
_DRAWS: Final = ((5, 2**21), (2, 2**25))
"""Draws of the images for each size and fold, and decision values up to which there are so many."""
_DRAWS_OF_ONE_FOLD: Final = 3
"""Beyond that one fold must do; two draws would leave nearly everything open."""


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve."""

    per_class: int
    """Training images of each class (all of a class that has fewer)."""
    accuracy: float
    """On images left out, in the mean over several draws of the training images."""
    interval: tuple[float, float]
    """95% interval of the accuracy to expect of so many images, whichever they are.

    Of the last point, which has all images, it is of the accuracy with these.
    """


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Accuracy against images per class.

    Attributes
    ----------
    points : tuple of CurvePoint
        Sizes double; the last has all images that cross-validation can train on.
    baseline : float
        Accuracy of always predicting the commonest class.
    note : str
        Which images it is of, if not all; else empty.
    """

    points: tuple[CurvePoint, ...]
    baseline: float
    note: str = ""


def learning_curve(head: Head, store: FeatureStore) -> LearningCurve:
    """Train the same kind of head on ever more images per class, and score it on images left out.

    Parameters
    ----------
    head : Head
        One of the kinds that have a name. Its parameters are kept for all sizes; they were chosen
        with all images, so that the curve shows what more images bring, and not an honest score.
    store : FeatureStore
        The file that it was trained on. Its test split is not used; of a file that is read in
        blocks, the images are those that the parameters were chosen by.

    Raises
    ------
    WrongUsage
        If the head was made of a classifier that was handed in, or trained on another file.
    """
    if head.name not in RECIPES:
        raise WrongUsage(f"{head.name}: only {', '.join(RECIPES)} heads have a learning curve")
    if head.training_digest != store.content_digest:
        raise WrongUsage(
            f"{store.name}: the head was trained on another file, or before it changed"
        )
    return curve_of(
        head,
        Experiment.of(store, head.folds, head.seed, head.class_weight, head.min_images),
    )


def curve_of(head: Head, experiment: Experiment) -> LearningCurve:
    """See `learning_curve`; of the experiment that the head was trained in."""
    task, folds, codes = experiment.task, experiment.folds, experiment.codes
    image, search = experiment.examples.groups, experiment.search
    note = ""
    if search is not None:
        note = f"of the {len(search.rows):,} images that the parameters were chosen by"
        task, folds, image = search.task, search.folds, image[search.rows]
        codes = task.codes[: len(image)]
    scored = codes[np.concatenate(folds)]
    majority = float(np.mean(scored == np.bincount(codes).argmax()))
    pools = [np.setdiff1d(np.arange(len(codes)), held_out) for held_out in folds]
    *sizes, most = _sizes(min(int(np.bincount(codes[pool]).max()) for pool in pools))
    draws, used = _draws(len(task.codes) * len(task.names) * len(sizes), len(folds))
    folds, pools = folds[:used], pools[:used]
    generator = np.random.default_rng(head.seed)
    cuts = []
    for held_out, pool in zip(folds, pools, strict=True):
        for _ in range(draws):
            shuffled = generator.permutation(pool)
            place = _place_in_class(codes[shuffled])
            chosen = [task.views_of(shuffled[place < size]) for size in sizes]
            cuts += [Cut(rows, (held_out,)) for rows in chosen]
        cuts.append(Cut(task.views_of(pool), (held_out,)))
    with part_of("learning curve"):
        step = recipe_of(head.name).at(head.parameters, task, cuts)

    drawn_right, right = [], []  # of each fold: (draws, sizes, n) and, of the whole pool, (n,)
    for fold, held_out in enumerate(folds):
        own = range(fold * (draws * len(sizes) + 1), (fold + 1) * (draws * len(sizes) + 1))
        *drawn, whole = [chosen_codes(step.decisions[one][0]) == codes[held_out] for one in own]
        drawn_right.append(np.reshape(drawn, (draws, len(sizes), len(held_out))))
        right.append(whole)
    groups = image[np.concatenate(folds)]
    points = []
    for number, size in enumerate(sizes):
        of_folds = [of_fold[:, number] for of_fold in drawn_right]
        accuracy = np.concatenate(of_folds, axis=1).mean()
        rows = cuts[number].training
        images = np.unique(image[rows[rows < len(image)]])
        share = len(images) / len(np.unique(image[pools[0]]))
        interval = drawn_interval(of_folds, groups, share)
        points.append(CurvePoint(size, float(accuracy), interval))
    whole = np.concatenate(right)
    points.append(CurvePoint(most, float(whole.mean()), accuracy_interval(whole, groups)))
    return LearningCurve(tuple(points), majority, note)


def _draws(values: int, folds: int) -> tuple[int, int]:
    """How many draws for each size and fold, and how many folds, if each takes so many values."""
    for draws, most_values in _DRAWS:
        if values * folds * draws <= most_values:
            return draws, folds
    return _DRAWS_OF_ONE_FOLD, 1


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
