"""A fitted pipeline -> whether it is made as ours are, before it is asked for anything.

A classifier of scikit-learn believes its own attributes. What matrix products do with arrays of a
wrong shape is harmless; libsvm, written in C, reads wherever its arrays point.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.calibration import (
    CalibratedClassifierCV,
    _CalibratedClassifier,
    _SigmoidCalibration,
    _TemperatureScaling,
)
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from .archive import Foreign
from .machines import PRECOMPUTED, machines, require_sound_machine


def require_ours(pipeline: Any) -> None:
    """Refuse a pipeline that no recipe of ours makes, whatever types it is made of.

    Raises
    ------
    Foreign
        If it is made otherwise.
    Exception
        ValueError if its arrays contradict each other; nearly any other if it cannot even be looked
        at.
    """
    _require_plain(pipeline, Pipeline, steps=lambda steps: type(steps) is list)
    if [name for name, _ in pipeline.steps] not in _PIPELINES:
        raise Foreign("a Pipeline of other steps")
    *transformers, last = (step for _, step in pipeline.steps)
    for step in transformers:
        if type(step) not in _TRANSFORMERS:
            raise Foreign(f"a {type(step).__name__} before the classifier")
    classes, width = len(last.classes_), len(transformers[0].mean_)
    for step in transformers:
        width = _TRANSFORMERS[type(step)](step, width)
    if type(last) is CalibratedClassifierCV:
        _calibrated(last, classes, width)
    else:
        _linear(last, LogisticRegression, classes, width)


_PIPELINES: Final = (
    ["scale", "classify"],
    ["centre", "normalise", "classify"],
    ["scale", "kernel", "classify"],
    ["scale", "kernel", "scale_kernel", "classify"],
)


def _scaler(scaler: Any, width: int) -> int:
    _require_plain(scaler, StandardScaler, with_std=lambda one: type(one) is bool)
    scales = {"scale_": (width,)} if scaler.with_std else {}
    _require_numbers(scaler, {"mean_": (width,), **scales})
    if not scaler.with_std and scaler.scale_ is not None:
        raise ValueError("its StandardScaler has scales that it does not use")
    _require_features(scaler, width)
    return width


def _normaliser(normaliser: Any, width: int) -> int:
    _require_plain(normaliser, Normalizer)
    _require_features(normaliser, width)
    return width


def _against_support(kernel: Any, width: int) -> int:
    _require_plain(
        kernel,
        FunctionTransformer,
        func=lambda func: func is rbf_kernel,
        kw_args=lambda given: type(given) is dict and given.keys() == {"Y", "gamma"},
    )
    support, gamma = kernel.kw_args["Y"], kernel.kw_args["gamma"]
    _require_array("Y", support, (len(support), width))
    if not _is_positive(gamma):
        raise ValueError("its gamma is not a positive number")
    return len(support)


def _landmarks(kernel: Any, width: int) -> int:
    _require_plain(
        kernel,
        Nystroem,
        gamma=_is_positive,
        n_components=_is_count,
        random_state=lambda seed: type(seed) is int,
    )
    count = len(kernel.components_)
    _require_numbers(kernel, {"components_": (count, width), "normalization_": (count, count)})
    _require_features(kernel, width)
    return count


_TRANSFORMERS: Final[dict[type, Callable[[Any, int], int]]] = {
    StandardScaler: _scaler,
    Normalizer: _normaliser,
    FunctionTransformer: _against_support,
    Nystroem: _landmarks,
}


def _linear(classifier: Any, kind: type, classes: int, width: int) -> None:
    _require_plain(classifier, kind, C=_is_positive, class_weight=_is_weighting, max_iter=_is_count)
    columns = classes if classes > 2 else 1
    _require_numbers(classifier, {"coef_": (columns, width), "intercept_": (columns,)})
    _require_names(classifier.classes_, classes)
    _require_features(classifier, width)


def _calibrated(classifier: Any, classes: int, width: int) -> None:
    _require_plain(
        classifier,
        CalibratedClassifierCV,
        estimator=_anything,
        ensemble=lambda one: one is False,
        method=lambda one: one in _CALIBRATIONS,
    )
    _require_names(classifier.classes_, classes)
    _require_features(classifier, width)
    (inner,) = classifier.calibrated_classifiers_
    if type(inner) is not _CalibratedClassifier or inner.method not in _CALIBRATIONS:
        raise Foreign("another calibration")
    kind, numbers, single = _CALIBRATIONS[inner.method]
    _require_names(inner.classes, classes)
    machine = inner.estimator
    if type(machine) is SVC:
        _require_plain(
            machine,
            SVC,
            C=_is_positive,
            class_weight=_is_weighting,
            kernel=lambda kernel: kernel == PRECOMPUTED,
        )
        _require_names(machine.classes_, classes)
        _require_features(machine, width)
        require_sound_machine(machine)
        shapes = {"dual_coef_": machine._dual_coef_.shape, "intercept_": machine._intercept_.shape}
        _require_numbers(machine, shapes)
    else:
        is_mean = type(machine) is LogisticRegression
        _linear(machine, LogisticRegression if is_mean else LinearSVC, classes, width)
    if len(inner.calibrators) != (1 if single or classes == 2 else classes):
        raise ValueError("its calibrators are not one for each column")
    for calibrator in inner.calibrators:
        if type(calibrator) is not kind:
            raise Foreign("another calibration")
        _require_numbers(calibrator, numbers)


_CALIBRATIONS: Final[dict[str, tuple[type, dict[str, tuple[int, ...]], bool]]] = {
    "sigmoid": (_SigmoidCalibration, {"a_": (), "b_": ()}, False),
    "temperature": (_TemperatureScaling, {"beta_": ()}, True),
}
"""Kinds of calibration: what calibrates, its numbers, and whether one does for all columns."""


def _require_plain(estimator: Any, kind: type, /, **free: Callable[[Any], bool]) -> None:
    """Refuse another type, attributes in place of methods, and parameters that no recipe sets."""
    if type(estimator) is not kind:
        raise Foreign(f"a {type(estimator).__name__} in the place of a {kind.__name__}")
    attributes = vars(estimator)
    if any(hasattr(kind, name) for name in attributes):
        raise Foreign(f"a {kind.__name__} with attributes in place of methods")
    defaults = Pipeline([]) if kind is Pipeline else kind()
    for name, default in defaults.get_params(deep=False).items():
        value = attributes[name]
        fine = free[name](value) if name in free else _is_default(value, default)
        if not fine:
            raise Foreign(f"a {kind.__name__} with its parameter {name!r} set otherwise")


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _is_positive(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < math.inf


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_weighting(value: Any) -> bool:
    return value is None or value == "balanced"


def _anything(value: Any) -> bool:  # noqa: ARG001 - what scikit-learn keeps and never asks again
    return True


def _require_numbers(holder: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        _require_array(name, getattr(holder, name), shape)


def _require_array(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if (
        not isinstance(value, np.ndarray | np.floating)
        or value.dtype not in (np.float32, np.float64)
        or value.shape != shape
        or not np.isfinite(value).all()
    ):
        raise ValueError(f"its {name} is not {shape or 'a number'}, or not finite")


def _require_names(names: Any, classes: int) -> None:
    if not isinstance(names, np.ndarray) or names.dtype.kind != "U" or names.shape != (classes,):
        raise ValueError("its classes are no texts, or contradict each other")


def _require_features(estimator: Any, width: int) -> None:
    if type(estimator.n_features_in_) is not int or estimator.n_features_in_ != width:
        raise ValueError(f"the numbers of features of its {type(estimator).__name__} contradict")


def columns(pipeline: Any) -> int:
    """How many numbers a row becomes on its way through a fitted pipeline, at most.

    A kernel gives one for every support vector, a machine one for every pair of classes.
    """
    counts = (len(machine.classes_) for machine in machines(pipeline))
    pairs = max((classes * (classes - 1) // 2 for classes in counts), default=1)
    return max(pairs, getattr(pipeline.steps[-1][1], "n_features_in_", 1))
