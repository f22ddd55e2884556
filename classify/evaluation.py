"""True and predicted classes -> scores with an interval, beside the majority baseline."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.stats import binomtest
from sklearn import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95


@dataclasses.dataclass(frozen=True)
class Scores:
    """How good the predictions on some rows were.

    Attributes
    ----------
    basis : str
        Which rows: ``"test split"``, ``"5-fold cross-validation"``.
    rows : int
        How many.
    accuracy : float
        Share of right answers.
    interval : tuple of float
        95% confidence interval of the accuracy (Wilson 1927, without continuity correction).
    baseline : float
        Accuracy of always answering the class that was most frequent in training.
    balanced_accuracy : float
        Mean over classes of the share found.
    macro_f1 : float
        Mean over classes of the F1 score.
    log_loss : float
        Mean of minus the natural logarithm of the probability given to the true class.
    per_class : dict
        Class -> ``precision``, ``recall``, ``f1``, ``support``.
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
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return dataclasses.asdict(self)


def majority_class(labels: NDArray[np.str_]) -> str:
    """The most frequent class of (N,) labels; of equals, the first by name."""
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def score(
    truth: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    *,
    majority: str,
    basis: str,
    notes: Sequence[str] = (),
) -> Scores:
    """Score class probabilities.

    Parameters
    ----------
    truth : ndarray of str, shape (N,)
        The true classes; each must be one of `classes`.
    probabilities : ndarray of shape (N, K)
        Rows sum to one.
    classes : sequence of K str
        What the columns mean, sorted.
    majority : str
        The class most frequent in training.
    basis, notes
        Passed on into the result.
    """
    predicted = np.asarray(classes)[probabilities.argmax(axis=1)]
    right = int(np.count_nonzero(predicted == truth))
    interval = binomtest(right, len(truth)).proportion_ci(CONFIDENCE, method="wilson")
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=classes, zero_division=0
    )
    present = support > 0
    return Scores(
        basis=basis,
        rows=len(truth),
        accuracy=right / len(truth),
        interval=(float(interval.low), float(interval.high)),
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
        notes=tuple(notes),
    )
