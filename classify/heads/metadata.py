"""What the metadata of a head file can be: a rule for each field."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ...features.origin import environment_fault
from ...features.rules import MOST_CANARIES
from ..scores.evaluation import MISTAKES, PER_CLASS

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
    dtypes: tuple[Any, ...],
    dimensions: int,
    low: float,
    high: float,
    most: int = _MOST_ROWS,
    *,
    least: int = 1,
) -> _Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, np.ndarray) or value.dtype not in dtypes:
            return f" is no array of {' or '.join(np.dtype(one).name for one in dtypes)}"
        if value.ndim != dimensions or not all(value.shape[1:]) or len(value) < least:
            return f" has the shape {value.shape}, not {dimensions} dimensions"
        if len(value) > most:
            return f" has {len(value):,} rows, not up to {most:,}"
        if not len(value):
            return ""
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
    "canary": _array(_FLOATS, 2, -_FINITE, _FINITE, MOST_CANARIES, least=0),
    "canary_probabilities": _array((np.float64,), 2, 0, _ONE, MOST_CANARIES),
}

fault: Final = _record(**_FIELDS)
"""Says what is wrong with metadata that was read from a file; "" if it can be used."""

FIELDS: Final = frozenset(_FIELDS)
"""Of the metadata of a head."""
