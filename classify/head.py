"""A fitted head: vectors in, labels and confidences out, and a refusal when they do not fit."""

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import sklearn
from numpy.typing import NDArray

from ..features.errors import HeadError, first_line
from ..features.origin import HasOrigin, Origin
from ..features.provenance import Provenance
from ..features.store import FeatureStore
from . import persistence, soundness
from .novelty import Novelty
from .scores.evaluation import Scores, most_probable

THIS_HEAD: Final = "this head"
REMEDY: Final = (
    "Extract the images again with the settings and library versions of the head (`headstart info "
    "HEAD`), or train a head on this file."
)

_MOST_NAMES: Final = 5  # in one line


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """The predictions of a head for N rows.

    Attributes
    ----------
    label_names : list of K str
        Classes, sorted.
    probabilities : ndarray of float64, shape (N, K)
        One column per class; rows sum to one.
    novelty : ndarray of float64, shape (N,)
        How unlike all training images each is; above 1 it is unfamiliar.
    """

    label_names: list[str]
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]

    def __repr__(self) -> str:
        counts = collections.Counter(self.labels.tolist()).most_common()
        shown = _listed([f"{count:,} {name}" for name, count in counts]) or "none"
        unfamiliar = int(self.unfamiliar.sum())
        return f"Prediction({len(self.novelty):,} images: {shown}; {unfamiliar:,} unfamiliar)"

    @property
    def labels(self) -> NDArray[np.str_]:
        """(N,) names: the most probable class of each row."""
        return most_probable(self.probabilities, self.label_names)

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(N,): the probability of that class."""
        confidences: NDArray[np.float64] = self.probabilities.max(axis=1)
        return confidences

    @property
    def unfamiliar(self) -> NDArray[np.bool_]:
        """(N,): whether an image is so unlike the training images that its label means little."""
        return self.novelty > 1

    @property
    def ranking(self) -> NDArray[np.intp]:
        """(N, K) indices into `label_names`, most probable first; ties go by name."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Head(HasOrigin):
    """A trained classifier and everything needed to use it rightly.

    Attributes
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted, plain scikit-learn; its ``classes_`` are names.
    name : str
        The kind of head, as given to ``--head``, or the class of a classifier that was handed in.
    origin : Origin
        Of the features that it was trained on: only features that fit it can be predicted.
    training_digest : str
        ``content_digest`` of the training file.
    training_images : ndarray of uint64
        Which images it was trained on (`examples.contents`, sorted), so that none is scored.
    training_counts : dict of str to int
        Training images of each class.
    parameters : dict of str to float
        What the search over regularisation chose.
    scores : Scores
        On images that it was not trained on.
    folds, seed : int
        Of the cross-validation.
    seconds : float
        Wall time of training, scoring included.
    novelty : Novelty
        Measures how familiar an image is.
    class_weight : str or None
        ``"balanced"`` if all classes weighed the same.
    scikit_learn : str
        Version that it was trained with.
    """

    pipeline: Any
    name: str
    origin: Origin
    training_digest: str
    training_images: NDArray[np.uint64]
    training_counts: dict[str, int]
    parameters: dict[str, float]
    scores: Scores
    folds: int
    seed: int
    seconds: float
    novelty: Novelty
    class_weight: str | None = None
    scikit_learn: str = sklearn.__version__

    def __repr__(self) -> str:
        names, made = self.label_names, self.provenance
        return (
            f"Head({self.name}, {len(names)} classes: {_listed(names)}; {made.backbone} "
            f"{made.size} px; {self.scores.summary}; {sum(self.training_counts.values()):,} images)"
        )

    @property
    def label_names(self) -> list[str]:
        """The classes, sorted."""
        names: list[str] = self.pipeline.classes_.tolist()
        return names

    @property
    def majority(self) -> str:
        """The class with the most training images."""
        return max(self.training_counts, key=lambda name: self.training_counts[name])

    def predict(self, features: FeatureStore | NDArray[np.floating]) -> Prediction:
        """Predict the class of each of N rows; the prediction has them in the same order.

        Parameters
        ----------
        features : FeatureStore or ndarray of shape (N, D)
            A store is checked for fit; of a bare matrix only the shape can be.

        Raises
        ------
        ProvenanceMismatch
            If a store does not fit.
        HeadError
            If a matrix has another number of columns or values that are not finite, or if this is
            given images or paths, which `headstart.apply.predict` takes.
        """
        if isinstance(features, FeatureStore):
            self.origin.require(features.origin)
            features = features.features
        matrix = np.asarray(features)
        if matrix.dtype.kind in "OSU" or matrix.ndim > 2:
            raise HeadError(
                "a head predicts feature files and vectors; for images and their paths use "
                "`headstart.apply.predict(head, source)`"
            )
        if matrix.ndim != 2 or matrix.shape[1] != self.provenance.dimension:
            raise HeadError(
                f"this head takes vectors of {self.provenance.dimension} numbers; received an "
                f"array of shape {matrix.shape}"
            )
        if not np.isfinite(matrix).all():
            raise HeadError("the vectors hold NaN or infinite values; extract the images again")
        return Prediction(
            self.label_names,
            soundness.probabilities(self.pipeline, matrix),
            self.novelty.scores(matrix),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save ``{"pipeline": <plain scikit-learn>, "metadata": {...}}``.

        Parameters
        ----------
        path : str or path-like
            Its suffix says how: ``.joblib`` is a pickle, ``.skops`` loads without running code.

        Raises
        ------
        HeadError
            If the name ends in neither.
        OSError
            If it cannot be written; a file that was there before is untouched.
        """
        metadata = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        pipeline, origin = metadata.pop("pipeline"), metadata.pop("origin")
        metadata |= {
            "label_names": self.label_names,
            "fingerprint": origin.provenance.fingerprint,
            "provenance": dataclasses.asdict(origin.provenance),
            "environment": dict(origin.environment),
            "canary": origin.canary,
            "novelty": dataclasses.asdict(self.novelty),
            # As an array: skops writes every number of a list as a node of its own.
            "scores": self.scores.to_dict() | {"confusion": np.array(self.scores.confusion)},
            "canary_probabilities": soundness.probabilities(pipeline, origin.canary),
        }
        persistence.write(Path(path), pipeline, metadata)


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
        If it is missing, no head, of another version, damaged, or not trusted.
    """
    pipeline, metadata = persistence.read(Path(path), trust=trust)
    try:
        fault = soundness.fault(pipeline, metadata)
        if not fault:
            return _from_metadata(pipeline, metadata)
    except Exception as error:
        # Metadata of another shape than ours, and classifiers that were tampered with, raise
        # nearly any exception there is.
        lacks = f"its metadata lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise HeadError(f"{path}: damaged: {lacks}") from error
    raise HeadError(f"{path}: damaged: {fault}")


def _from_metadata(pipeline: Any, metadata: dict[str, Any]) -> Head:
    names = [field.name for field in dataclasses.fields(Head)]
    values = {name: metadata[name] for name in names if name not in ("pipeline", "origin")}
    values["origin"] = Origin(
        Provenance(**metadata["provenance"]),
        metadata["environment"],
        metadata["canary"],
        THIS_HEAD,
        REMEDY,
    )
    values["novelty"] = Novelty(**metadata["novelty"])
    scores = metadata["scores"]
    confusion = tuple(map(tuple, np.asarray(scores["confusion"]).tolist()))
    values["scores"] = Scores(**scores | {"confusion": confusion})
    return Head(pipeline=pipeline, **values)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
