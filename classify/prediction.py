"""A fitted head: vectors in, labels and confidences out, and a refusal when they do not fit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sklearn
from sklearn.svm import SVC

from ..features.canary import require_agreement
from ..features.errors import HeadError
from ..features.provenance import Provenance
from ..features.store import FeatureStore
from ..features.words import first_line
from . import persistence
from .evaluation import Scores, answers
from .novelty import Novelty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


_SAME_ANSWER: Final = 1e-3
"""Probabilities that are nearer than this may come from another machine's arithmetic. That can also
turn a tied vote between the machines of `svm-rbf`, so that half of the images may differ more."""

_AT_ONCE: Final = 4096
"""Rows predicted at once: a kernel has a column for every support vector."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a head says of N rows.

    Attributes
    ----------
    label_names : list of K str
        Classes, sorted.
    probabilities : ndarray of float64, shape (N, K)
        One column a class; rows sum to one.
    novelty : ndarray of float64, shape (N,), or None
        How unlike all training images each is; above 1 it is unfamiliar. None if the head was
        saved by a headstart that did not measure it.
    """

    label_names: list[str]
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64] | None = None

    @property
    def labels(self) -> NDArray[np.str_]:
        """(N,) names: the most probable class of each row."""
        return answers(self.probabilities, self.label_names)

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(N,): the probability of that class."""
        confidences: NDArray[np.float64] = self.probabilities.max(axis=1)
        return confidences

    @property
    def unfamiliar(self) -> NDArray[np.bool_] | None:
        """(N,): whether an image is so unlike the training images that its label means little."""
        return None if self.novelty is None else self.novelty > 1

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
        The kind of head, as given to ``--head``, or the class of a classifier of one's own.
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
        Of the cross-validation.
    class_weight : str or None
        ``"balanced"`` if all classes weighed the same.
    novelty : Novelty or None
        What is familiar; None in heads saved by a headstart that did not measure it.
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
    class_weight: str | None = None
    novelty: Novelty | None = None
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
        novelty = None if self.novelty is None else self.novelty.scores(matrix)
        return Prediction(self.label_names, probabilities(self.pipeline, matrix), novelty)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save ``{"pipeline": <plain scikit-learn>, "metadata": {...}}``.

        Parameters
        ----------
        path : str or path-like
            Its end says how: ``.joblib`` is a pickle, ``.skops`` loads without running code.

        Raises
        ------
        HeadError
            If the name ends in neither.
        OSError
            If it cannot be written; what stood there is untouched.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        metadata = values | {
            "label_names": self.label_names,
            "fingerprint": self.provenance.fingerprint,
            "provenance": dataclasses.asdict(self.provenance),
            "novelty": None if self.novelty is None else dataclasses.asdict(self.novelty),
            # As an array: skops writes every number of a list as a node of its own.
            "scores": self.scores.to_dict() | {"confusion": np.array(self.scores.confusion)},
            "canary_probabilities": probabilities(self.pipeline, self.canary),
        }
        persistence.write(Path(path), metadata.pop("pipeline"), metadata)


def probabilities(pipeline: Any, matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class probabilities of any number of rows, (N, K) float64; rows sum to one.

    scikit-learn answers float32 vectors in float32, whose rows are off one by more than its own
    scores tolerate, and refuses to answer zero rows.
    """
    if not len(matrix):
        return np.empty((0, len(pipeline.classes_)))
    parts = []
    for start in range(0, len(matrix), _AT_ONCE):
        rows = matrix[start : start + _AT_ONCE]
        if rows.dtype == np.float16:
            rows = rows.astype(np.float32)
        raw = np.asarray(pipeline.predict_proba(rows), np.float64)
        parts.append(raw / raw.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


def load_head(path: str | os.PathLike[str], *, trust: bool = False) -> Head:
    """Load a head that `Head.save` wrote.

    Parameters
    ----------
    path : str or path-like
        A ``.joblib`` or ``.skops`` file.
    trust : bool, default=False
        Load it although this machine did not write it, or another scikit-learn did. A ``.joblib``
        file is a pickle: loading it runs whatever code its author put in. A ``.skops`` file asks
        for trust only if it holds other types than headstart's own heads do.

    Raises
    ------
    HeadError
        If it is missing, no head, damaged, or not trusted.
    """
    pipeline, metadata = persistence.read(Path(path), trust=trust)
    try:
        fault = _fault(pipeline, metadata)
        if not fault:
            values = {
                field.name: metadata[field.name]
                for field in dataclasses.fields(Head)
                if field.name in metadata
            }
            values["provenance"] = Provenance(**metadata["provenance"])
            if metadata.get("novelty") is not None:
                values["novelty"] = Novelty(**metadata["novelty"])
            scores = metadata["scores"]
            confusion = np.asarray(scores.get("confusion", ())).tolist()
            values["scores"] = Scores(**scores | {"confusion": tuple(map(tuple, confusion))})
            return Head(pipeline=pipeline, **values)
    except Exception as error:
        # Metadata of another shape than ours, and classifiers that were tampered with, raise
        # nearly any exception there is.
        lacks = f"its metadata lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise HeadError(f"{path}: damaged: {lacks}") from error
    raise HeadError(f"{path}: damaged: {fault}")


_TYPES: Final = {
    "name": str,
    "training_digest": str,
    "environment": dict,
    "parameters": dict,
    "training_counts": dict,
    "scores": dict,
    "folds": int,
    "seed": int,
    "seconds": float,
    "canary": np.ndarray,
    "training_images": np.ndarray,
}


def _fault(pipeline: Any, metadata: dict[str, Any]) -> str:
    """What in a head file cannot be, if anything."""
    for name, kind in _TYPES.items():
        if not isinstance(metadata[name], kind):
            return f"its {name} is a {type(metadata[name]).__name__}"
    provenance = Provenance(**metadata["provenance"])
    if provenance.fingerprint != metadata["fingerprint"]:
        return "fingerprint and provenance contradict each other"
    names, canary = metadata["label_names"], metadata["canary"]
    if not pipeline.classes_.tolist() == names == list(metadata["training_counts"]):
        return "its labels and those of its classifier contradict each other"
    if {pipeline.n_features_in_, *canary.shape[1:]} != {provenance.dimension}:
        return "the numbers of features of metadata and classifier contradict each other"
    if not all(map(_sound_machine, _estimators(pipeline))):
        return "its support vectors contradict each other"
    # The built-in test images pass through every coefficient that there is.
    given = probabilities(pipeline, canary)
    if given.shape != (len(canary), len(names)) or not np.isfinite(given).all():
        return "its classifier gives no finite probabilities"
    if metadata.get("novelty") is not None:
        fault = Novelty(**metadata["novelty"]).fault(provenance.dimension)
        if fault:
            return fault
    if metadata["format_version"] == 1:
        return ""
    apart = np.abs(given - metadata["canary_probabilities"]).max(axis=1)
    if not np.median(apart) <= _SAME_ANSWER:
        return (
            f"its classifier gives the test images other probabilities than when it was saved, by "
            f"up to {apart.max():.2g}; or another scikit-learn does: train it again here"
        )
    return ""


def _estimators(pipeline: Any) -> Iterator[Any]:
    """The steps of a pipeline, and the classifiers inside calibrated ones."""
    for _, step in getattr(pipeline, "steps", []):
        yield step
        yield from (inner.estimator for inner in getattr(step, "calibrated_classifiers_", []))


def _sound_machine(estimator: Any) -> bool:
    """Whether a support vector machine refers to nothing that it does not hold.

    libsvm believes what it is given, and would read elsewhere in memory; for kernels that are
    computed outside scikit-learn does not check it (CVE-2020-28975).
    """
    if not isinstance(estimator, SVC):
        return True
    support = estimator.support_
    return (
        int(np.sum(estimator.n_support_)) == len(support) == estimator.dual_coef_.shape[1]
        and len(estimator.n_support_) == len(estimator.classes_)
        and estimator.dual_coef_.shape[0] == len(estimator.classes_) - 1
        and (estimator.kernel != "precomputed" or max(support) < estimator.shape_fit_[0])
        and min(support) >= 0
    )
