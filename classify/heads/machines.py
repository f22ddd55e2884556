"""Support vector machines inside an estimator -> whether libsvm can be let near their arrays.

A classifier of scikit-learn believes its own attributes; libsvm, written in C, reads wherever its
arrays point.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.svm import SVC, NuSVC

PRECOMPUTED: Final = "precomputed"


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
    precomputed = outside or machine.kernel == PRECOMPUTED
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
