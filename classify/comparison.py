"""Feature files of the same images -> which of them a head does best with."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Final

import numpy as np
from sklearn.metrics import log_loss

from ..features.errors import TrainingError, WrongUsage
from .crossfit import cross_fit
from .evaluation import answers, majority_class
from .examples import Examples, training_and_test
from .heads import recipe
from .intervals import accuracy_interval, paired_difference
from .lesson import require_folds
from .recipe import Task
from .splits import stratified_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ..features.store import FeatureStore

RANDOM_WEIGHTS: Final = "random weights"
RAW_PIXELS: Final = "raw pixels"


@dataclasses.dataclass(frozen=True)
class Rank:
    """How well a logistic head does with one feature file.

    Attributes
    ----------
    name : str
        Path of the file, or "raw pixels".
    dimension : int
        Numbers a vector.
    baseline : str
        "random weights" or "raw pixels" where the features are no pretrained backbone's, else "".
    accuracy : float
        Cross-validated, the choice of regularisation included.
    interval : tuple of float
        Its 95% interval.
    log_loss : float
        Of the same predictions.
    behind : tuple of float
        By how much its accuracy is below that of the best, and the 95% interval of that, image by
        image.
    no_better_than : tuple of str
        Names of the baselines that it is not better than, beyond doubt (the interval of the
        difference reaches zero or less).
    seconds : float
        Wall time.
    """

    name: str
    dimension: int
    baseline: str
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    behind: tuple[float, float, float]
    no_better_than: tuple[str, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Feature files side by side.

    Attributes
    ----------
    ranks : tuple of Rank
        Best first.
    images : int
        That all files have; the same folds were used for all.
    folds : int
        Of the cross-validation.
    majority : float
        Accuracy of always answering the commonest class.
    notes : tuple of str
        What was left out and why, in sentences.
    """

    ranks: tuple[Rank, ...]
    images: int
    folds: int
    majority: float
    notes: tuple[str, ...]


def compare(
    stores: Sequence[FeatureStore],
    *,
    pixels: Callable[[list[bytes]], NDArray[np.floating]] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Comparison:
    """Rank feature files of the same images by the cross-validated accuracy of a logistic head.

    Images of the test split stay out, so that choosing a backbone leaves it untouched.

    Parameters
    ----------
    stores : sequence of FeatureStore
        Images are matched by their content.
    pixels : callable, optional
        From the paths of n images, as the first store has them, to their (n, D) pixels: a baseline
        without any backbone.
    folds, seed
        As for `train`.

    Raises
    ------
    TrainingError
        If the files have no images in common, or disagree about a label.
    WrongUsage
        If there is nothing to compare.
    """
    if len(stores) + (pixels is not None) < 2:
        raise WrongUsage("only one feature file: name at least two, or the images with --pixels")
    every = [_distinct(store) for store in stores]
    first, *others = every
    common = first.identities
    union = np.unique(np.concatenate([examples.identities for examples in every]))
    for store, examples in zip(stores[1:], others, strict=True):
        common = np.intersect1d(common, examples.identities)
        if not len(common):
            raise TrainingError(
                f"{store.path}: has no image in common with the files before it; only files of the "
                f"same images can be compared"
            )
    notes = []
    if len(union) > len(common):
        notes.append(f"{len(union) - len(common)} images are not in all files and are left out")
    first = first.rows(np.searchsorted(first.identities, common))
    if len(np.unique(first.labels)) < 2:
        raise TrainingError(
            f"{stores[0].path}: all images that it has in common with the other files are of class "
            f"{str(first.labels[0])!r}; at least two classes are needed"
        )
    require_folds(stores[0], first, folds)
    cut = stratified_folds(first.labels, first.identities, folds, seed)

    names, codes = np.unique(first.labels, return_inverse=True)
    entrants = []
    for store, examples in zip(stores, every, strict=True):
        examples = examples.rows(np.searchsorted(examples.identities, common))
        _require_same_labels(stores[0], first, store, examples)
        random = store.environment.get("weights", {}).get("kind") == "random"
        task = Task(examples.features, codes, names, balanced=False, seed=seed)
        entrants.append(_entrant(str(store.path), RANDOM_WEIGHTS if random else "", task, cut))
    if pixels is not None:
        task = Task(pixels(first.paths.tolist()), codes, names, balanced=False, seed=seed)
        entrants.append(_entrant(RAW_PIXELS, RAW_PIXELS, task, cut))
    return Comparison(
        ranks=_ranked(entrants, first.identities),
        images=len(common),
        folds=len(cut),
        majority=float(np.mean(first.labels == majority_class(first.labels))),
        notes=tuple(notes),
    )


@dataclasses.dataclass(frozen=True)
class _Entrant:
    name: str
    dimension: int
    baseline: str
    right: NDArray[np.bool_]
    log_loss: float
    seconds: float


def _distinct(store: FeatureStore) -> Examples:
    """Its training images, each once, in the order of their identities."""
    examples, _, _ = training_and_test(store)
    _, rows = np.unique(examples.identities, return_index=True)
    return examples.rows(rows)


def _require_same_labels(
    store: FeatureStore, examples: Examples, other: FeatureStore, theirs: Examples
) -> None:
    differ = np.flatnonzero(examples.labels != theirs.labels)
    if len(differ):
        row = differ[0]
        path = os.fsdecode(examples.paths[row])
        raise TrainingError(
            f"{store.path} and {other.path} label {len(differ)} images differently: {path} is "
            f"{str(examples.labels[row])!r} in one and {str(theirs.labels[row])!r} in the other"
        )


def _entrant(name: str, baseline: str, task: Task, folds: list[NDArray[np.intp]]) -> _Entrant:
    started = time.perf_counter()
    cross = cross_fit(recipe("logistic"), task, folds, honest=True)
    return _Entrant(
        name,
        task.features.shape[1],
        baseline,
        answers(cross.probabilities, task.names.tolist()) == task.labels,
        float(log_loss(task.labels, cross.probabilities, labels=task.names)),
        time.perf_counter() - started,
    )


def _ranked(entrants: list[_Entrant], identities: NDArray[np.uint64]) -> tuple[Rank, ...]:
    ordered = sorted(entrants, key=lambda one: (-one.right.mean(), one.log_loss))
    baselines = [one for one in ordered if one.baseline]

    def beats(one: _Entrant, other: _Entrant) -> bool:
        return paired_difference(one.right, other.right, identities)[1] > 0

    return tuple(
        Rank(
            name=one.name,
            dimension=one.dimension,
            baseline=one.baseline,
            accuracy=float(one.right.mean()),
            interval=accuracy_interval(one.right, identities),
            log_loss=one.log_loss,
            behind=paired_difference(ordered[0].right, one.right, identities),
            no_better_than=tuple(
                other.name for other in baselines if not one.baseline and not beats(one, other)
            ),
            seconds=one.seconds,
        )
        for one in ordered
    )
