"""Recipes of heads, and the tasks, cuts and steps that they work on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..solver.rows import Matrix
from ..solver.standard import balancing

Decisions = NDArray[np.floating]
"""(n, c) decision values: one column for two classes, else one per class."""

Parameters = dict[str, float]

Probabilities = Callable[[Decisions], NDArray[np.float64]]
"""(n, c) decision values -> (n, K) probabilities."""


SIGMOID: Final = "sigmoid"
TEMPERATURE: Final = "temperature"
"""Kinds of calibration, as scikit-learn names them."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows to learn from, and how: N images, and further views of them if there are any."""

    features: Matrix
    """(R, D), the images themselves first; in a file, if they are too many for the memory."""
    codes: NDArray[np.intp]
    """(R,) classes, as indices into `names`."""
    names: NDArray[np.str_]
    """(K,) sorted."""
    balanced: bool
    """Whether all classes weigh the same, however many rows they have."""
    seed: int
    """Of all random draws."""
    image: NDArray[np.intp] | None = None
    """(R,): which of the images each row is a view of; None if each is an image of its own."""

    @property
    def labels(self) -> NDArray[np.str_]:
        """(R,) names, for classifiers whose classes have to be names from the beginning.

        An array as wide as the longest name: recipes of our own fit `codes` and name the classes
        afterwards.
        """
        labels: NDArray[np.str_] = self.names[self.codes]
        return labels

    @property
    def class_weight(self) -> str | None:
        """As scikit-learn's classifiers take it."""
        return "balanced" if self.balanced else None

    def shares(self, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """What some rows count for, so that all images count the same; None if all are images."""
        if self.image is None:
            return None
        views = np.bincount(self.image[rows])
        shares: NDArray[np.float64] = 1 / views[self.image[rows]]
        return shares

    def weights(self, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Weights of some rows; None if all are one."""
        shares = self.shares(rows)
        return balancing(self.codes[rows], shares) if self.balanced else shares

    def views_of(self, images: NDArray[np.intp]) -> NDArray[np.intp]:
        """All rows of some images, sorted."""
        if self.image is None:
            return np.sort(images)
        return np.flatnonzero(np.isin(self.image, images))


class Cut(NamedTuple):
    """Rows to train on, and sets of rows to decide about."""

    training: NDArray[np.intp]
    held_out: tuple[NDArray[np.intp], ...]


class Step(NamedTuple):
    """Decisions of the classifiers of all cuts, with one choice of parameters."""

    parameters: Parameters
    decisions: list[list[Decisions]]
    """For each cut, and each of its sets of held-out rows, (n, c) values."""
    leg: int | None = None
    """Which direction of a walk it belongs to, the first being 0. A choice that does not advance on
    a leg ignores what comes later on it; one that advances on the first ignores the others."""
    start: Any = None
    """From where `Recipe.fit` with these parameters is nearly done, if the recipe can use it."""


class Recipe(Protocol):
    """How one kind of head is made."""

    @property
    def name(self) -> str:
        """As given to ``--head``."""

    @property
    def searches(self) -> bool:
        """Whether there are parameters to choose."""

    @property
    def streams(self) -> bool:
        """Whether `at` and `fit` take features that are in a file."""

    @property
    def probabilities(self) -> Probabilities | None:
        """Turns decision values into probabilities; None if that takes a calibration."""

    @property
    def calibrations(self) -> Sequence[str]:
        """Kinds of calibration that it may take; more than one, and held-out rows choose."""

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """Show steps to `judge`, which returns the share of its choices that each step advances."""

    def at(
        self, parameters: Parameters, task: Task, cuts: Sequence[Cut], start: Any = None
    ) -> Step:
        """The step of these parameters; from a `start` as of `fit`."""

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:
        """Fit on all rows: the named steps of a pipeline."""


def chosen_codes(decisions: Decisions) -> NDArray[np.intp]:
    """(n, c) decision values -> (n,) indices of the classes that they speak for."""
    if decisions.shape[1] == 1:
        return np.asarray(decisions[:, 0] > 0, np.intp)
    return np.asarray(decisions.argmax(axis=1))
