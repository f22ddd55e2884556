"""The RBF kernel as matrix products: an SVM with scikit-learn's solver, without its slow kernel."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from ...features.journal.progress import Progress, step
from ..solver.memory import free_memory
from ..solver.objectives import product
from ..solver.path import LinearPath
from .linear import SVM
from .recipe import SIGMOID, TEMPERATURE, Cut, Decisions, Parameters, Step, Task
from .scaling import shrunken_scaler

_GRID: Final = ((1 / 16, 1.0), (1 / 16, 100.0), (1 / 4, 10.0), (1.0, 10.0))
"""Pairs of gamma, in multiples of scikit-learn's default of one over the number of features, and C.
What a smaller gamma takes away, a larger C gives back, so that of all twelve pairs of 1/64 to 1 and
1 to 100 there is always one of these within 0.006 of the best accuracy, and 0.025 of the best log
loss, on cats and dogs, digits, and 105 characters in many typefaces."""

_LANDMARKS: Final = 1024
_LANDMARK_STRENGTHS: Final = (1e-3, 1e-2)

_AT_ONCE: Final = 2**33
"""Multiplications of one product: a tenth of a second, or a few."""
_BYTES: Final = 16
"""Memory per entry of the kernel matrix: in float32, on the way to it, and for the solver."""

_log = logging.getLogger("headstart")


@dataclasses.dataclass(frozen=True)
class Rbf:
    """A support vector machine with an RBF kernel, on standardised features.

    Where the kernel matrix would take more than half of the free memory, which is then logged, the
    kernel is approximated by 1,024 landmarks (Nystroem; Williams & Seeger 2000) and the machine is
    linear in them.
    """

    name: str = "svm-rbf"
    searches: bool = True
    streams: bool = False
    probabilities: None = None
    calibrations: tuple[str, ...] = (SIGMOID, TEMPERATURE)

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """Try the whole grid; a kernel is computed once for all C."""
        grid = _grid(task)
        with step("gamma and C", len(grid) * len(cuts), "machine") as done:
            decided = [list(_counted(_decide(grid, task, cut), done)) for cut in cuts]
        for place, parameters in enumerate(grid):
            judge(Step(parameters, [of_cut[place] for of_cut in decided]))

    def at(
        self,
        parameters: Parameters,
        task: Task,
        cuts: Sequence[Cut],
        start: Any = None,  # noqa: ARG002
    ) -> Step:
        """Fit a machine for every cut."""
        with step("folds", len(cuts), "fold") as done:
            decided = [list(_counted(_decide([parameters], task, cut), done)) for cut in cuts]
        return Step(parameters, [decisions for (decisions,) in decided])

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:  # noqa: ARG002
        """Fit on all rows; keep the support vectors only."""
        everything = np.arange(len(task.codes))
        scaler = shrunken_scaler(task.features, task.shares(everything))
        scaled = scaler.transform(task.features)
        if "landmarks" in parameters:
            nystroem = _nystroem(parameters, task).fit(scaled)
            mapped = dataclasses.replace(task, features=nystroem.transform(scaled))
            (_, second), last = SVM.fit({"C": parameters["C"]}, mapped)
            return [("scale", scaler), ("kernel", nystroem), ("scale_kernel", second), last]
        gamma = parameters["gamma"]
        machine = _svc(parameters, task)
        kernel = _kernel(squared_distances(scaled, scaled), gamma)
        with step("the fit to all images"):
            machine.fit(kernel, task.codes, sample_weight=_weights(task, everything))
        machine.classes_ = task.names
        # Rows that are no support vectors do not count: from here on the machine gets kernels with
        # those that are, in its own order of them, and nothing else is saved.
        support = scaled[machine.support_]
        machine.support_ = np.arange(len(support), dtype=np.int32)
        machine.shape_fit_ = (len(support), len(support))
        machine.n_features_in_ = len(support)
        against = FunctionTransformer(rbf_kernel, kw_args={"Y": support, "gamma": gamma})
        return [("scale", scaler), ("kernel", against), ("classify", machine)]


def _grid(task: Task) -> list[Parameters]:
    (rows, dimension), classes = task.features.shape, len(task.names)
    # Each pair of classes has a machine of its own, with a float64 for every row.
    needed = rows**2 * _BYTES + rows * classes**2 // 2 * 8
    if needed <= free_memory() / 2:
        return [{"C": strength, "gamma": width / dimension} for width, strength in _GRID]
    _log.info(
        "svm-rbf: the kernel of %s vectors takes %.1f GB, more than half of the free memory; it is "
        "approximated by %s landmarks (Nystroem)",
        f"{rows:,}",
        needed / 1e9,
        f"{_LANDMARKS:,}",
    )
    landmarks = {"gamma": 1 / dimension, "landmarks": _LANDMARKS}
    return [{"C": c, **landmarks} for c in _LANDMARK_STRENGTHS]


def _decide(grid: Sequence[Parameters], task: Task, cut: Cut) -> Iterator[list[Decisions]]:
    """Decision values of the held-out rows, for each point of the grid."""
    shares = task.shares(cut.training)
    scaler = shrunken_scaler(task.features[cut.training], shares)
    inside = scaler.transform(task.features[cut.training])
    outside = [scaler.transform(task.features[rows]) for rows in cut.held_out]
    if "landmarks" in grid[0]:
        yield from _decide_by_landmarks(grid, task, cut, inside, outside)
        return
    apart = squared_distances(inside, inside)
    apart_outside = [squared_distances(rows, inside) for rows in outside]
    for gamma, of_gamma in itertools.groupby(grid, key=lambda parameters: parameters["gamma"]):
        kernel = _kernel(apart, gamma)
        across = [_kernel(one, gamma) for one in apart_outside]
        for parameters in of_gamma:
            machine = _svc(parameters, task)
            machine.fit(kernel, task.codes[cut.training], _weights(task, cut.training))
            decisions = [machine.decision_function(rows) for rows in across]
            yield [values.reshape(len(values), -1) for values in decisions]


def _counted(decided: Iterator[list[Decisions]], done: Progress) -> Iterator[list[Decisions]]:
    for decisions in decided:
        done.add(1)
        yield decisions


def _decide_by_landmarks(
    grid: Sequence[Parameters],
    task: Task,
    cut: Cut,
    inside: NDArray[np.floating],
    outside: list[NDArray[np.floating]],
) -> Iterator[list[Decisions]]:
    nystroem = _nystroem(grid[0], task).fit(inside)
    mapped = np.concatenate([nystroem.transform(rows) for rows in (inside, *outside)])
    codes = np.concatenate([task.codes[rows] for rows in (cut.training, *cut.held_out)])
    training, *held_out = np.split(
        np.arange(len(codes)), np.cumsum([len(inside), *map(len, outside)])[:-1]
    )
    path = LinearPath(
        mapped,
        codes,
        len(task.names),
        [training],
        SVM.loss,
        balanced=task.balanced,
        shares=task.shares(np.concatenate([cut.training, *cut.held_out])),
    )
    for parameters in grid:
        yield path.solve(parameters["C"], [held_out])[0]


def squared_distances(
    rows: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Squared Euclidean distances, (n, m), in float32: scikit-learn computes them in float64."""
    apart = np.empty((len(rows), len(others)), np.float32)
    # In parts: nothing else is done by Python meanwhile, an interrupt is not heard.
    size = max(1, _AT_ONCE // max(1, others.size))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        apart[part] = product(rows[part], others, across=True)
    apart *= -2
    apart += np.einsum("ij,ij->i", rows, rows)[:, None]
    apart += np.einsum("ij,ij->i", others, others)
    np.maximum(apart, 0, out=apart)
    return apart


def _kernel(apart: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    kernel = apart * np.float32(-gamma)
    np.exp(kernel, out=kernel)
    return kernel


def _svc(parameters: Parameters, task: Task) -> SVC:
    # Where rows are views, scikit-learn's "balanced" would count them instead of images.
    class_weight = task.class_weight if task.image is None else None
    return SVC(kernel="precomputed", C=parameters["C"], class_weight=class_weight)


def _weights(task: Task, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
    return None if task.image is None else task.weights(rows)


def _nystroem(parameters: Parameters, task: Task) -> Nystroem:
    return Nystroem(
        gamma=parameters["gamma"],
        n_components=int(parameters["landmarks"]),
        random_state=task.seed,
    )
