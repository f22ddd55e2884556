"""A fitted classifier, and the metadata of its file -> whether the two can be trusted to fit."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from ..features.provenance import Provenance
from .novelty import Novelty

_SAME: Final = 1e-3
"""Difference of probabilities that another machine's arithmetic may make. It can also turn a tied
vote between the machines of `svm-rbf`, so that half of the images may differ more."""

_AT_ONCE: Final = 4096
"""Rows predicted at once: a kernel has a column for every support vector."""


def probabilities(pipeline: Any, matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class probabilities of any number of rows, (N, K) float64; rows sum to one.

    scikit-learn predicts float32 vectors in float32, whose rows are off one by more than its own
    scores tolerate, and refuses zero rows.
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


_TYPES: Final = {
    "name": str,
    "training_digest": str,
    "environment": dict,
    "parameters": dict,
    "training_counts": dict,
    "scores": dict,
    "novelty": dict,
    "folds": int,
    "seed": int,
    "seconds": float,
    "canary": np.ndarray,
    "training_images": np.ndarray,
}


def fault(pipeline: Any, metadata: dict[str, Any]) -> str:
    """Why a head file cannot be trusted; empty if it can."""
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
    fault = Novelty(**metadata["novelty"]).fault(provenance.dimension)
    if fault:
        return fault
    apart = np.abs(given - metadata["canary_probabilities"]).max(axis=1)
    if not np.median(apart) <= _SAME:
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

    libsvm trusts its indices, and would read elsewhere in memory; scikit-learn does not check them
    for kernels that are computed outside (CVE-2020-28975).
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
