"""The heads that can be asked for by name: unfitted scikit-learn pipelines and their search."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from ..features.errors import WrongUsage
from ..features.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from .splits import Fold


_WORTH_PROCESSES: Final = 1_000_000
"""Numbers in a matrix from which on the second that processes take to start is soon made up for."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one kind of head is made.

    Attributes
    ----------
    name : str
        As given to ``--head``.
    estimator : callable
        (seed) -> the unfitted classifier that comes after standardisation; it has a ``C``.
    grid : tuple of float
        Values of ``C``, the inverse regularisation strength, that the search tries; weakest model
        first, since the search keeps the first of equals.
    scoring : str
        scikit-learn's name of what the search maximises.
    threads : bool
        Whether several fits may run in threads of one process.
    calibrated : bool
        Whether probabilities must be fitted on top (Platt scaling), for lack of its own.
    """

    name: str
    estimator: Callable[[int], Any]
    grid: tuple[float, ...]
    scoring: str
    threads: bool
    calibrated: bool

    def _backend(self, features: NDArray[np.floating]) -> str:
        """How joblib runs several fits at once: threads start without a copy of the data."""
        if self.threads:
            return "threading"
        return "loky" if features.size >= _WORTH_PROCESSES else "sequential"

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
        with _one_fit_per_core(self._backend(features)):
            scores = joblib.Parallel()(
                joblib.delayed(self._path_scores)(features, labels, fold, seed) for fold in folds
            )
            best = int(np.mean(scores, axis=0).argmax())
            classifier = self.estimator(seed).set_params(C=self.grid[best])
            pipeline = Pipeline([("scale", StandardScaler()), ("classify", classifier)])
            if self.calibrated:
                calibrated = CalibratedClassifierCV(pipeline, cv=folds, ensemble=False)
                pipeline = Pipeline([("calibrated", calibrated)])
            pipeline.fit(features, labels)
        if self.calibrated:
            # Row numbers of this data set mean nothing elsewhere and would double the export.
            calibrated.set_params(cv=len(folds))
        return pipeline, {"C": self.grid[best]}

    def _path_scores(
        self, features: NDArray[np.floating], labels: NDArray[np.str_], fold: Fold, seed: int
    ) -> list[float]:
        """The score on one fold's held-out rows at each value of the grid."""
        training, held_out = fold
        scaler = StandardScaler().fit(features[training])
        inside, outside = _rotated(
            scaler.transform(features[training]), scaler.transform(features[held_out])
        )
        scorer = get_scorer(self.scoring)
        classifier = self.estimator(seed)
        if hasattr(classifier, "warm_start"):
            classifier.set_params(warm_start=True)
        scores = []
        for strength in self.grid:
            classifier.set_params(C=strength).fit(inside, labels[training])
            scores.append(float(scorer(classifier, outside, labels[held_out])))
        return scores


def _rotated(
    inside: NDArray[np.floating], outside: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Express rows in an orthonormal basis of the rows `inside`, if that has fewer dimensions.

    A linear classifier with an L2 penalty gives the same answers in any rotated basis, and never
    uses a direction in which no training row lies, so with fewer rows than columns this is exact.
    """
    if inside.shape[0] >= inside.shape[1]:
        return inside, outside
    basis, upper = np.linalg.qr(inside.T)
    return np.ascontiguousarray(upper.T), outside @ basis


@contextlib.contextmanager
def _one_fit_per_core(backend: str) -> Iterator[None]:
    # A fit spends its time in matrix products with few columns, which lose from threads of their
    # own: 1.2 s against 0.2 s for logistic regression on 1,078 x 2,048 and 10 classes with two
    # cores. Fits side by side use the cores instead, and repeat bit for bit.
    with (
        threadpool_limits(1, user_api="blas"),
        joblib.parallel_config(backend, n_jobs=joblib.cpu_count()),
    ):
        yield


# Standardised embeddings have more columns than small data sets have rows, so the best C often
# lies far below scikit-learn's default of 1. Both estimators converge within a few hundred
# iterations there; the limits only keep scikit-learn's own from cutting the path short.
RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "logistic",
            lambda seed: LogisticRegression(max_iter=2000, random_state=seed),
            grid=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
            scoring="neg_log_loss",
            threads=True,
            calibrated=False,
        ),
        Recipe(
            "svm",
            # The dual solver takes seconds where the primal one takes minutes on rows that can be
            # separated; beyond C = 0.01 such rows give one and the same hard margin.
            lambda seed: LinearSVC(dual=True, max_iter=20_000, random_state=seed),
            grid=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
            scoring="accuracy",
            threads=False,  # liblinear has one random generator for the whole process
            calibrated=True,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """Look a head up by name.

    Raises
    ------
    WrongUsage
        Suggesting the nearest name.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise WrongUsage(
        f"unknown head {name!r}; did you mean {nearest(name, RECIPES)}? There are "
        f"{', '.join(RECIPES)}"
    )
