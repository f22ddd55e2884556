"""A fitted classifier, and the metadata of its file -> whether the two can be trusted to fit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..features.origin import environment_fault
from ..features.provenance import Provenance
from ..features.provenance.augmentation import Augmentation
from ..features.rules import MOST_CANARIES
from .heads import makeup
from .heads.machines import machines, require_sound_machine
from .novelty import Novelty
from .scores.evaluation import MISTAKES, PER_CLASS
from .scores.seen import Seen
from .solver.rows import Matrix, passes

_TOLERANCE: Final = 1e-3
"""Difference of probabilities that another machine's arithmetic may make. It can also turn a tied
vote between the machines of `svm-rbf`, so that half of the images may differ more."""

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


def fault(pipeline: Any, metadata: dict[str, Any]) -> str:
    """Why a head file cannot be trusted; empty if it can."""
    wrong = _METADATA(metadata)
    if wrong:
        return f"its metadata{wrong}"
    provenance = Provenance.checked(metadata["provenance"])
    Augmentation.checked(metadata["augmentation"])
    if provenance.fingerprint != metadata["fingerprint"]:
        return "fingerprint and provenance contradict each other"
    names, canary = metadata["label_names"], metadata["canary"]
    if not pipeline.classes_.tolist() == names == sorted(set(names)):
        return "its labels and those of its classifier contradict each other"
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
    # The built-in test images pass through every coefficient that there is.
    given = probabilities(pipeline, canary)
    if given.shape != (len(canary), len(names)) or not np.isfinite(given).all():
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
    if metadata["canary_probabilities"].shape != (len(metadata["canary"]), classes):
        return "the probabilities of its test images are of other classes"
    return ""


# What metadata can be. Everything read from a file goes through these rules before anything is
# computed from it: a rule says what is wrong with a value, or nothing.

_Rule = Callable[[Any], str]

_LONGEST: Final = 1 << 20  # characters of a label; of a path less
_MOST_ROWS: Final = 1 << 40
_MOST_CLASSES: Final = 1 << 24


def _text(value: Any) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST:
        return ""
    return f" is no text of up to {_LONGEST:,} characters"


def _digest(value: Any) -> str:
    digest = (
        isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
    )
    return "" if digest else " is no SHA-256"


def _whole_number(low: int, high: int) -> _Rule:
    def rule(value: Any) -> str:
        fine = type(value) is int and low <= value <= high
        return "" if fine else f" is no whole number from {low:,} to {high:,}"

    return rule


def _number(low: float, high: float) -> _Rule:
    def rule(value: Any) -> str:
        fine = type(value) is not bool and isinstance(value, int | float) and low <= value <= high
        return "" if fine else f" is no number from {low:g} to {high:g}"

    return rule


def _one_of(*choices: Any) -> _Rule:
    def rule(value: Any) -> str:
        fine = any(type(value) is type(one) and value == one for one in choices)
        return "" if fine else f" is none of {', '.join(map(repr, choices))}"

    return rule


def _listing(of: _Rule, fewest: int, most: int) -> _Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, list | tuple) or not fewest <= len(value) <= most:
            return f" is no list of {fewest} to {most:,}"
        return next(
            (f"[{place}]{wrong}" for place, one in enumerate(value) if (wrong := of(one))), ""
        )

    return rule


def _mapping(of: _Rule, most: int) -> _Rule:
    def rule(value: Any) -> str:
        if type(value) is not dict or len(value) > most or any(map(_text, value)):
            return f" is no dictionary of up to {most} names"
        return next(
            (f".{name[:40]}{wrong}" for name, one in value.items() if (wrong := of(one))), ""
        )

    return rule


def _record(**fields: _Rule) -> _Rule:
    def rule(value: Any) -> str:
        if type(value) is not dict:
            return f" is a {type(value).__name__}, not a dictionary"
        if value.keys() != fields.keys():
            lacks = ", ".join(sorted(fields.keys() - value.keys()))
            return f" lacks {lacks}" if lacks else " has more fields than it should"
        return next(
            (f".{name}{wrong}" for name, of in fields.items() if (wrong := of(value[name]))), ""
        )

    return rule


def _array(
    dtypes: tuple[Any, ...], dimensions: int, low: float, high: float, most: int = _MOST_ROWS
) -> _Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, np.ndarray) or value.dtype not in dtypes:
            return f" is no array of {' or '.join(np.dtype(one).name for one in dtypes)}"
        if value.ndim != dimensions or not value.size:
            return f" has the shape {value.shape}, not {dimensions} dimensions"
        if len(value) > most:
            return f" has {len(value):,} rows, not up to {most:,}"
        # NaN is neither.
        inside = low <= value.min().item() and value.max().item() <= high
        return "" if inside else f" has values outside {low:g} to {high:g}, or that are no numbers"

    return rule


def _environment(value: Any) -> str:
    wrong = _mapping(_printable, 1000)(value)
    return wrong or (f" {wrong}" if (wrong := environment_fault(value)) else "")


def _printable(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    fine = not isinstance(value, int) or abs(value) < _MOST_ROWS
    return "" if fine else f" is no whole number up to {_MOST_ROWS:,}"


def _any(value: Any) -> str:  # noqa: ARG001 - a `checked` says what is wrong
    return ""


_FLOATS: Final = (np.float16, np.float32, np.float64)
_FINITE: Final = float(np.finfo(np.float64).max)
_ONE: Final = 1 + 1e-9  # sums of floats round
_SHARE: Final = _number(0, _ONE)
_SHARES: Final = _array((np.float64,), 1, 0, _ONE)
_COUNTS: Final = (np.int64,)

_SCORES: Final[Mapping[str, _Rule]] = {
    "basis": _text,
    "rows": _whole_number(1, _MOST_ROWS),
    "accuracy": _SHARE,
    "interval": _listing(_SHARE, 2, 2),
    "baseline": _SHARE,
    "balanced_accuracy": _SHARE,
    "macro_f1": _SHARE,
    "log_loss": _number(0, _FINITE),
    "classes": _listing(_text, 2, _MOST_CLASSES),
    "per_class": _record(
        **dict.fromkeys(PER_CLASS[:-1], _SHARES),
        **{PER_CLASS[-1]: _array(_COUNTS, 1, 0, _MOST_ROWS)},
    ),
    "calibration_error": _SHARE,
    "calibration_noise": _SHARE,
    "reliability": _listing(
        _record(confidence=_SHARE, accuracy=_SHARE, images=_whole_number(1, _MOST_ROWS)), 1, 100
    ),
    "confusion": _array(_COUNTS, 2, 0, _MOST_ROWS),
    "mistakes": _listing(
        _record(path=_text, label=_text, predicted=_text, confidence=_SHARE), 0, MISTAKES
    ),
    "notes": _listing(_text, 0, 100),
}

_FIELDS: Final[Mapping[str, _Rule]] = {
    "format": _text,
    "format_version": _whole_number(0, 1 << 31),
    "name": _text,
    "training_digest": _digest,
    "training_images": _array((np.uint64,), 1, 0, 2**64),
    "training_counts": _array(_COUNTS, 1, 1, _MOST_ROWS),
    "parameters": _mapping(_number(-_FINITE, _FINITE), 100),
    "scores": _record(**_SCORES),
    "folds": _whole_number(2, _MOST_ROWS),
    "seed": _whole_number(0, 2**32 - 1),
    "min_images": _whole_number(1, _MOST_ROWS),
    "tta": _one_of(False, True),
    "seconds": _number(0, _FINITE),
    "novelty": _record(
        mean=_array(_FLOATS, 1, -_FINITE, _FINITE),
        components=_array(_FLOATS, 2, -_FINITE, _FINITE),
        exemplars=_array(_FLOATS, 2, -_FINITE, _FINITE),
        thresholds=_array((np.float64,), 1, float(np.finfo(np.float32).tiny), _FINITE),
        held_out=_whole_number(0, _MOST_ROWS),
    ),
    "seen": _record(
        mean=_array(_FLOATS, 1, -_FINITE, _FINITE),
        axes=_array(_FLOATS, 2, -_FINITE, _FINITE),
        vectors=_array((np.int8,), 2, -128, 127),
        limits=_array(_FLOATS, 1, -1, 1),
        images=_whole_number(1, _MOST_ROWS),
    ),
    "class_weight": _one_of(None, "balanced"),
    "scikit_learn": _text,
    "label_names": _listing(_text, 2, _MOST_CLASSES),
    "fingerprint": _digest,
    "provenance": _any,
    "augmentation": _any,
    "environment": _environment,
    "canary": _array(_FLOATS, 2, -_FINITE, _FINITE, MOST_CANARIES),
    "canary_probabilities": _array((np.float64,), 2, 0, _ONE, MOST_CANARIES),
}

_METADATA: Final = _record(**_FIELDS)

FIELDS: Final = frozenset(_FIELDS)
"""Of the metadata of a head."""
