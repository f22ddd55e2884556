"""Training vectors -> how unlike all of them another vector is, and when it is unfamiliar."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ..features.digest import blocks
from .scores.duplicates import to_length_one

FALSE_ALARMS: Final = 0.01
"""Share of images like the training images that are called unfamiliar nevertheless."""

_COMPONENTS: Final = 64
_EXEMPLARS: Final = 2048
"""Training vectors kept, drawn at random if there are more: half a megabyte, as much as the
components of 2,048 features take. With 500 the figures below are the same."""
_HELD_OUT: Final = 1000
"""Images held out are enough for a threshold; the rate of false alarms it leads to is then within
0.3% (one standard deviation of the binomial) of the one asked for."""
_POWER: Final = 2
"""Of the search for components: 0.08 s where scikit-learn's default of 7 takes 0.45 s."""


@dataclasses.dataclass(frozen=True)
class Novelty:
    """The nearest neighbour of a vector among the training vectors, in few dimensions.

    The distance is between vectors of length one: along the principal components it is that to the
    nearest exemplar, and across them that to what the components can express. MobileNetV2 with
    ImageNet weights at 150 and 224 pixels, with thresholds at 1% false alarms: all handwritten
    digits are unfamiliar to a head for cats and dogs, and all cats and dogs to a head for digits;
    99.8 to 100% are with all vectors in all dimensions, which take 25 times the space. Mahalanobis
    distances with as many components found 0 to 5% of the digits, and 94 to 100% together with the
    distance across and vectors of length one. Of digits that training had left out, which look much
    the same to this backbone, it finds 31 to 36% (all vectors 27 to 35%, the distance across alone
    23 to 28%). Where the backbone itself sees little, no distance of any kind found the digits:
    at 96 pixels, and with random weights.
    """

    mean: NDArray[np.float32]
    """(D,) of the training vectors."""
    components: NDArray[np.float32]
    """(k, D) principal components of them; k is 64 where there are as many."""
    exemplars: NDArray[np.float32]
    """(n, k): at most 2,048 training vectors along the components."""
    threshold: float
    """Distance beyond which a vector is unfamiliar."""
    held_out: int
    """Training images that the threshold was found by, each without those of its fold."""

    @classmethod
    def learned(
        cls, features: NDArray[np.floating], folds: Sequence[NDArray[np.intp]], seed: int
    ) -> "Novelty":
        """Learn what is familiar, and find the threshold by cross-validation.

        The threshold is the quantile of the held-out distances that a further image of their kind
        exceeds with a chance of about `FALSE_ALARMS` (as in conformal prediction, Angelopoulos and
        Bates 2021, arXiv:2107.07511, section 1; a little less, as the measure itself knows all
        images and each fold's lacks some: 0.4% of 100 images). Fewer than 99 images cannot tell
        one in a hundred: then it is the largest of them. No more folds are held out than it takes
        to have a thousand.
        """
        held_out = np.empty(0)
        everything = np.arange(len(features))
        for rows in folds:
            others = cls._of(features, np.setdiff1d(everything, rows), seed)
            held_out = np.concatenate([held_out, others.distances(features[rows])])
            if len(held_out) >= _HELD_OUT:
                break
        rank = min(math.ceil((len(held_out) + 1) * (1 - FALSE_ALARMS)), len(held_out))
        threshold = np.partition(held_out, rank - 1)[rank - 1]
        familiar = cls._of(features, everything, seed)
        # Where all images are copies of one, anything else is unfamiliar.
        smallest = float(np.finfo(np.float32).eps)
        return dataclasses.replace(
            familiar, threshold=max(float(threshold), smallest), held_out=len(held_out)
        )

    @classmethod
    def _of(cls, features: NDArray[np.floating], rows: NDArray[np.intp], seed: int) -> "Novelty":
        if len(rows) > _EXEMPLARS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, _EXEMPLARS, replace=False))
        vectors = _of_length_one(features[rows])
        count = max(1, min(_COMPONENTS, len(vectors) - 1, vectors.shape[1]))
        pca = PCA(count, svd_solver="randomized", iterated_power=_POWER, random_state=seed).fit(
            vectors
        )
        components = pca.components_.astype(np.float32)
        mean = pca.mean_.astype(np.float32)
        return cls(mean, components, (vectors - mean) @ components.T, np.inf, 0)

    @property
    def false_alarms(self) -> float:
        """Share of images like the training images that are called unfamiliar."""
        return max(FALSE_ALARMS, 1 / (self.held_out + 1))

    def distances(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, D) vectors -> (N,) distances from the training vectors."""
        parts = [self._distances(block) for block in blocks(features)]
        return np.concatenate([np.empty(0), *parts])

    def _distances(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        vectors = _of_length_one(features) - self.mean
        along = vectors @ self.components.T
        squared = (along**2).sum(axis=1)
        across = np.maximum((vectors**2).sum(axis=1) - squared, 0)
        nearest = np.min((self.exemplars**2).sum(axis=1) - 2 * along @ self.exemplars.T, axis=1)
        return np.asarray(np.sqrt(np.maximum(nearest + squared, 0) + across), np.float64)

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, D) vectors -> (N,) distances in multiples of the threshold: unfamiliar above one."""
        return self.distances(features) / self.threshold

    def fault(self, dimension: int) -> str:
        """Why values that were read from a file are impossible; empty if they are not."""
        arrays = (self.mean, self.components, self.exemplars)
        if [array.ndim for array in arrays] != [1, 2, 2] or not (
            len(self.mean) == self.components.shape[1] == dimension
            and self.components.shape[0] == self.exemplars.shape[1]
            and len(self.exemplars)
        ):
            return "the numbers of features of metadata and novelty contradict each other"
        if (
            not all(np.isfinite(array).all() for array in arrays)
            or not 0 < self.threshold < math.inf
        ):
            return "its measure of novelty has impossible values"
        return ""


def _of_length_one(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """The vectors with length one: their lengths say more of contrast than of content."""
    return to_length_one(features.astype(np.float32))
