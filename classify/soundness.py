"""A fitted classifier, and the metadata of its file -> whether the two can be trusted to fit."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..features.provenance import IMAGES, checked
from ..features.provenance.augmentation import Augmentation
from .heads import makeup
from .heads import metadata as rules
from .heads.machines import machines, require_sound_machine
from .novelty import Novelty
from .scores.seen import Seen
from .solver.rows import Matrix, passes

_TOLERANCE: Final = 1e-3
"""Difference of probabilities that another machine's arithmetic may make. It can also turn a tied
vote between the machines of `svm-rbf`, so that half of the images may differ more."""

_TESTS: Final = 8
"""As many as there are test images."""

_ROWS_AT_ONCE: Final = 4096
_BYTES_AT_ONCE: Final = 128 << 20
"""Of what rows that are predicted at once become on their way; a kernel has a column for every
support vector, of which a file has as many as its author likes."""


def probabilities(pipeline: Any, matrix: Matrix) -> NDArray[np.float64]:
    """Class probabilities of any number of rows, (N, K) float64; rows sum to one.

    scikit-learn predicts float32 vectors in float32, whose rows are off one by more than its own
    scores tolerate, and refuses zero rows.
    """
    found, start = np.empty((len(matrix), len(pipeline.classes_))), 0
    for part in in_parts(pipeline, matrix):
        found[start : start + len(part)] = part
        start += len(part)
    return found


def in_parts(pipeline: Any, matrix: Matrix) -> Iterator[NDArray[np.float64]]:
    """The same, some rows at a time."""
    fitting = _BYTES_AT_ONCE // (makeup.columns(pipeline) * np.dtype(np.float64).itemsize)
    at_once = min(_ROWS_AT_ONCE, max(1, fitting))
    for rows in passes(matrix, "predictions", at_once) if len(matrix) else ():
        rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
        raw = np.asarray(pipeline.predict_proba(rows), np.float64)
        yield (raw / raw.sum(axis=1, keepdims=True)).reshape(len(rows), len(pipeline.classes_))


def tests(canary: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors, always the same, that a classifier is tested by: those of the test images, (C, D).

    Where no images were embedded, there are others, drawn at random.
    """
    if len(canary):
        return canary
    dimension = canary.shape[1]
    drawn = np.random.default_rng(_TESTS).standard_normal((_TESTS, dimension))
    # Half of them of length one or so, as embeddings of texts are.
    drawn[::2] /= np.sqrt(dimension)
    return drawn.astype(np.float32)


def tested(pipeline: Any, canary: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a classifier says of the test vectors, (C, K)."""
    return probabilities(pipeline, tests(canary))


def fault(pipeline: Any, metadata: dict[str, Any]) -> str:
    """Why a head file cannot be trusted; empty if it can."""
    wrong = rules.fault(metadata)
    if wrong:
        return f"its metadata{wrong}"
    provenance = checked(metadata["provenance"])
    Augmentation.checked(metadata["augmentation"])
    if provenance.fingerprint != metadata["fingerprint"]:
        return "fingerprint and provenance contradict each other"
    names, canary = metadata["label_names"], metadata["canary"]
    if not pipeline.classes_.tolist() == names == sorted(set(names)):
        return "its labels and those of its classifier contradict each other"
    if not len(canary) and provenance.KIND == IMAGES:
        return "it has no test images"
    if {pipeline.n_features_in_, *canary.shape[1:]} != {provenance.dimension}:
        return "the numbers of features of metadata and classifier contradict each other"
    wrong = (
        Novelty(**metadata["novelty"]).fault(provenance.dimension, len(names))
        or Seen(**metadata["seen"]).fault(provenance.dimension)
        or _contradiction(metadata)
    )
    if wrong:
        return wrong
    for machine in machines(pipeline):
        require_sound_machine(machine)
    # The test vectors pass through every coefficient that there is.
    given = tested(pipeline, canary)
    if given.shape != (len(tests(canary)), len(names)) or not np.isfinite(given).all():
        return "its classifier gives no finite probabilities"
    apart = np.abs(given - metadata["canary_probabilities"]).max(axis=1)
    if not np.median(apart) <= _TOLERANCE:
        return (
            f"its classifier gives the test images other probabilities than when it was saved, by "
            f"up to {apart.max():.2g}; or another scikit-learn does"
        )
    return ""


def _contradiction(metadata: dict[str, Any]) -> str:
    """Lengths and places that do not fit the classes, or the rows that were scored."""
    classes, scores = len(metadata["label_names"]), metadata["scores"]
    confusion = scores["confusion"]
    scored = scores["classes"]
    if scored[:classes] != metadata["label_names"] or len(set(scored)) < len(scored):
        return "its scores are of other classes than those that it knows"
    shapes = {values.shape for values in scores["per_class"].values()}
    if metadata["training_counts"].shape != (classes,) or shapes != {(len(scored),)}:
        return "it has counts or scores of more or fewer classes than it knows"
    if confusion.shape[1] != 3 or (confusion[:, :2] >= len(scored)).any():
        return "it confuses classes that it does not know"
    if confusion[:, 2].sum() != scores["rows"]:
        return "its confusions are of more or fewer rows than were scored"
    if metadata["canary_probabilities"].shape != (len(tests(metadata["canary"])), classes):
        return "the probabilities of its test images are of other classes"
    return ""
