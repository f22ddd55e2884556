"""True classes and probabilities -> scores with an interval, beside the majority baseline."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from ...features.durable.table import in_html
from ...features.errors import count, listed
from ..examples import Examples
from .intervals import accuracy_interval, in_percent
from .reliability import calibration_error, calibration_noise, reliability

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
        Mean of minus the natural logarithm of the probability given to the true class; without rows
        of classes that the head does not know, which have none.
    per_class : dict
        Class -> ``precision``, ``recall``, ``f1``, ``support``: the classes of the head, then those
        that only the scored rows have.
    calibration_error : float
        Expected calibration error: how far confidence is from accuracy, in the mean over rows
        (Naeini et al. 2015; 15 bins of equal width).
    calibration_noise : float
        What it would be in the mean if the same confidences were perfectly calibrated: so many rows
        tell no less apart (`reliability.calibration_noise`).
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
    calibration_noise: float
    reliability: tuple[dict[str, float], ...]
    confusion: tuple[tuple[int, int, int], ...]
    mistakes: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Scores({self.summary}; {self.rows:,} images; baseline {self.baseline:.1%}, "
            f"log loss {self.log_loss:.3f})"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("accuracy", in_percent(self.accuracy, self.interval)),
            ("always the commonest class", f"{self.baseline:.1%}"),
            ("balanced accuracy", f"{self.balanced_accuracy:.1%}"),
            ("macro F1", f"{self.macro_f1:.3f}"),
            ("log loss", f"{self.log_loss:.3f}"),
            (
                "calibration error",
                f"{self.calibration_error:.1%} ({self.calibration_noise:.1%} by chance)",
            ),
        ]
        return in_html(f"{count(self.rows, 'image')} {self.how}", rows)

    @property
    def summary(self) -> str:
        """``accuracy 97.3% (95.1 to 98.6%) by 5-fold cross-validation``."""
        return f"accuracy {in_percent(self.accuracy, self.interval)} {self.how}"

    @property
    def how(self) -> str:
        """The basis in a sentence: ``by 5-fold cross-validation``, ``on the test split``."""
        last_word = self.basis.rsplit(" ", 1)[-1]
        how = {"cross-validation": "by", "split": "on the"}.get(last_word, "on")
        return f"{how} {self.basis}"

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
        rest |= {"classes": list(self.per_class), "per_class": per_class}
        return rest | {"confusion": _triples(self.confusion)}

    @classmethod
    def from_arrays(cls, values: Mapping[str, Any]) -> "Scores":
        """Read `to_arrays` back."""
        columns = [values["per_class"][score].tolist() for score in PER_CLASS]
        per_class = {
            name: dict(zip(PER_CLASS, of_class, strict=True))
            for name, of_class in zip(values["classes"], zip(*columns, strict=True), strict=True)
        }
        confusion = tuple((a, b, rows) for a, b, rows in values["confusion"].tolist())
        rest = {name: value for name, value in values.items() if name != "classes"}
        return cls(**{**rest, "per_class": per_class, "confusion": confusion})


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

    Rows of other classes are wrong whatever is predicted, and the notes say so. `majority` is the
    class most frequent in training; `basis` and `notes` go into the result.
    """
    known = len(classes)
    unknown = [name for name in examples.classes if name not in set(classes)]
    classes = [*classes, *unknown]
    codes = np.arange(len(classes))
    truth, predicted = examples.codes_among(classes), probabilities.argmax(axis=1)
    strange = truth >= known
    if unknown:
        note = (
            f"{count(int(strange.sum()), 'image')} of {listed(list(map(repr, unknown)))}, which "
            f"the head does not know, count as mistakes (the log loss is of the others)"
        )
        notes = [*notes, note]
    right = predicted == truth
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=codes, zero_division=0
    )
    present = support > 0
    confidence = probabilities.max(axis=1)
    bins = reliability(confidence, right)
    return Scores(
        basis=basis,
        rows=len(truth),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, examples.groups),
        baseline=float(np.mean(truth == classes.index(majority))),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        log_loss=_log_loss(truth[~strange], probabilities[~strange]),
        per_class={
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(classes)
        },
        calibration_error=calibration_error(bins),
        calibration_noise=calibration_noise(confidence, examples.groups),
        reliability=bins,
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


def _most_confident(confidence: NDArray[np.floating], among: NDArray[np.bool_]) -> NDArray[np.intp]:
    rows = np.flatnonzero(among)
    return rows[np.argsort(-confidence[rows], kind="stable")][:MISTAKES]
