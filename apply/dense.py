"""A fitted linear head -> one dense layer that gives the same probabilities."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from ..features.errors import HeadError

Linear = tuple[NDArray[np.float64], NDArray[np.float64], Literal["softmax", "sigmoid"]]
"""Coefficients (c, D), intercepts (c,), and what makes their sums probabilities."""

_INSTEAD: Final = "train --head logistic or --head svm for a head that can be exported"


@dataclasses.dataclass(frozen=True)
class DenseLayer:
    """Vectors in, class probabilities out, by one matrix."""

    kernel: NDArray[np.float64]
    """(D, K), for those vectors: standardisation and calibration are inside."""
    bias: NDArray[np.float64]
    """(K,), added to ``vectors @ kernel``."""
    activation: Literal["softmax", "sigmoid"]
    """What makes the sums probabilities. Sigmoids, one for each class, are divided by their sum, as
    scikit-learn does with calibrated classifiers of several classes."""
    before: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """What vectors are multiplied by, and what is then added, (D,) each, before they are divided by
    their lengths; None if they are taken as they are."""


def dense_layer(pipeline: Any) -> DenseLayer:
    """Fold the fitted pipeline of a `Head` into one dense layer."""
    *before, classifier = _flat(pipeline)
    coefficients, intercepts, activation = _linear(classifier)
    unit = None
    for scaler in reversed(before):
        if isinstance(scaler, Normalizer) and scaler.norm == "l2" and unit is None:
            width = coefficients.shape[1]
            unit = np.ones(width), np.zeros(width)
            continue
        if not isinstance(scaler, StandardScaler):
            raise HeadError(_no_layer(scaler))
        # (x - mean) / scale @ w + b  =  x @ (w / scale) + (b - mean @ (w / scale))
        scale = 1.0 if scaler.scale_ is None else scaler.scale_
        mean = scaler.mean_ if scaler.with_mean else 0.0
        if unit is None:
            coefficients = coefficients / scale
            intercepts = intercepts - (coefficients * mean).sum(axis=1)
        else:
            unit = unit[0] / scale, unit[1] - unit[0] / scale * mean
    if len(coefficients) == 1:
        # The sigmoid of one value is the softmax of two, each half of it.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    return DenseLayer(coefficients.T, intercepts, activation, unit)


def _flat(pipeline: Any) -> Iterator[Any]:
    """The steps of a pipeline, and those of pipelines in it."""
    if not isinstance(pipeline, Pipeline):
        yield pipeline
        return
    for _, step in pipeline.steps:
        yield from _flat(step)


def _linear(classifier: Any) -> Linear:
    if isinstance(classifier, LogisticRegression):
        # Those of scikit-learn before 1.8 may train each class against the rest.
        several = getattr(classifier, "multi_class", "auto")
        rest = len(classifier.coef_) > 1 and (several == "ovr" or classifier.solver == "liblinear")
        # With two classes, "multinomial" is the softmax of -f and f, others that of -f/2 and f/2.
        if rest or (len(classifier.coef_) == 1 and several == "multinomial"):
            raise HeadError(
                f"its solver is {classifier.solver} and its multi_class {several}, which makes "
                f"probabilities in a way of its own; {_INSTEAD}"
            )
        return classifier.coef_.astype(np.float64), _column(classifier.intercept_), "softmax"
    if isinstance(classifier, CalibratedClassifierCV):
        return _calibrated(classifier)
    raise HeadError(_no_layer(classifier))


def _calibrated(classifier: CalibratedClassifierCV) -> Linear:
    inner = classifier.calibrated_classifiers_
    if len(inner) > 1:
        raise HeadError(f"it is the mean of {len(inner)} calibrated classifiers; {_INSTEAD}")
    machine, sigmoids = inner[0].estimator, inner[0].calibrators
    if not isinstance(machine, LinearSVC | LogisticRegression):
        raise HeadError(_no_layer(machine))
    if classifier.method == "temperature":
        # Softmax of the decision values times beta; of one, f, those are -f and f.
        slope = sigmoids[0].beta_ * (2 if len(machine.coef_) == 1 else 1)
        return slope * machine.coef_, slope * _column(machine.intercept_), "softmax"
    if not all(hasattr(sigmoid, "a_") for sigmoid in sigmoids):
        raise HeadError(f"its {classifier.method} calibration is no sigmoid; {_INSTEAD}")
    # Platt's probability is 1 / (1 + exp(a f + b)) of the decision value f.
    slopes = -np.array([sigmoid.a_ for sigmoid in sigmoids])
    offsets = -np.array([sigmoid.b_ for sigmoid in sigmoids])
    coefficients = slopes[:, None] * machine.coef_
    intercepts = slopes * _column(machine.intercept_) + offsets
    return coefficients, intercepts, "softmax" if len(sigmoids) == 1 else "sigmoid"


def _no_layer(classifier: Any) -> str:
    if hasattr(classifier, "support_"):
        return (
            f"it compares an image with {len(classifier.support_):,} training images by a kernel, "
            f"which no dense layer does; {_INSTEAD}"
        )
    return f"a {type(classifier).__name__} cannot be folded into a dense layer; {_INSTEAD}"


def _column(values: Any) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(values, np.float64))
