"""Linear heads on standardised features: logistic regression and the linear SVM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ...features.journal.progress import step
from ..solver.losses import LogLoss, Loss, SquaredHinge
from ..solver.memory import give_back
from ..solver.path import LinearPath
from ..solver.rows import Stored
from .recipe import SIGMOID, TEMPERATURE, Cut, Decisions, Parameters, Probabilities, Step, Task
from .scaling import shrunken_scaler

Coefficients = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(c, D) and the (c,) intercepts."""

STRENGTHS: Final = tuple(float(f"{10 ** (k / 2):.2g}") for k in range(-12, 3))
"""Values of C, the inverse regularisation strength, that are tried: 1e-6, 3.2e-6, ... 10."""
_START: Final = STRENGTHS.index(1e-2)
"""Standardised embeddings have about as many columns as there are rows, so that the best C lies far
below scikit-learn's default of 1."""
_LAST: Final = 1e-6
"""How near to its minimum the objective is of features in a file, where nothing comes after."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear classifier on standardised features."""

    name: str
    loss: Loss
    probabilities: Probabilities | None
    classifier: Callable[[Coefficients, StandardScaler, Parameters, Task], Any]
    """Makes scikit-learn's fitted classifier of coefficients for standardised features."""
    calibrations: tuple[str, ...] = ()
    searches: bool = True
    streams: bool = True

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """Walk along the path of regularisation, as long as that improves anything."""
        # Held-out loss has one minimum along the path: where it rises one may turn back.
        path = self._path(task, cuts)
        for eased in (STRENGTHS[_START - 4], STRENGTHS[_START - 2]):
            path.solve(eased, tolerance=0.03)  # from nothing the way is shorter in steps
        judge(self._step(path, STRENGTHS[_START], cuts, leg=0))
        first = path.solution.copy()
        for leg, strengths in enumerate((STRENGTHS[_START + 1 :], STRENGTHS[_START - 1 :: -1])):
            if leg:
                path.start_from(first)
            shares = []
            for strength in strengths:
                shares.append(judge(self._step(path, strength, cuts, leg=leg)))
                if not shares[-1]:
                    break
            if shares[0] == 1:
                return

    def at(
        self, parameters: Parameters, task: Task, cuts: Sequence[Cut], start: Any = None
    ) -> Step:
        """Fit for every cut with one C."""
        path = self._path(task, cuts)
        if start is not None:
            path.start_from(np.repeat(start[None], len(cuts), axis=0))
        return self._step(path, parameters["C"], cuts)

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:
        """Fit on all rows."""
        everything = np.arange(len(task.codes))
        path = self._path(task, [Cut(everything, ())])
        if start is not None:
            path.start_from(start[None])
        path.solve(parameters["C"], tolerance=_LAST if isinstance(task.features, Stored) else 1e-5)
        path.finish(parameters["C"])
        coefficients = path.coefficients(0)
        del path  # its copy of the features
        give_back()
        scaler = shrunken_scaler(task.features, task.shares(everything))
        classifier = self.classifier(coefficients, scaler, parameters, task)
        return [("scale", scaler), ("classify", classifier)]

    def _path(self, task: Task, cuts: Sequence[Cut]) -> LinearPath:
        give_back()
        return LinearPath(
            task.features,
            task.codes,
            len(task.names),
            [cut.training for cut in cuts],
            self.loss,
            balanced=task.balanced,
            shares=task.shares(np.arange(len(task.codes))),
        )

    def _step(
        self, path: LinearPath, strength: float, cuts: Sequence[Cut], leg: int | None = None
    ) -> Step:
        give_back()
        decisions = path.solve(strength, [cut.held_out for cut in cuts])
        return Step({"C": strength}, decisions, leg, path.solution.mean(axis=0))


def _softmax(decisions: Decisions) -> NDArray[np.float64]:
    """Sigmoid of one column, softmax of several."""
    if decisions.shape[1] == 1:
        second = expit(decisions)
        return np.hstack([1 - second, second])
    return np.asarray(softmax(decisions, axis=1))


def _logistic_regression(
    coefficients: Coefficients, scaler: StandardScaler, parameters: Parameters, task: Task
) -> LogisticRegression:
    # scikit-learn has the last word, but starts where there is next to nothing left to do.
    classifier = LogisticRegression(
        **parameters, class_weight=task.class_weight, max_iter=2000, warm_start=True
    )
    classifier.coef_, classifier.intercept_ = coefficients
    if isinstance(task.features, Stored):  # it would want them whole
        return _with(classifier, coefficients, scaler, task).set_params(warm_start=False)
    shares = task.shares(np.arange(len(task.codes)))
    with step("the fit to all images"):
        classifier.fit(scaler.transform(task.features), task.codes, sample_weight=shares)
    classifier.classes_ = task.names
    return classifier.set_params(warm_start=False)


def _linear_svc(
    coefficients: Coefficients, scaler: StandardScaler, parameters: Parameters, task: Task
) -> LinearSVC:
    # LinearSVC takes no starting point, and liblinear solves one class after another.
    classifier = LinearSVC(**parameters, class_weight=task.class_weight)
    return _with(classifier, coefficients, scaler, task)


def _with(classifier: Any, coefficients: Coefficients, scaler: StandardScaler, task: Task) -> Any:
    """The classifier as if it had been fitted."""
    classifier.coef_, classifier.intercept_ = (values.astype(np.float64) for values in coefficients)
    classifier.classes_ = task.names
    classifier.n_features_in_ = scaler.n_features_in_
    return classifier


LOGISTIC: Final = Linear("logistic", LogLoss(), _softmax, _logistic_regression)
"""Logistic regression; softmax where there are more than two classes."""

SVM: Final = Linear("svm", SquaredHinge(), None, _linear_svc, (SIGMOID, TEMPERATURE))
"""A linear support vector machine, each class against the rest."""
