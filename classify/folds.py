"""Training rows -> the folds that are held out of cross-validation."""

import dataclasses
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from ..features.errors import TrainingError, WrongUsage, because, count, listed
from ..features.store import FeatureStore
from .examples import Examples

FEWEST: Final = 3
"""Images of a class that is cross-validated: one to train on, one to choose by, one to score."""
FEWEST_BESIDE_A_TEST: Final = FEWEST - 1  # none has to be scored


@dataclasses.dataclass(frozen=True)
class Folds:
    """Which rows are held out together.

    Rows of one group are in one fold, and without any two folds there is some row of every class.
    Rows of classes with too few images for that are in none, nor are those of their groups: they
    are trained on whatever is held out.
    """

    held_out: list[NDArray[np.intp]]
    """Fold by fold; none if there are not two classes of which anything can be held out."""
    too_small: NDArray[np.intp]
    """Classes of which nothing is held out."""
    apart: NDArray[np.intp]
    """Of each class, how many images could be held out one without the other."""


def stratified_folds(
    codes: NDArray[np.intp],
    groups: NDArray[np.integer],
    folds: int,
    seed: int,
    fewest: int = FEWEST,
) -> Folds:
    """Cut rows into folds with equal shares of each class.

    Parameters
    ----------
    codes : ndarray of shape (N,)
        Classes, as indices.
    groups : ndarray of shape (N,)
        Rows of one group are one image; they may be of several classes.
    folds : int
        How many; fewer if no class has so many images.
    seed : int
        Of the shuffling.
    fewest : int
        Images that a class must have to be held out at all.
    """
    numbers, spread = np.unique(groups, return_inverse=True)
    pairs = np.unique(np.stack([spread, codes]), axis=1)  # each group with each of its classes
    images = np.bincount(pairs[1])
    # A group counts for its rarest class, so that rare ones are spread as evenly as can be.
    order = np.lexsort((-images[pairs[1]], pairs[0]))
    class_of = np.empty(len(numbers), np.intp)
    class_of[pairs[0, order]] = pairs[1, order]  # the last of each group stays
    too_small, apart = images < fewest, images.copy()
    while True:
        # What is always trained on takes its whole group along: no near-copy of it is scored.
        trained_on = np.isin(np.arange(len(numbers)), pairs[0, too_small[pairs[1]]])
        kept = np.flatnonzero(~trained_on)
        held_out = _cut(kept, class_of[kept], folds, seed)
        fold_of = np.full(len(numbers), -1)
        for number, fold in enumerate(held_out):
            fold_of[fold] = number
        inside = np.unique(
            np.stack([fold_of[pairs[0]], pairs[1]])[:, fold_of[pairs[0]] >= 0], axis=1
        )
        spanned = np.bincount(inside[1], minlength=len(images))
        still_small = (spanned < min(fewest, folds)) & (images > 0)
        if not (still_small & ~too_small).any():
            break
        apart[still_small & ~too_small] = spanned[still_small & ~too_small]
        too_small = too_small | still_small
    small = np.flatnonzero(too_small & (images > 0))
    if np.count_nonzero((images > 0) & ~too_small) < 2:
        return Folds([], small, apart)
    return Folds([np.flatnonzero(np.isin(spread, fold)) for fold in held_out], small, apart)


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
    fewest = FEWEST if scored else FEWEST_BESIDE_A_TEST
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
        worded = store.provenance.worded
        what = worded(f"images can be held out of fewer than two classes; {few}; add images")
        raise TrainingError(f"{store.name}: {what}{because(list(map(worded, notes)))}")
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


def _cut(
    groups: NDArray[np.intp], classes: NDArray[np.intp], folds: int, seed: int
) -> list[NDArray[np.intp]]:
    """Groups into folds, each class spread evenly; fewer folds if no class has so many groups."""
    most = int(np.bincount(classes).max(initial=0))
    if most < 2:
        return []
    splitter = StratifiedKFold(min(folds, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer groups than folds
        return [groups[fold] for _, fold in splitter.split(groups, classes)]
