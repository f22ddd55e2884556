"""True classes and probabilities -> scores with an interval, beside the majority baseline."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from ..examples import Examples
from .intervals import accuracy_interval, in_percent

_BINS: Final = 15  # of the calibration error, as in Guo et al. 2017
MISTAKES: Final = 20
PER_CLASS: Final = ("precision", "recall", "f1", "support")


@dataclasses.dataclass(frozen=True, repr=False)
class Scores:
    """How good the predictions on some rows were.

    Attributes
    ----------
    basis : str
        Which rows: ``"test split"``, ``"5-fold cross-validation"``.
    rows : int
        How many.
    accuracy : float
        Share of rows whose most probable class is the true one.
    interval : tuple of float
        95% confidence interval of the accuracy (`intervals.accuracy_interval`).
    baseline : float
        Accuracy of always predicting the class that was most frequent in training.
    balanced_accuracy : float
        Mean over classes of the share found.
    macro_f1 : float
        Mean over classes of the F1 score.
    log_loss : float
        Mean of minus the natural logarithm of the probability given to the true class.
    per_class : dict
        Class -> ``precision``, ``recall``, ``f1``, ``support``.
    calibration_error : float
        Expected calibration error: how far confidence is from accuracy, in the mean over rows
        (Naeini et al. 2015; 15 bins of equal width).
    reliability : tuple of dict
        For each bin that is not empty its mean ``confidence``, ``accuracy`` and number of
        ``images``.
    confusion : tuple of tuple of int
        ``(true class, predicted class, rows)`` for each pair that occurs, sorted; classes are
        places in `per_class`. Of thousands of classes nearly all pairs never occur.
    mistakes : tuple of dict
        The most confident ones, at most 20: ``path``, ``label``, ``predicted``, ``confidence``.
    notes : tuple of str
        What was left out of the scoring and why, in sentences.
    """

    basis: str
    rows: int
    accuracy: float
    interval: tuple[float, float]
    baseline: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    per_class: dict[str, dict[str, float]]
    calibration_error: float
    reliability: tuple[dict[str, float], ...]
    confusion: tuple[tuple[int, int, int], ...]
    mistakes: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Scores({self.summary}; {self.rows:,} images; baseline {self.baseline:.1%}, "
            f"log loss {self.log_loss:.3f})"
        )

    @property
    def summary(self) -> str:
        """``accuracy 97.3% (95.1 to 98.6%) by 5-fold cross-validation``."""
        last_word = self.basis.rsplit(" ", 1)[-1]
        how = {"cross-validation": "by", "split": "on the"}.get(last_word, "on")
        return f"accuracy {in_percent(self.accuracy, self.interval)} {how} {self.basis}"

    def confusion_matrix(self) -> NDArray[np.int64]:
        """(K, K): rows of each true class by predicted class, both in the order of `per_class`."""
        matrix = np.zeros((len(self.per_class), len(self.per_class)), np.int64)
        true, predicted, rows = _triples(self.confusion).T
        matrix[true, predicted] = rows
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def to_arrays(self) -> dict[str, Any]:
        """For a head file: what there is per class, as one array a score."""
        per_class = {
            score: np.array([of_class[score] for of_class in self.per_class.values()])
            for score in PER_CLASS
        }
        rest = dataclasses.replace(self, per_class={}, confusion=()).to_dict()
        return rest | {"per_class": per_class, "confusion": _triples(self.confusion)}

    @classmethod
    def from_arrays(cls, values: Mapping[str, Any], names: Sequence[str]) -> "Scores":
        """Read `to_arrays` back; `names` are the classes."""
        columns = [values["per_class"][score].tolist() for score in PER_CLASS]
        per_class = {
            name: dict(zip(PER_CLASS, of_class, strict=True))
            for name, of_class in zip(names, zip(*columns, strict=True), strict=True)
        }
        confusion = tuple((a, b, rows) for a, b, rows in values["confusion"].tolist())
        return cls(**{**values, "per_class": per_class, "confusion": confusion})


def score(
    examples: Examples,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    *,
    majority: str,
    basis: str,
    notes: Sequence[str] = (),
) -> Scores:
    """Score (N, K) class probabilities of N rows; the columns are `classes`, sorted.

    `majority` is the class most frequent in training; `basis` and `notes` go into the result.
    """
    codes = np.arange(len(classes))
    truth, predicted = examples.codes_among(classes), probabilities.argmax(axis=1)
    right = predicted == truth
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=codes, zero_division=0
    )
    present = support > 0
    confidence = probabilities.max(axis=1)
    reliability = _reliability(confidence, right)
    return Scores(
        basis=basis,
        rows=len(truth),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, examples.identities),
        baseline=float(np.mean(truth == classes.index(majority))),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        log_loss=_log_loss(truth, probabilities),
        per_class={
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(classes)
        },
        calibration_error=sum(
            abs(one["confidence"] - one["accuracy"]) * one["images"] for one in reliability
        )
        / len(truth),
        reliability=reliability,
        confusion=_confusion(truth, predicted, len(classes)),
        mistakes=tuple(
            {
                "path": os.fsdecode(examples.paths[row]),
                "label": classes[truth[row]],
                "predicted": classes[predicted[row]],
                "confidence": float(confidence[row]),
            }
            for row in _most_confident(confidence, ~right)
        ),
        notes=tuple(notes),
    )


def _log_loss(truth: NDArray[np.intp], probabilities: NDArray[np.floating]) -> float:
    # As scikit-learn's, which has several more tables of all rows by all classes.
    given = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    smallest = np.finfo(probabilities.dtype).eps
    return float(-np.log(np.clip(given, smallest, 1 - smallest)).mean())


def _confusion(
    true: NDArray[np.intp], predicted: NDArray[np.intp], classes: int
) -> tuple[tuple[int, int, int], ...]:
    pairs, rows = np.unique(true * classes + predicted, return_counts=True)
    return tuple(zip(*(one.tolist() for one in (*np.divmod(pairs, classes), rows)), strict=True))


def _triples(confusion: tuple[tuple[int, int, int], ...]) -> NDArray[np.int64]:
    return np.array(confusion, np.int64).reshape(-1, 3)


def _reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[dict[str, float], ...]:
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return tuple(
        {
            "confidence": float(confidence[bins == one].mean()),
            "accuracy": float(right[bins == one].mean()),
            "images": int(np.count_nonzero(bins == one)),
        }
        for one in np.unique(bins)
    )


def _most_confident(confidence: NDArray[np.floating], among: NDArray[np.bool_]) -> NDArray[np.intp]:
    rows = np.flatnonzero(among)
    return rows[np.argsort(-confidence[rows], kind="stable")][:MISTAKES]
