"""Training vectors -> how unlike all of them another vector is, and when it is unfamiliar."""

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from .scores.space import principal_components, to_length_one
from .solver.rows import Matrix, passes, taken

FALSE_ALARMS: Final = 0.01
"""Share of images like the training images that are called unfamiliar nevertheless."""

_COMPONENTS: Final = 64
_EXEMPLARS: Final = 2048
"""Training vectors kept, drawn at random if there are more: half a megabyte, as much as the
components of 2,048 features take."""
_HELD_OUT: Final = 1000
"""Images held out are enough for a threshold; the rate of false alarms it leads to is then within
0.3% (one standard deviation of the binomial) of the one asked for."""
_ALONG: Final = 0.25
"""Weight of the squared distance along the components beside that across them. At 1% false alarms
and 150 pixels, of digits to 100 cats and dogs 68% were found with a weight of 1, 91% with 0.5, 94%
with 0.25 and 97% with none; of digits that were left out of 900, 36, 35, 32 and 27%."""
_NEAR: Final = 0.8
"""Share of its class's median distance that a smaller distance is taken for: where an image was not
known to be a copy, it would widen the spread. Of 600 photographs 0.2% are so near to another. With
it, what 50 photographs in six versions each found of plots and screenshots rose from 83 and 54 to
93 and 73%, at 0.8% false alarms instead of 0.3."""
_SMALLEST: Final = float(np.finfo(np.float32).eps)
_FURTHEST: Final = 2.0
"""No two vectors of length one are further apart."""


@dataclasses.dataclass(frozen=True)
class Novelty:
    """The nearest neighbour of a vector among the training vectors, in few dimensions.

    The distance is between vectors of length one: along the principal components it is that to the
    nearest exemplar, and across them that to what the components can express. Percent called
    unfamiliar at 224 (150) pixels, MobileNetV2 with ImageNet weights, 20 draws
    (`benchmarks/novelty_table.py`); standard errors of false alarms are 0.1 to 0.4, of what is
    found from 50 images up to 7, from 100 up to 2 and then less:

    ====================  ============  ===========  ===========  ===========  ===========
    learned from          false alarms  digits       plots        screenshots  noise
    ====================  ============  ===========  ===========  ===========  ===========
    50 cats and dogs      1.6 (1.3)     97 (71)      88 (81)      77 (79)      100 (85)
    100                   1.1 (1.1)     100 (98)     98 (99)      93 (95)      100 (97)
    200                   1.6 (1.5)     100 (100)    100 (100)    100 (100)    100 (100)
    400                   1.4 (1.0)     100 (100)    100 (100)    100 (100)    100 (100)
    50 and 250 copies     2.3 (2.0)     100 (83)     94 (91)      88 (89)      100 (90)
    400 and 2,000 copies  1.5 (1.4)     100 (100)    100 (100)    100 (100)    100 (100)
    ====================  ============  ===========  ===========  ===========  ===========

    From 50 to 1,500 digits, false alarms are 0.7 to 1.1 (0.6 to 1.5), and all cats, dogs, plots,
    screenshots and noise are found; from 2,000 characters of 105 kinds in many typefaces, 1.4 at
    150 pixels. Of 20 dogs among 250 cats 4.7 (4.1) are false alarms, of 20 cats among 250 dogs 0.4
    (0.5), of 20 images of a digit among 1,116 of the others 1.4 (1.7).

    What resembles the training images to the backbone is seldom found: of digits that were left
    out, 11 to 19% (13 to 27%), of such characters 3%; at 96 pixels no digit at all, and with random
    weights 6 to 8%.
    """

    mean: NDArray[np.float32]
    """(D,) of the training vectors."""
    components: NDArray[np.float32]
    """(k, D) principal components of them; k is 64 where there are as many."""
    exemplars: NDArray[np.float32]
    """(n, k): at most 2,048 training vectors along the components."""
    thresholds: NDArray[np.float64]
    """(K,): the distance beyond which a vector is unfamiliar, for each class it may be of."""
    held_out: int
    """Training images that the thresholds were found by, each without those of its fold; of
    near-copies there is one."""

    @classmethod
    def learned(
        cls,
        features: Matrix,
        folds: Sequence[NDArray[np.intp]],
        codes: NDArray[np.intp],
        classes: int,
        seed: int,
        groups: NDArray[np.integer] | None = None,
    ) -> "Novelty":
        """Learn what is familiar, and find the thresholds by cross-validation.

        A threshold is what a further image of the class exceeds with a chance of about
        `FALSE_ALARMS`, if distances vary around the mean of the class as those of held-out images
        do. Means of few images are drawn to that of all classes, the more, the less the classes
        differ (empirical Bayes), and the spread is that of all classes. How many spreads it takes
        is a quantile of Student's t; the more images are held out, the more it is that of their
        distances, and at a thousand that alone (conformal prediction, Angelopoulos and Bates 2021,
        arXiv:2107.07511, section 1). With fewer, the normal quantile is a little too short for
        distances, which are skewed, but held-out distances are a little too long, as folds know
        fewer images (by 0.05 to 0.35 standard deviations with five folds): the two nearly cancel.

        Parameters
        ----------
        features : ndarray of shape (N, D)
            Training vectors.
        folds : sequence of ndarray of int
            Rows that are held out together. They need not hold all rows; near-copies must not be
            on both sides of a fold. No more of them are held out than it takes to have a thousand
            images.
        codes : ndarray of int, shape (N,)
            Classes, from 0 to `classes` - 1.
        classes : int
            K, at least one.
        seed : int
            Of the draw of exemplars and the search for components.
        groups : ndarray of int, shape (N,), optional
            Rows of one number are near-copies, and weigh as much as one image. By default each row
            is an image of its own.
        """
        everything = np.arange(len(features))
        _, group, sizes = np.unique(
            everything if groups is None else groups, return_inverse=True, return_counts=True
        )
        weights = 1 / sizes[group]
        distances, held_out = np.empty(0), np.empty(0, np.intp)
        for rows in folds:
            if weights[held_out].sum() >= _HELD_OUT:
                break
            others = np.setdiff1d(everything, rows)
            if len(rows) and len(others):
                known = cls._of(features, others, seed)
                distances = np.concatenate([distances, known.distances(taken(features, rows))])
                held_out = np.concatenate([held_out, rows])
        thresholds = _thresholds(distances, codes[held_out], classes, weights[held_out])
        return dataclasses.replace(
            cls._of(features, everything, seed),
            thresholds=thresholds,
            held_out=round(weights[held_out].sum()),
        )

    @classmethod
    def _of(cls, features: Matrix, rows: NDArray[np.intp], seed: int) -> "Novelty":
        if len(rows) > _EXEMPLARS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, _EXEMPLARS, replace=False))
        vectors = _of_length_one(features[rows])
        count = max(1, min(_COMPONENTS, len(vectors) - 1, vectors.shape[1]))
        pca = principal_components(vectors, count, seed)
        components = pca.components_.astype(np.float32)
        mean = pca.mean_.astype(np.float32)
        return cls(mean, components, (vectors - mean) @ components.T, np.empty(0), 0)

    @property
    def false_alarms(self) -> float:
        """Share of images like the training images that the thresholds aim to call unfamiliar."""
        return FALSE_ALARMS

    def distances(self, features: Matrix) -> NDArray[np.float64]:
        """(N, D) vectors -> (N,) distances from the training vectors."""
        parts = [self._distances(block) for block in passes(features, "novelty")]
        return np.concatenate([np.empty(0), *parts])

    def _distances(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        vectors = _of_length_one(features) - self.mean
        along = vectors @ self.components.T
        squared = (along**2).sum(axis=1)
        across = np.maximum((vectors**2).sum(axis=1) - squared, 0)
        nearest = np.min((self.exemplars**2).sum(axis=1) - 2 * along @ self.exemplars.T, axis=1)
        along_squared = np.maximum(nearest + squared, 0)
        return np.asarray(np.sqrt(_ALONG * along_squared + across), np.float64)

    def scores(
        self,
        features: Matrix,
        probabilities: NDArray[np.floating],
        counts: NDArray[np.integer],
    ) -> NDArray[np.float64]:
        """How unlike the training images vectors are: above one their labels should be checked.

        The distance in multiples of a mean of the classes' thresholds, weighted by what their
        probabilities would be if all were equally frequent: an image of a rare class is often
        given to a common one, whose images lie closer together, and what resembles no class is
        measured by all of them.

        Parameters
        ----------
        features : ndarray of shape (N, D)
            Vectors.
        probabilities : ndarray of shape (N, K)
            Of a head.
        counts : ndarray of int, shape (K,)
            Training images of each class; ones if the head was trained with balanced weights.

        Returns
        -------
        ndarray of float64, shape (N,)
        """
        # The weights, probabilities / counts, as large as the probabilities, are never made.
        thresholds = (probabilities @ (self.thresholds / counts)) / (probabilities @ (1 / counts))
        scores: NDArray[np.float64] = self.distances(features) / thresholds
        return scores

    def fault(self, dimension: int, classes: int) -> str:
        """Why values that were read from a file are impossible; empty if they are not."""
        arrays = (self.mean, self.components, self.exemplars)
        if [array.ndim for array in arrays] != [1, 2, 2] or not (
            len(self.mean) == self.components.shape[1] == dimension
            and self.components.shape[0] == self.exemplars.shape[1]
            and len(self.exemplars)
        ):
            return "the numbers of features of metadata and novelty contradict each other"
        if self.thresholds.shape != (classes,):
            return "the numbers of classes of metadata and novelty contradict each other"
        if (
            not all(np.isfinite(array).all() for array in (*arrays, self.thresholds))
            or not (self.thresholds > 0).all()
        ):
            return "its measure of novelty has impossible values"
        return ""


def _thresholds(
    distances: NDArray[np.float64],
    codes: NDArray[np.intp],
    classes: int,
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(n,) held-out distances, their classes and weights -> (K,) thresholds."""
    count: NDArray[np.float64] = np.bincount(codes, weights, classes).astype(np.float64)
    number, present = float(count.sum()), int(np.count_nonzero(count))
    if number < 2 * present:  # too few to tell classes apart
        codes, count, present = np.zeros_like(codes), np.array([number]), 1
    freedom = number - present
    if freedom < 1:
        return np.full(classes, _FURTHEST)
    distances = np.maximum(distances, _NEAR * _medians(distances, codes, count, weights)[codes])
    mean = np.bincount(codes, weights * distances, len(count)) / np.maximum(count, _SMALLEST)
    within = max(float(weights @ (distances - mean[codes]) ** 2) / freedom, _SMALLEST**2)
    seen = count > 0
    # How much more the means differ than by chance (the estimator of Hedges and Olkin 1985,
    # Statistical Methods for Meta-Analysis): the more, the less each is drawn to what is common.
    between = 0.0
    if present > 1:
        between = max(mean[seen].var(ddof=1) - within * (1 / count[seen]).mean(), 0)
    certainty = count / (count * between + within)
    trust = between * certainty
    common = (certainty @ mean) / certainty.sum()
    centre = common + trust * (mean - common)
    # A further image varies around its class's mean, which is known but roughly.
    spread = np.sqrt(within + (1 - trust) * between + (1 - trust) ** 2 / certainty.sum())
    beyond = (distances - centre[codes]) / spread[codes]
    order = np.argsort(beyond)
    rank = np.searchsorted(np.cumsum(weights[order]), (number + 1) * (1 - FALSE_ALARMS))
    counted = beyond[order[min(int(rank), len(order) - 1)]]
    assumed = t.ppf(1 - FALSE_ALARMS, freedom)
    share = min(number / _HELD_OUT, 1)
    found = centre + (share * counted + (1 - share) * assumed) * spread
    return np.broadcast_to(np.clip(found, _SMALLEST, _FURTHEST), classes).copy()


def _medians(
    distances: NDArray[np.float64],
    codes: NDArray[np.intp],
    count: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(C,) weighted medians of the distances of each class, of weight `count` together."""
    order = np.lexsort((distances, codes))
    places = np.searchsorted(np.cumsum(weights[order]), np.cumsum(count) - count / 2)
    medians: NDArray[np.float64] = distances[order[np.minimum(places, len(order) - 1)]]
    return medians


def _of_length_one(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """The vectors with length one: their lengths say more of contrast than of content."""
    return to_length_one(features.astype(np.float32))
