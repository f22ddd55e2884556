"""Vectors of images -> a map of them: two numbers each, in which what is alike lies together."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ...features.journal.progress import step
from ..scores.space import drawn, parts, principal_components

MOST: Final = 1000
"""Images that are arranged; all others are put beside those that they resemble. The time that it
takes grows with the images, and a map of more is no easier to read."""
_COMPONENTS: Final = 50
"""Kept of the vectors before; as van der Maaten and Hinton (2008) did."""
_PERPLEXITY: Final = 30.0
"""scikit-learn's default: how many neighbours an image has, about."""
_STEPS: Final = 500
"""Half of scikit-learn's default, in half of the time: neighbours in a map of 1,500 images were
as trustworthy (0.972 against 0.970)."""
_FEWEST: Final = 5
"""Of fewer images than this, neighbours tell nothing."""
_BESIDE: Final = 3
"""Nearest arranged images whose mean is the place of another."""


def places(features: NDArray[np.floating], most: int = MOST) -> NDArray[np.float32]:
    """(N, D) vectors -> (N, 2) places from 0 to 1, the same for the same vectors.

    At most `most` of them, drawn at random, are arranged by t-SNE (van der Maaten and Hinton 2008)
    of 50 principal components: neighbours in the map are mostly neighbours, while the distance of
    clusters means little. Each of the others is placed among its three nearest of those.
    """
    rows = drawn(len(features), most)
    sample = np.array(features[rows], np.float32)
    count = min(_COMPONENTS, len(sample) - 1, sample.shape[1])
    if count < 2 or not np.ptp(sample, axis=0).any():
        return np.full((len(features), 2), 0.5, np.float32)
    mean = sample.mean(axis=0)
    pca = principal_components(sample - mean, count, seed=0, copy=True)
    axes = np.asarray(pca.components_.T, np.float32)
    reduced = (sample - mean) @ axes
    if len(sample) < _FEWEST:
        arranged = reduced[:, :2]
    else:
        perplexity = min(_PERPLEXITY, (len(sample) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=_STEPS)
        # Each of its steps takes 2 ms and ends when the slowest thread has: where a core has other
        # work, 1,000 images took 22 s with two threads and 5 s with one.
        with threadpool_limits(1, "openmp"), step("map of the images"):
            arranged = tsne.fit_transform(reduced)
    arranged = _from_0_to_1(arranged)
    if len(rows) == len(features):
        return arranged
    found = np.empty((len(features), 2), np.float32)
    lengths = (reduced**2).sum(axis=1)
    for part in parts(len(features), len(rows), "map"):
        own = (np.asarray(features[part], np.float32) - mean) @ axes
        apart = lengths - 2 * own @ reduced.T  # but for what is the same for all of a row
        nearest = np.argpartition(apart, _BESIDE, axis=1)[:, :_BESIDE]
        found[part] = arranged[nearest].mean(axis=1)
    found[rows] = arranged
    return found


def _from_0_to_1(points: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = points.min(axis=0), points.max(axis=0)
    scaled: NDArray[np.float32] = (points - low) / np.maximum(high - low, np.finfo(np.float32).eps)
    return scaled.astype(np.float32)
