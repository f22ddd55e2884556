"""The heads that can be asked for: linear ones, an RBF kernel, and any scikit-learn classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from sklearn.base import clone, is_classifier

from ..features.errors import WrongUsage
from ..features.words import nearest
from .kernel import Rbf
from .linear import LOGISTIC, SVM
from .losses import columns_of
from .recipe import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .recipe import Cut, Decisions, Parameters, Probabilities, Recipe, Task


class Given:
    """Any scikit-learn classifier, as it is.

    Parameters
    ----------
    classifier : estimator
        Unfitted; each fit gets a clone. A random state that it leaves open is set from the seed.

    Raises
    ------
    WrongUsage
        If it is no classifier, or gives neither probabilities nor decision values.
    """

    searches = False

    def __init__(self, classifier: Any) -> None:
        if isinstance(classifier, type) or not _is_classifier(classifier):
            raise WrongUsage(
                f"head {classifier!r}: neither the name of a head nor a scikit-learn classifier"
            )
        self._classifier = classifier
        self.name = type(classifier).__name__
        self.probabilities: Probabilities | None = None
        if hasattr(classifier, "predict_proba"):
            self.probabilities = np.asarray  # they are what it is asked for
        elif not hasattr(classifier, "decision_function"):
            raise WrongUsage(
                f"head {self.name}: it has neither predict_proba nor decision_function, so nothing "
                f"can be said of how sure it is"
            )

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """There is nothing to search: one step."""
        judge(self.at({}, task, cuts))

    def at(self, parameters: Parameters, task: Task, cuts: Sequence[Cut]) -> Step:
        """Fit a clone for every cut, several at once."""

        def decide(cut: Cut) -> list[Decisions]:
            fitted = self._fitted(task, cut.training)
            answer = fitted.predict_proba if self.probabilities else fitted.decision_function
            decisions = [np.asarray(answer(task.features[rows])) for rows in cut.held_out]
            decisions = [values.reshape(len(values), -1) for values in decisions]
            classes = len(task.names)
            expected = classes if self.probabilities else columns_of(classes)
            if any(values.shape[1] != expected for values in decisions):
                raise WrongUsage(
                    f"head {self.name}: it gives {decisions[0].shape[1]} values a row for "
                    f"{classes} classes; {expected} are needed (one class against the rest)"
                )
            return decisions

        parallel = joblib.Parallel(joblib.cpu_count(), prefer="threads")
        return Step(parameters, parallel(joblib.delayed(decide)(cut) for cut in cuts))

    def costs(self, decisions: Decisions, codes: NDArray[np.intp]) -> NDArray[np.floating]:  # noqa: ARG002
        """Nothing is compared by them."""
        return np.zeros(len(codes))

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:  # noqa: ARG002
        """Fit a clone on all rows."""
        return [("classify", self._fitted(task, np.arange(len(task.codes))))]

    def _fitted(self, task: Task, rows: NDArray[np.intp]) -> Any:
        if task.balanced:
            raise WrongUsage(f"class_weight: set it on the {self.name} itself")
        classifier = clone(self._classifier)
        unseeded = {
            name: task.seed
            for name, value in classifier.get_params().items()
            if name.split("__")[-1] == "random_state" and value is None
        }
        return classifier.set_params(**unseeded).fit(task.features[rows], task.labels[rows])


def _is_classifier(given: Any) -> bool:
    try:
        return bool(is_classifier(given))
    except (AttributeError, TypeError):  # of what is no estimator at all
        return False


RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        LOGISTIC,
        SVM,
        Rbf(),
    )
}
ALL: Final = "all"


def recipe(head: Any) -> Recipe:
    """The recipe of a head by its name, or of a scikit-learn classifier.

    Raises
    ------
    WrongUsage
        Suggesting the nearest name.
    """
    if not isinstance(head, str):
        return Given(head)
    if head in RECIPES:
        return RECIPES[head]
    if head == ALL:
        raise WrongUsage(f"head {ALL!r}: `train_all` trains every kind and chooses the best")
    raise WrongUsage(
        f"unknown head {head!r}; did you mean {nearest(head, [*RECIPES, ALL])}? There are "
        f"{', '.join(RECIPES)} and {ALL}"
    )
