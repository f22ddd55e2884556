"""Decision values of held-out rows -> a map from decision values to probabilities."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.svm import LinearSVC


def calibrator(
    decisions: NDArray[np.floating],
    codes: NDArray[np.intp],
    weights: NDArray[np.floating] | None = None,
) -> CalibratedClassifierCV:
    """Fit one sigmoid per column, whose values are then made to sum to one (Platt 1999).

    `decisions` are (N, c) values for rows that the classifier was not trained on; all classes occur
    among their `codes`. The result takes decision values; `calibrating` makes it take features.
    """
    everything = np.arange(len(decisions))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_identity(codes, decisions.shape[1])),
        cv=[(everything, everything)],
        ensemble=False,
    )
    with warnings.catch_warnings():
        # It warns that the classifier is not given the weights; that one is fitted already.
        warnings.simplefilter("ignore", UserWarning)
        return calibrated.fit(decisions.astype(np.float64), codes, sample_weight=weights)


def calibrating(classifier: Any, calibrated: CalibratedClassifierCV) -> CalibratedClassifierCV:
    """Put a fitted classifier before the sigmoids that were fitted to its decision values.

    The result is what ``CalibratedClassifierCV(classifier, ensemble=False)`` would have fitted with
    the same folds, without fitting the classifier again in each of them.
    """
    (inner,) = calibrated.calibrated_classifiers_
    inner.estimator = classifier
    # The sigmoids were fitted to the places of classes, in the same order.
    inner.classes = calibrated.classes_ = classifier.classes_
    calibrated.set_params(estimator=classifier, cv=None)
    calibrated.n_features_in_ = classifier.n_features_in_
    return calibrated


def _identity(codes: NDArray[np.intp], columns: int) -> LinearSVC:
    """A classifier whose decision values are its input."""
    identity = LinearSVC()
    identity.classes_ = np.unique(codes)
    identity.coef_ = np.eye(columns)
    identity.intercept_ = np.zeros(columns)
    identity.n_features_in_ = columns
    return identity
