"""The heads that can be asked for by name: unfitted scikit-learn pipelines and their search."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..features.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .splits import Fold

C_GRID: Final = tuple(10.0**exponent for exponent in range(-6, 2))
"""Inverse regularisation strengths tried, weakest model first.

Standardised embeddings have many more columns than a small data set has rows, so the best C lies
far below scikit-learn's default of 1: at 0.1 for 400 photographs and 1,280 columns.
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one kind of head is made.

    Attributes
    ----------
    name : str
        As given to ``--head``.
    estimator : callable
        (seed) -> the unfitted classifier that comes after standardisation; it has a ``C``.
    scoring : str
        scikit-learn's name of what the search maximises.
    calibrated : bool
        Whether probabilities must be fitted on top (Platt scaling), for lack of its own.
    """

    name: str
    estimator: Callable[[int], Any]
    scoring: str
    calibrated: bool

    def fit(
        self,
        features: NDArray[np.floating],
        labels: NDArray[np.str_],
        folds: Sequence[Fold],
        seed: int,
    ) -> tuple[Pipeline, dict[str, float]]:
        """Choose C by cross-validation over `folds`, then fit on all rows.

        Parameters
        ----------
        features : ndarray of shape (N, D)
            Vectors.
        labels : ndarray of str, shape (N,)
            Classes, by name.
        folds : sequence of (training rows, validation rows)
            Standardisation is fitted within each, so nothing of the validation rows leaks.
        seed : int
            Of whatever the estimator draws.

        Returns
        -------
        pipeline : sklearn.pipeline.Pipeline
            Fitted, plain scikit-learn, with ``predict_proba``.
        parameters : dict of str to float
            What the search chose.
        """
        standardised = Pipeline([("scale", StandardScaler()), ("classify", self.estimator(seed))])
        search = GridSearchCV(
            standardised,
            {"classify__C": C_GRID},
            cv=folds,
            scoring=self.scoring,
            refit=not self.calibrated,
        ).fit(features, labels)
        chosen = {"C": float(search.best_params_["classify__C"])}
        if not self.calibrated:
            return search.best_estimator_, chosen
        standardised.set_params(classify__C=chosen["C"])
        calibrated = CalibratedClassifierCV(standardised, cv=folds, ensemble=False)
        calibrated.fit(features, labels)
        # Row numbers of this data set mean nothing elsewhere and would double the exported file.
        calibrated.set_params(cv=len(folds))
        return Pipeline([("calibrated", calibrated)]), chosen


# Both converge within a few hundred iterations on standardised features; the limits only keep
# scikit-learn's default of 100 from cutting the weakly regularised end of the grid short.
RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "logistic",
            lambda seed: LogisticRegression(max_iter=2000, random_state=seed),
            scoring="neg_log_loss",
            calibrated=False,
        ),
        Recipe(
            "svm",
            lambda seed: LinearSVC(max_iter=20_000, random_state=seed),
            scoring="accuracy",
            calibrated=True,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """Look a head up by name.

    Raises
    ------
    TrainingError
        Suggesting the nearest name.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name.casefold(), RECIPES, n=1, cutoff=0)
    raise TrainingError(
        f"unknown head {name!r}; did you mean {near[0]}? There are {', '.join(RECIPES)}"
    )
