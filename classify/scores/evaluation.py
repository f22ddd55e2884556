"""True classes and probabilities -> scores with an interval, beside the majority baseline."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from ..examples import Examples
from .intervals import accuracy_interval, in_percent

_BINS: Final = 15  # of the calibration error, as in Guo et al. 2017
_MISTAKES: Final = 20


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
        Rows of each true class by predicted class, both in the order of `per_class`.
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
    confusion: tuple[tuple[int, ...], ...]
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

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return dataclasses.asdict(self)


def majority_class(labels: NDArray[np.str_]) -> str:
    """The most frequent class of (N,) labels; of equals, the first by name."""
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def most_probable(probabilities: NDArray[np.floating], classes: Sequence[str]) -> NDArray[np.str_]:
    """(N, K) probabilities -> (N,) names of the most probable classes."""
    names: NDArray[np.str_] = np.asarray(classes)[probabilities.argmax(axis=1)]
    return names


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
    truth = examples.labels
    predicted = most_probable(probabilities, classes)
    right = predicted == truth
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=classes, zero_division=0
    )
    present = support > 0
    reliability = _reliability(probabilities.max(axis=1), right)
    return Scores(
        basis=basis,
        rows=len(truth),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, examples.identities),
        baseline=float(np.mean(truth == majority)),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        log_loss=float(metrics.log_loss(truth, probabilities, labels=classes)),
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
        confusion=tuple(
            tuple(row)
            for row in metrics.confusion_matrix(truth, predicted, labels=classes).tolist()
        ),
        mistakes=_mistakes(examples, predicted, probabilities.max(axis=1)),
        notes=tuple(notes),
    )


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


def _mistakes(
    examples: Examples, predicted: NDArray[np.str_], confidence: NDArray[np.floating]
) -> tuple[dict[str, Any], ...]:
    wrong = np.flatnonzero(predicted != examples.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
    return tuple(
        {
            "path": os.fsdecode(examples.paths[row]),
            "label": str(examples.labels[row]),
            "predicted": str(predicted[row]),
            "confidence": float(confidence[row]),
        }
        for row in worst
    )
