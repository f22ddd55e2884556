"""Any scikit-learn classifier as a head, as it is."""

from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import has_fit_parameter

from ...features.errors import TrainingError, WrongUsage, first_line
from ...features.journal.progress import step
from ..solver.losses import columns_of
from .recipe import SIGMOID, TEMPERATURE, Cut, Decisions, Parameters, Probabilities, Step, Task


class Given:
    """Any scikit-learn classifier, as it is.

    Each fit gets a clone. A random state that the classifier leaves open is set from the seed.
    """

    calibrations = SIGMOID, TEMPERATURE
    searches = False
    streams = False

    def __init__(self, classifier: Any) -> None:
        if isinstance(classifier, type) or not _is_classifier(classifier):
            raise WrongUsage(
                f"head {classifier!r}: neither the name of a head nor a scikit-learn classifier"
            )
        self._classifier = classifier
        self.name = type(classifier).__name__
        self.probabilities: Probabilities | None = None
        if hasattr(classifier, "predict_proba"):
            self.probabilities = np.asarray  # its decision values are probabilities already
        elif not hasattr(classifier, "decision_function"):
            raise WrongUsage(
                f"head {self.name}: it has neither predict_proba nor decision_function, so there "
                f"is no telling how sure it is"
            )

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """A single step: there is nothing to search."""
        judge(self.at({}, task, cuts))

    def at(
        self,
        parameters: Parameters,
        task: Task,
        cuts: Sequence[Cut],
        start: Any = None,  # noqa: ARG002
    ) -> Step:
        """Fit a clone for every cut, several at once."""

        def decide(cut: Cut) -> list[Decisions]:
            fitted = self._fitted(task, cut.training)
            try:
                method = fitted.predict_proba if self.probabilities else fitted.decision_function
                decisions = [np.asarray(method(task.features[rows])) for rows in cut.held_out]
            except Exception as error:
                what = "it cannot predict after training on"
                raise self._failed(what, task, cut.training, error) from error
            decisions = [values.reshape(len(values), -1) for values in decisions]
            classes = len(task.names)
            expected = classes if self.probabilities else columns_of(classes)
            if any(values.shape[1] != expected for values in decisions):
                raise WrongUsage(
                    f"head {self.name}: it gives {decisions[0].shape[1]} values per row for "
                    f"{classes} classes; {expected} are needed (one class against the rest)"
                )
            done.add(1)
            return decisions

        parallel = joblib.Parallel(joblib.cpu_count(), prefer="threads")
        with step("folds", len(cuts), "fold") as done:
            return Step(parameters, parallel(joblib.delayed(decide)(cut) for cut in cuts))

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:  # noqa: ARG002
        """Fit a clone on all rows."""
        with step("the fit to all images"):
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
        classifier.set_params(**unseeded)
        how = {}
        if task.image is not None and has_fit_parameter(classifier, "sample_weight"):
            how["sample_weight"] = task.shares(rows)
        try:
            return classifier.fit(task.features[rows], task.labels[rows], **how)
        except Exception as error:
            raise self._failed("it cannot be fitted to", task, rows, error) from error

    def _failed(
        self, what: str, task: Task, rows: NDArray[np.intp], error: Exception
    ) -> TrainingError:
        # Classifiers of anybody's raise nearly anything where images are too few for them: of one
        # class in fitting, or, for one that asks more neighbours than there are, in predicting.
        if task.image is not None:
            rows = np.unique(task.image[rows])
        sizes = np.bincount(task.codes[rows], minlength=len(task.names))
        rarest = sizes.argmin()
        return TrainingError(
            f"head {self.name}: {what} {len(rows):,} images, of which {sizes[rarest]:,} are "
            f"of {task.names[rarest].item()!r} ({first_line(error)}); give it other settings, or "
            f"leave small classes out with min_images"
        )


def _is_classifier(given: Any) -> bool:
    try:
        return bool(is_classifier(given))
    except (AttributeError, TypeError):  # no estimator at all
        return False
