"""Decision values of held-out rows -> a map from decision values to probabilities."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.svm import LinearSVC

if TYPE_CHECKING:
    from numpy.typing import NDArray


def calibrator(
    decisions: NDArray[np.floating],
    labels: NDArray[np.str_],
    weights: NDArray[np.floating] | None = None,
) -> CalibratedClassifierCV:
    """Fit a sigmoid a column, whose values are then made to sum to one (Platt 1999).

    Parameters
    ----------
    decisions : ndarray of shape (N, c)
        What a classifier says of rows that it was not trained on; one column for two classes, else
        one a class.
    labels : ndarray of str, shape (N,)
        True classes; all of them occur.
    weights : ndarray of shape (N,), optional
        Of the rows.

    Returns
    -------
    sklearn.calibration.CalibratedClassifierCV
        Takes decision values. `calibrating` puts the classifier in, so that it takes features.
    """
    everything = np.arange(len(decisions))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_identity(labels, decisions.shape[1])),
        cv=[(everything, everything)],
        ensemble=False,
    )
    with warnings.catch_warnings():
        # That the classifier itself is not given the weights: it has been fitted with them.
        warnings.simplefilter("ignore", UserWarning)
        return calibrated.fit(decisions.astype(np.float64), labels, sample_weight=weights)


def calibrating(classifier: Any, calibrated: CalibratedClassifierCV) -> CalibratedClassifierCV:
    """Put a fitted classifier before the sigmoids that were fitted to its decision values.

    The result is what ``CalibratedClassifierCV(classifier, ensemble=False)`` would have fitted with
    the same folds, without fitting the classifier again in each of them.
    """
    (inner,) = calibrated.calibrated_classifiers_
    inner.estimator = classifier
    calibrated.set_params(estimator=classifier, cv=None)
    calibrated.n_features_in_ = classifier.n_features_in_
    return calibrated


def _identity(labels: NDArray[np.str_], columns: int) -> LinearSVC:
    """A classifier whose decision values are its input."""
    identity = LinearSVC()
    identity.classes_ = np.unique(labels)
    identity.coef_ = np.eye(columns)
    identity.intercept_ = np.zeros(columns)
    identity.n_features_in_ = columns
    return identity
