"""A fitted pipeline -> whether it is made as ours are, before it is asked for anything.

A classifier of scikit-learn believes its own attributes. What matrix products do with arrays of a
wrong shape is harmless; libsvm, written in C, reads wherever its arrays point.
"""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.calibration import (
    CalibratedClassifierCV,
    _CalibratedClassifier,
    _SigmoidCalibration,
)
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC

from .archive import Foreign

_PRECOMPUTED: Final = "precomputed"


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
    ["scale", "kernel", "classify"],
    ["scale", "kernel", "scale_kernel", "classify"],
)


def _scaler(scaler: Any, width: int) -> int:
    _require_plain(scaler, StandardScaler)
    _require_numbers(scaler, {"mean_": (width,), "scale_": (width,)})
    _require_features(scaler, width)
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
        classifier, CalibratedClassifierCV, estimator=_anything, ensemble=lambda one: one is False
    )
    _require_names(classifier.classes_, classes)
    _require_features(classifier, width)
    (inner,) = classifier.calibrated_classifiers_
    if type(inner) is not _CalibratedClassifier or inner.method != "sigmoid":
        raise Foreign("another calibration")
    _require_names(inner.classes, classes)
    machine = inner.estimator
    if type(machine) is SVC:
        _require_plain(
            machine,
            SVC,
            C=_is_positive,
            class_weight=_is_weighting,
            kernel=lambda kernel: kernel == _PRECOMPUTED,
        )
        _require_names(machine.classes_, classes)
        _require_features(machine, width)
        require_sound_machine(machine)
        shapes = {"dual_coef_": machine._dual_coef_.shape, "intercept_": machine._intercept_.shape}
        _require_numbers(machine, shapes)
    else:
        _linear(machine, LinearSVC, classes, width)
    if len(inner.calibrators) != (classes if classes > 2 else 1):
        raise ValueError("its calibrators are not one for each column")
    for sigmoid in inner.calibrators:
        if type(sigmoid) is not _SigmoidCalibration:
            raise Foreign("another calibration")
        _require_numbers(sigmoid, {"a_": (), "b_": ()})


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


def machines(thing: Any) -> Iterator[Any]:
    """Every fitted support vector machine in an estimator, however deep inside others.

    Those that wrap one also keep the unfitted one that they were given. Whatever is asked of a
    machine without dual coefficients ends in Python, before libsvm: every call passes them.
    """
    seen, left = set(), [thing]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | ModuleType):
            continue
        seen.add(id(one))
        if isinstance(one, SVC | NuSVC) and "_dual_coef_" in vars(one):
            yield one
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
        elif isinstance(one, np.ndarray):
            left.extend(one.ravel() if one.dtype == object else ())
        elif hasattr(one, "__dict__"):
            left.extend(vars(one).values())


def require_sound_machine(machine: Any) -> None:
    """Refuse a support vector machine whose arrays are not those that libsvm takes them for.

    libsvm has no lengths but those of `support_` and `_n_support`, and scikit-learn checks no
    others (CVE-2020-28975).

    Raises
    ------
    Exception
        ValueError if they contradict each other; nearly any other if something is missing.
    """
    vectors, classes = len(machine.support_), len(machine.classes_)
    pairs = classes * (classes - 1) // 2
    features = machine.n_features_in_
    duals, outside = machine._dual_coef_, callable(machine.kernel)
    precomputed = outside or machine.kernel == _PRECOMPUTED
    sound = (
        _is(machine.support_, np.int32, (vectors,))
        and _is(machine._n_support, np.int32, (classes,))
        and _is(machine._intercept_, np.float64, (pairs,))
        and all(
            _is(values, np.float64, (0,)) or _is(values, np.float64, (pairs,))
            for values in (machine._probA, machine._probB)
        )
        and len(machine._probA) == len(machine._probB)
        and classes > 1
        and vectors > 0
        and machine.support_.min() >= 0
        and machine._n_support.min() >= 0
        and machine._n_support.sum(dtype=np.int64) == vectors
        and not {"_impl", "_sparse_kernels", "n_support_"} & vars(machine).keys()
    )
    if sound and machine._sparse:
        sound = (
            _is_sparse(machine.support_vectors_, (vectors, features))
            and _is_sparse(duals, (classes - 1, vectors))
            and len(duals.data) == (classes - 1) * vectors
        )
    elif sound:
        sound = _is(duals, np.float64, (classes - 1, vectors)) and (
            precomputed or _is(machine.support_vectors_, np.float64, (vectors, features))
        )
    if sound and precomputed:
        columns = len(machine._BaseLibSVM__Xfit) if outside else features
        sound = machine.support_.max() < columns == machine.shape_fit_[0]
    if not sound:
        raise ValueError("its support vectors contradict each other")


def _is(values: Any, dtype: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == dtype and values.shape == shape


def _is_sparse(values: Any, shape: tuple[int, int]) -> bool:
    if not issparse(values) or values.format != "csr" or values.shape != shape:
        return False
    values.check_format(full_check=True)  # raises ValueError
    return bool(values.dtype == np.float64)
