"""A fitted head: vectors in, labels and confidences out, and a refusal when they do not fit."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import sklearn
from numpy.typing import NDArray

from ..features.durable.table import in_html
from ..features.errors import HeadError, WrongUsage, count, listed
from ..features.origin import HasOrigin, Origin
from ..features.provenance import checked
from ..features.provenance.augmentation import Augmentation
from ..features.store import FeatureStore
from . import persistence, soundness
from .examples.augmented import Augmented, require_fitting_views, require_views
from .examples.stored import unusable_rows, vectors
from .heads.prediction import Prediction as Prediction
from .heads.prediction import first_names, predicted
from .novelty import Novelty
from .scores.evaluation import Scores
from .scores.intervals import in_percent
from .scores.seen import Seen
from .solver.rows import Matrix, Stored, passes

THIS_HEAD: Final = "this head"


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
    seen : Seen
        Tells near-copies of the training images.
    class_weight : str or None
        ``"balanced"`` if all classes weighed the same.
    min_images : int
        Classes with fewer distinct training images were left out.
    tta : bool
        Whether its scores are of predictions by the mean over the views of an image.
    scikit_learn : str
        Version that it was trained with.
    unseen : ndarray of float64 or None
        The probabilities that its scores are of, for whoever looks at the images behind them
        (`review`). A file does not keep them.
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
    seen: Seen
    class_weight: str | None = None
    min_images: int = 1
    tta: bool = False
    scikit_learn: str = sklearn.__version__
    unseen: NDArray[np.float64] | None = dataclasses.field(default=None, compare=False)

    def __repr__(self) -> str:
        names, made = self.label_names, self.provenance
        return (
            f"Head({self.name}, {len(names)} classes: {first_names(names)}; "
            f"{made.maker.replace(' at ', ' ')}; {self.scores.summary}; "
            f"{sum(self.training_counts.values()):,} {made.noun}s)"
        )

    def _repr_html_(self) -> str:
        made, scores = self.provenance, self.scores
        rows = [
            (count(len(self.label_names), "class"), listed(self.label_names)),
            ("accuracy", f"{in_percent(scores.accuracy, scores.interval)} {scores.how}"),
            ("always the commonest class", f"{scores.baseline:.1%}"),
            ("features", made.maker),
            ("trained on", count(sum(self.training_counts.values()), made.noun)),
        ]
        return in_html(f"{self.name} head", rows)

    @property
    def label_names(self) -> list[str]:
        """The classes, sorted."""
        names: list[str] = self.pipeline.classes_.tolist()
        return names

    @property
    def majority(self) -> str:
        """The class with the most training images."""
        return max(self.training_counts, key=lambda name: self.training_counts[name])

    def predict(
        self, features: FeatureStore | NDArray[np.floating], *, tta: bool = False
    ) -> Prediction:
        """Predict the class of each of N images; the prediction has them in the same order.

        Parameters
        ----------
        features : FeatureStore or ndarray of shape (N, D)
            A store is checked for fit; of a bare matrix only the shape can be. Of a store with
            views those rows are predicted that are the images themselves.
        tta : bool, default=False
            Predict an image by the mean over its views in the store (test-time augmentation).

        Raises
        ------
        ProvenanceMismatch
            If a store does not fit.
        HeadError
            If a matrix has another number of columns or values that are not finite, or if this is
            given images or paths, which `headstart.apply.predict` takes.
        WrongUsage
            If `tta` is asked for, and there are no views.
        """
        return self._prediction(*self._vectors(features, tta=tta))

    def predict_in_parts(self, store: FeatureStore, *, tta: bool = False) -> Iterator[Prediction]:
        """As `predict`, part by part where the vectors do not fit into memory."""
        matrix, views = self._vectors(store, tta=tta)
        if not isinstance(matrix, Stored):
            yield self._prediction(matrix, views)
            return
        start = 0
        for block in passes(matrix, "predictions"):
            rows = np.arange(start, start + len(block))
            yield self._prediction(block, views and views.among(rows, len(matrix)))
            start += len(block)

    def _vectors(
        self, features: FeatureStore | NDArray[np.floating], *, tta: bool
    ) -> tuple[Matrix, Augmented | None]:
        """What is to be predicted, and its further views if they count."""
        views = None
        matrix: Matrix
        if isinstance(features, FeatureStore):
            self.origin.require(features.origin)
            itself = features.views == 0
            if tta:
                views = Augmented.of(features, itself)
                require_fitting_views(features, self.origin.augmentation)
                require_views(features, views, features.images)
            matrix = vectors(features, itself)
        elif tta:
            raise WrongUsage("tta: a bare matrix does not tell which rows are views of one image")
        else:
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
        if unusable_rows(matrix).any() or (views and unusable_rows(views.features).any()):
            raise HeadError(
                "the vectors hold NaN, infinite or huge values; extract the images again"
            )
        return matrix, views

    def _prediction(self, matrix: Matrix, views: Augmented | None) -> Prediction:
        found = predicted(self.pipeline, matrix, views)
        counts = np.array([self.training_counts[name] for name in self.label_names])
        if self.class_weight:
            counts = np.ones_like(counts)
        return Prediction(
            self.label_names,
            found,
            self.novelty.scores(matrix, found, counts),
            self.seen.copies(matrix),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save ``{"pipeline": <plain scikit-learn>, "metadata": {...}}``.

        Parameters
        ----------
        path : str or path-like
            Its suffix says how: ``.joblib`` is a pickle, ``.skops`` loads without running code.

        Raises
        ------
        HeadstartError
            If the name ends in neither, or the file cannot be written; one that was there before is
            untouched.

        Notes
        -----
        Where the list of the heads that this machine wrote cannot be kept, a warning is logged:
        loading the file will need ``trust=True``.
        """
        metadata = {name: getattr(self, name) for name in _kept()}
        pipeline, origin = self.pipeline, self.origin
        metadata |= {
            "label_names": self.label_names,
            "fingerprint": origin.provenance.fingerprint,
            "provenance": origin.provenance.declared,
            "environment": dict(origin.environment),
            "canary": origin.canary,
            "augmentation": dataclasses.asdict(origin.augmentation),
            "novelty": dataclasses.asdict(self.novelty),
            "seen": dataclasses.asdict(self.seen),
            # As arrays: skops writes every number outside of one as an object of its own.
            "training_counts": np.array([*self.training_counts.values()], np.int64),
            "scores": self.scores.to_arrays(),
            "canary_probabilities": soundness.tested(pipeline, origin.canary),
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
        for trust only if it holds other types than headstart's own heads do; when it is trusted,
        all of them are loaded. What is in it is checked either way.

    Raises
    ------
    HeadError
        If it is missing, no head, of another version, damaged, or not trusted.
    """
    pipeline, metadata = persistence.read(Path(path), trust=trust)
    try:
        fault = soundness.fault(pipeline, metadata)
    except Exception as error:
        # Classifiers that were tampered with raise nearly any exception there is.
        raise persistence.damaged(path, error) from error
    if fault:
        raise persistence.damaged(path, fault)
    return _from_metadata(pipeline, metadata)


def _kept() -> list[str]:
    """The fields that a file has under their own names."""
    names = [field.name for field in dataclasses.fields(Head)]
    return [name for name in names if name not in ("pipeline", "origin", "unseen")]


def _from_metadata(pipeline: Any, metadata: dict[str, Any]) -> Head:
    values = {name: metadata[name] for name in _kept()}
    names = metadata["label_names"]
    values["training_counts"] = dict(zip(names, metadata["training_counts"].tolist(), strict=True))
    provenance = checked(metadata["provenance"])
    values["origin"] = Origin(
        provenance,
        metadata["environment"],
        metadata["canary"],
        THIS_HEAD,
        provenance.remedy,
        Augmentation.checked(metadata["augmentation"]),
    )
    values["novelty"] = Novelty(**metadata["novelty"])
    values["seen"] = Seen(**metadata["seen"])
    values["scores"] = Scores.from_arrays(metadata["scores"])
    return Head(pipeline=pipeline, **values)
