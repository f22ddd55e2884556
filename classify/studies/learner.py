"""Labels given so far -> what a head that learned from them says of every image, in no time.

It learns from few numbers of each image, so that it can be fitted anew after every label.
"""

import dataclasses
import time
import warnings
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ...features.errors import TrainingError
from ...features.rules import unusable
from ...features.store import FeatureStore
from ..heads.scaling import shrunken_scaler
from ..scores.intervals import accuracy_interval
from ..scores.space import drawn, principal_components, to_length_one

COMPONENTS: Final = 128
_SAMPLE: Final = 4096
"""Images that scales and components are found from."""
_BLOCK: Final = 1024
"""Images whose vectors are in memory at a time: 8 MB of 2,048 numbers each."""

STRENGTH: Final = 0.1
"""Inverse regularisation strength. Of 600 cats and dogs 10 to 160 labels are learned from about as
well with 0.1 as with 1; with 0.01, after 10 labels 85% are right instead of 89%."""
_MOST_CELLS: Final = 1 << 19
"""Labelled images x classes that are learned from; of more, as many as that are drawn."""
_STEPS: Final = 100  # of the optimiser; what is left after them no order of a queue shows

FOLDS: Final = 5
_FEWEST: Final = 3
"""Labels of a class whose images can be judged by a head without them."""
_EXEMPLARS: Final = 2048
"""Labelled images that others are compared with to find those that are unlike all of them."""

UNLABELLED: Final = -1


@dataclasses.dataclass(frozen=True)
class Beliefs:
    """What a head says of N images."""

    predicted: NDArray[np.int32]
    """(N,) the most probable class."""
    confidence: NDArray[np.float32]
    """(N,) its probability."""
    margin: NDArray[np.float32]
    """(N,) by how much that is above the probability of the next class: 0 where it is a guess."""
    seconds: float
    """What it took to fit the head and to ask it."""


@dataclasses.dataclass(frozen=True)
class Doubts:
    """What heads that have not seen them say of labelled images."""

    given: NDArray[np.float32]
    """(N,) the probability of the label that an image has; NaN where no head could be asked."""
    predicted: NDArray[np.int32]
    """(N,) the most probable class; -1 where no head could be asked."""

    def suspects(self, codes: NDArray[np.int32]) -> NDArray[np.intp]:
        """Images for which another class is more probable than theirs, the most doubtful first."""
        rows = np.flatnonzero((self.predicted >= 0) & (self.predicted != codes) & (codes >= 0))
        return rows[np.argsort(self.given[rows], kind="stable")]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """How often images that were drawn at random were predicted right before they had a label."""

    right: int
    labels: int
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        """Share that was right."""
        return self.right / self.labels

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> "Estimate | None":
        """That of (n,) predictions; None of none."""
        if not len(right):
            return None
        return cls(int(right.sum()), len(right), accuracy_interval(right, np.arange(len(right))))


class Learner:
    """Learns from the labels of some images what the others may be.

    Parameters
    ----------
    vectors : ndarray of float32, shape (N, k)
        Images by their principal components; `Learner.of` makes them of a feature file.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self._directions = to_length_one(vectors.copy())
        self._classifier: LogisticRegression | None = None
        """As it was fitted last: the next fit starts where that ended."""

    @classmethod
    def of(cls, store: FeatureStore, rows: NDArray[np.intp]) -> "Learner":
        """A learner of some rows of a feature file, increasing.

        Raises
        ------
        TrainingError
            If a vector is not finite.
        """
        sampled = drawn(len(rows), _SAMPLE)
        parts = []
        for start, block in _blocks(store, rows):
            bad = unusable(block)
            if bad.any():
                path = store.paths[int(rows[start + int(bad.argmax())])]
                raise TrainingError(
                    f"{store.name}: the vector of {path} has NaN or infinite values, or far too "
                    f"large ones; extract the images again with --fresh, in f32 if it was bf16"
                )
            inside = sampled[(sampled >= start) & (sampled < start + len(block))]
            parts.append(block[inside - start].astype(np.float32))
        sample = np.concatenate(parts)
        del parts
        scaler = shrunken_scaler(sample)
        scale = (1 / scaler.scale_).astype(np.float32)
        mean = scaler.mean_.astype(np.float32)
        count = min(COMPONENTS, len(sample) - 1, sample.shape[1])
        if count < 1 or not np.ptp(sample, axis=0).any():
            return cls(np.zeros((len(rows), 1), np.float32))
        sample -= mean
        sample *= scale
        axes = principal_components(sample, count, seed=0, copy=False).components_
        del sample
        turned = np.ascontiguousarray(axes.T * scale[:, None], np.float32)
        vectors = np.empty((len(rows), turned.shape[1]), np.float32)
        for start, block in _blocks(store, rows):
            vectors[start : start + len(block)] = (block.astype(np.float32) - mean) @ turned
        return cls(vectors)

    def learn(self, codes: NDArray[np.int32]) -> Beliefs | None:
        """Fit a head to the labels and ask it of all images; None if there are not two classes.

        Parameters
        ----------
        codes : ndarray of int32, shape (N,)
            Classes, as numbers; -1 for images without a label.
        """
        started = time.perf_counter()
        labelled = np.flatnonzero(codes >= 0)
        classifier = self._fitted(labelled, codes, self._classifier)
        if classifier is None:
            return None
        self._classifier = classifier
        number = len(codes)
        predicted = np.empty(number, np.int32)
        confidence, margin = np.empty((2, number), np.float32)
        step = max(1, _MOST_CELLS // len(classifier.classes_))
        for start in range(0, number, step):
            part = slice(start, start + step)
            probabilities = classifier.predict_proba(self.vectors[part])
            predicted[part] = classifier.classes_[probabilities.argmax(axis=1)]
            probabilities.partition(-2, axis=1)
            confidence[part] = probabilities[:, -1]
            margin[part] = probabilities[:, -1] - probabilities[:, -2]
        return Beliefs(predicted, confidence, margin, time.perf_counter() - started)

    def doubts(self, codes: NDArray[np.int32]) -> Doubts:
        """Judge labelled images by heads without them: five, each without a fifth of them."""
        found = Doubts(
            np.full(len(codes), np.nan, np.float32), np.full(len(codes), UNLABELLED, np.int32)
        )
        labelled = np.flatnonzero(codes >= 0)
        counts = np.bincount(codes[labelled]) if len(labelled) else np.zeros(0, np.intp)
        judged = labelled[counts[codes[labelled]] >= _FEWEST]
        if len(np.unique(codes[judged])) < 2:
            return found
        most = int(np.bincount(codes[judged]).max())
        folds = StratifiedKFold(min(FOLDS, most), shuffle=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer labels than folds
            cuts = list(folds.split(judged, codes[judged]))
        for _, fold in cuts:
            held_out = judged[fold]
            classifier = self._fitted(np.setdiff1d(labelled, held_out), codes)
            if classifier is None:
                continue
            probabilities = classifier.predict_proba(self.vectors[held_out])
            columns = np.searchsorted(classifier.classes_, codes[held_out])
            columns = np.minimum(columns, len(classifier.classes_) - 1)
            known = classifier.classes_[columns] == codes[held_out]
            own = probabilities[np.arange(len(held_out)), columns]
            found.given[held_out] = np.where(known, own, 0)
            found.predicted[held_out] = classifier.classes_[probabilities.argmax(axis=1)]
        return found

    def strangeness(self, labelled: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(N,) how unlike all labelled images each image is: 1 - the cosine with the nearest.

        Where none is labelled, how unlike the mean of all.
        """
        exemplars = np.flatnonzero(labelled)
        if not len(exemplars):
            return np.asarray(np.linalg.norm(self.vectors, axis=1), np.float32)
        exemplars = exemplars[drawn(len(exemplars), _EXEMPLARS)]
        nearest = np.empty(len(labelled), np.float32)
        for start in range(0, len(labelled), _BLOCK):
            part = np.arange(start, min(start + _BLOCK, len(labelled)))
            cosines = self._directions[part] @ self._directions[exemplars].T
            cosines[part[:, None] == exemplars] = -1  # itself
            nearest[part] = cosines.max(axis=1)
        return 1 - nearest

    def _fitted(
        self,
        labelled: NDArray[np.intp],
        codes: NDArray[np.int32],
        before: LogisticRegression | None = None,
    ) -> LogisticRegression | None:
        """A classifier of some images, from where another one ended if it has the same classes."""
        classes = np.unique(codes[labelled])
        if len(classes) < 2:
            return None
        most = max(_MOST_CELLS // len(classes), 2 * len(classes))
        if len(labelled) > most:
            _, first = np.unique(codes[labelled], return_index=True)
            chosen = np.union1d(first, drawn(len(labelled), most))  # no class is lost
            labelled = labelled[chosen]
        classifier = LogisticRegression(C=STRENGTH, max_iter=_STEPS, tol=1e-3, warm_start=True)
        if before is not None and np.array_equal(before.classes_, classes):
            classifier.coef_, classifier.intercept_ = before.coef_, before.intercept_
            classifier.classes_ = classes
        with warnings.catch_warnings(), threadpool_limits(1, "blas"):
            warnings.simplefilter("ignore")  # that it has not converged to the last digit
            return classifier.fit(self.vectors[labelled], codes[labelled])


def _blocks(
    store: FeatureStore, rows: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, store.read_features(rows[start : start + _BLOCK])
