"""Splits that are stratified, seeded, and never part two rows of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedKFold

from ..features.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contents(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 8 bytes of each SHA-256, (N, 32) uint8 -> (N,) uint64: who is identical to whom.

    Among a million images two different ones share 8 bytes with a chance of 3 in 10**8.
    """
    first = np.ascontiguousarray(digests[:, :8])
    numbers: NDArray[np.uint64] = first.view(np.uint64).reshape(-1)
    return numbers


def rarest_class(labels: NDArray[np.str_], identities: NDArray[np.uint64]) -> tuple[str, int]:
    """The class with the fewest distinct images, and how many it has."""
    _, first = np.unique(identities, return_index=True)
    names, counts = np.unique(labels[first], return_counts=True)
    return str(names[counts.argmin()]), int(counts.min())


def stratified_folds(
    labels: NDArray[np.str_], identities: NDArray[np.uint64], folds: int, seed: int
) -> list[NDArray[np.intp]]:
    """Cut rows into folds with equal shares of each class.

    Parameters
    ----------
    labels : ndarray of str, shape (N,)
        Class of each row.
    identities : ndarray of uint64, shape (N,)
        From `contents`: rows of one number stay on one side.
    folds : int
        How many are wanted; a class of fewer distinct images gets as many folds as it has images.
    seed : int
        Of the shuffling.

    Returns
    -------
    list of ndarray of int
        The rows of each fold; every row is in one.

    Raises
    ------
    TrainingError
        If a class has only one distinct image.
    """
    # Splitting distinct images and spreading the result over their copies is what
    # StratifiedGroupKFold does too, but in a Python loop over every image.
    _, first, spread = np.unique(identities, return_index=True, return_inverse=True)
    name, images = rarest_class(labels, identities)
    if images < 2:
        raise TrainingError(
            f"class {name!r} has only one distinct training image, so nothing can be held out of "
            f"it; add images or leave the class out"
        )
    splitter = StratifiedKFold(min(folds, images), shuffle=True, random_state=seed)
    return [
        np.flatnonzero(np.isin(spread, held_out))
        for _, held_out in splitter.split(first, labels[first])
    ]
