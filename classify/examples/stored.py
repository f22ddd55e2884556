"""A feature file -> its vectors: in memory, or where they are too many for it, in the file."""

from collections.abc import Sequence
from typing import Final, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError, listed
from ...features.rules import unusable
from ...features.store import FeatureStore
from ..solver.memory import free_memory
from ..solver.rows import Matrix, Stored, passes

SHARE: Final = 0.25
"""Of the free memory: vectors that take more stay in the file. Training on vectors in memory peaks
at about four times what they take (25,000 of 2,048 numbers and 100 classes: 4.2 times)."""
LEAST: Final = 256 << 20
"""Bytes of vectors that are always worked on in memory: where that does not fit, nothing does."""

_DECIDED: Final["WeakKeyDictionary[FeatureStore, bool]"] = WeakKeyDictionary()


def bytes_of(store: FeatureStore) -> int:
    """What all vectors of a file take in memory, in float32."""
    return 4 * len(store) * int(store.dimension)


def beyond_memory(store: FeatureStore) -> bool:
    """Whether the vectors of a file are too many to be worked on in memory.

    It is decided once for a store: what is free changes with what is done with it.
    """
    if store not in _DECIDED:
        _DECIDED[store] = _too_many(bytes_of(store))
    return _DECIDED[store]


def vectors(store: FeatureStore, rows: NDArray[np.bool_]) -> Matrix:
    """The vectors of some rows, as float32."""
    if beyond_memory(store):
        return Stored(store.read_features, np.flatnonzero(rows), store.dimension)
    features = store.features if rows.all() else store.features[rows]
    # scikit-learn would compute means and products of float16 in float16.
    return features.astype(np.float32, copy=False)


def unusable_rows(features: Matrix) -> NDArray[np.bool_]:
    """(N,): which rows have values that nothing can be computed with."""
    if isinstance(features, Stored):
        found = [unusable(block) for block in passes(features, "checking values")]
        return np.concatenate([np.zeros(0, np.bool_), *found])
    return unusable(features)


def require_in_memory(store: FeatureStore, what: str) -> None:
    """Refuse a study that compares every image with every other, or needs all vectors at once."""
    if beyond_memory(store):
        _refuse([store], what)


def require_all_in_memory(stores: Sequence[FeatureStore], what: str) -> None:
    """The same of a study that needs all vectors of several files at once."""
    if _too_many(sum(map(bytes_of, stores))) or any(map(beyond_memory, stores)):
        _refuse(stores, what)


def require_room_for(store: FeatureStore, rows: int, classes: int) -> None:
    """Refuse to score more rows of a file than there is memory for all their probabilities."""
    needed, free = 2 * 8 * rows * classes, free_memory()
    if needed > free and beyond_memory(store):
        raise TrainingError(
            f"{store.name}: the probabilities of {rows:,} images and {classes:,} classes take "
            f"about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; score fewer "
            f"images, or use a machine with more memory"
        )


def _too_many(size: int) -> bool:
    return size > max(LEAST, SHARE * free_memory())


def _refuse(stores: Sequence[FeatureStore], what: str) -> NoReturn:
    taken, free = sum(map(bytes_of, stores)), free_memory()
    raise TrainingError(
        f"{listed([store.name for store in stores])}: {what} takes all vectors in memory, several "
        f"times, and these take {taken / 1e9:.1f} GB, more than a quarter of the {free / 1e9:.1f} "
        f"GB that are free; use a machine with more memory, or a file of fewer images"
    )
