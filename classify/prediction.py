"""A fitted head: vectors in, labels and confidences out, and a refusal when they do not fit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn

from ..features.canary import require_agreement
from ..features.errors import HeadError
from ..features.provenance import Provenance
from ..features.store import FeatureStore
from . import persistence
from .evaluation import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a head says of N rows.

    Attributes
    ----------
    label_names : list of K str
        Classes, sorted.
    probabilities : ndarray of float64, shape (N, K)
        One column a class; rows sum to one.
    """

    label_names: list[str]
    probabilities: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.str_]:
        """(N,) names: the most probable class of each row."""
        labels: NDArray[np.str_] = np.asarray(self.label_names)[self.ranking[:, 0]]
        return labels

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(N,): the probability of that class."""
        confidences: NDArray[np.float64] = self.probabilities.max(axis=1)
        return confidences

    @property
    def ranking(self) -> NDArray[np.intp]:
        """(N, K) indices into `label_names`, most probable first; ties go by name."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """A trained classifier and everything needed to use it rightly.

    Attributes
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted, plain scikit-learn; its ``classes_`` are names.
    name : str
        The kind of head: ``"logistic"`` or ``"svm"``.
    provenance : Provenance
        Of the features that it was trained on, and the only one that it takes.
    environment : dict
        Machine, libraries and origin of the weights behind those features.
    canary : ndarray of shape (C, D)
        Vectors of the test images, as the training features had them.
    training_digest : str
        ``content_digest`` of the training file.
    training_images : ndarray of uint64
        Which images it was trained on (`splits.contents`, sorted), so that none is scored.
    training_counts : dict of str to int
        Training images of each class.
    parameters : dict of str to float
        What the search over regularisation chose.
    scores : Scores
        On images that it was not trained on.
    folds, seed : int
        As asked for.
    seconds : float
        Wall time of training, scoring included.
    """

    pipeline: Any
    name: str
    provenance: Provenance
    environment: dict[str, Any]
    canary: NDArray[np.floating]
    training_digest: str
    training_images: NDArray[np.uint64]
    training_counts: dict[str, int]
    parameters: dict[str, float]
    scores: Scores
    folds: int
    seed: int
    seconds: float
    scikit_learn: str = sklearn.__version__

    @property
    def label_names(self) -> list[str]:
        """The classes, sorted."""
        names: list[str] = self.pipeline.classes_.tolist()
        return names

    @property
    def majority(self) -> str:
        """The class with the most training images."""
        return max(self.training_counts, key=lambda name: self.training_counts[name])

    def require_fit(self, store: FeatureStore) -> None:
        """Refuse features that were made differently from those this head was trained on.

        Raises
        ------
        ProvenanceMismatch
            Naming the fields that differ, or by how much the canaries disagree.
        """
        self.provenance.require_same(
            store.provenance,
            this="this head",
            that=str(store.path),
            remedy="Extract the images again with the head's settings (`headstart info HEAD`), "
            "or train a head on this file.",
        )
        require_agreement(
            store.canary,
            self.canary,
            self.provenance.precision,
            this=f"the machine that made {store.path}",
            that="the one that made this head's features",
            remedy="Train a head on this file, or use the library versions that `headstart info` "
            "shows for the head.",
        )

    def predict(self, features: FeatureStore | NDArray[np.floating]) -> Prediction:
        """Predict the class of each row.

        Parameters
        ----------
        features : FeatureStore or ndarray of shape (N, D)
            A store is checked for fit; of a bare matrix only the shape can be.

        Returns
        -------
        Prediction
            N rows, in the same order.

        Raises
        ------
        ProvenanceMismatch
            If a store does not fit.
        HeadError
            If a matrix has another number of columns, or values that are not finite.
        """
        if isinstance(features, FeatureStore):
            self.require_fit(features)
            features = features.features
        matrix = np.asarray(features)
        if matrix.ndim != 2 or matrix.shape[1] != self.provenance.dimension:
            raise HeadError(
                f"this head takes vectors of {self.provenance.dimension} numbers; received an "
                f"array of shape {matrix.shape}"
            )
        if not np.isfinite(matrix).all():
            raise HeadError("the vectors hold NaN or infinite values; extract the images again")
        return Prediction(self.label_names, probabilities(self.pipeline, matrix))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as ``.joblib``: ``{"pipeline": <plain scikit-learn>, "metadata": {...}}``.

        Raises
        ------
        HeadError
            If the name does not end in ``.joblib``.
        OSError
            If it cannot be written; what stood there is untouched.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        metadata = values | {
            "label_names": self.label_names,
            "fingerprint": self.provenance.fingerprint,
            "provenance": dataclasses.asdict(self.provenance),
            "scores": self.scores.to_dict(),
        }
        persistence.write(Path(path), metadata.pop("pipeline"), metadata)


def probabilities(pipeline: Any, matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class probabilities of any number of rows, (N, K) float64; rows sum to one.

    scikit-learn answers float32 vectors in float32, whose rows are off one by more than its own
    scores tolerate, and refuses to answer zero rows.
    """
    if not len(matrix):
        return np.empty((0, len(pipeline.classes_)))
    if matrix.dtype == np.float16:
        matrix = matrix.astype(np.float32)
    raw = np.asarray(pipeline.predict_proba(matrix), np.float64)
    normalised: NDArray[np.float64] = raw / raw.sum(axis=1, keepdims=True)
    return normalised


def load_head(path: str | os.PathLike[str], *, trust: bool = False) -> Head:
    """Load a head that `Head.save` wrote.

    Parameters
    ----------
    path : str or path-like
        A ``.joblib`` file.
    trust : bool, default=False
        Load it although this machine did not write it, or another scikit-learn did. The file is a
        pickle: loading it runs whatever code its author put in.

    Raises
    ------
    HeadError
        If it is missing, no head, damaged, or not trusted.
    """
    pipeline, metadata = persistence.read(Path(path), trust=trust)
    try:
        values = {
            field.name: metadata[field.name]
            for field in dataclasses.fields(Head)
            if field.name != "pipeline"
        }
        values["provenance"] = Provenance(**metadata["provenance"])
        values["scores"] = Scores(**metadata["scores"])
        head = Head(pipeline=pipeline, **values)
        whole = (
            head.provenance.fingerprint == metadata["fingerprint"]
            and head.label_names == metadata["label_names"]
            and pipeline.n_features_in_ == head.provenance.dimension
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise HeadError(f"{path}: damaged: its metadata lacks {error}") from error
    if not whole:
        raise HeadError(f"{path}: damaged: metadata and classifier contradict each other")
    return head
