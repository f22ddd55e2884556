"""What a head says of images: probabilities of classes, and how unlike its own images they are."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features.durable.table import in_html
from ...features.errors import HeadError, count
from .. import soundness
from ..examples.augmented import Augmented
from ..solver.memory import free_memory
from ..solver.rows import Matrix, Stored

_MOST_NAMES: Final = 5  # in one line
_MOST_ROWS: Final = 10  # of a small table


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """The predictions of a head for N rows.

    Attributes
    ----------
    label_names : list of K str
        Classes, sorted.
    probabilities : ndarray of float64, shape (N, K)
        One column per class; rows sum to one.
    novelty : ndarray of float64, shape (N,)
        How unlike the training images each is; above 1 it is unfamiliar.
    copies : ndarray of bool, shape (N,)
        Whether each is a training image or a near-copy of one, whose label it knew before.
    """

    label_names: list[str]
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]
    copies: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.zeros(0, np.bool_))

    def __repr__(self) -> str:
        counts = collections.Counter(self.labels.tolist()).most_common()
        shown = first_names([f"{number:,} {name}" for name, number in counts]) or "none"
        unfamiliar = int(self.unfamiliar.sum())
        return f"Prediction({len(self.novelty):,} images: {shown}; {unfamiliar:,} unfamiliar)"

    def _repr_html_(self) -> str:
        counts = collections.Counter(self.labels.tolist())
        return counted(counts, {"unfamiliar": int(self.unfamiliar.sum())})

    @property
    def labels(self) -> NDArray[np.object_]:
        """(N,) names, as Python texts: the most probable class of each row."""
        # As an array of texts, each row would have the length of the longest name.
        names = np.array(self.label_names, object)
        labels: NDArray[np.object_] = names[self.probabilities.argmax(axis=1)]
        return labels

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(N,): the probability of that class."""
        confidences: NDArray[np.float64] = self.probabilities.max(axis=1)
        return confidences

    @property
    def unfamiliar(self) -> NDArray[np.bool_]:
        """(N,): whether an image is unlike the training images; its label should be checked."""
        return self.novelty > 1

    @property
    def ranking(self) -> NDArray[np.intp]:
        """(N, K) indices into `label_names`, most probable first; ties go by name."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")


def predicted(pipeline: Any, features: Matrix, views: Augmented | None) -> NDArray[np.float64]:
    """(N, D) images, and further views to take the mean over -> (N, K) class probabilities."""
    if isinstance(features, Stored):
        _require_room(len(features), len(pipeline.classes_))
    found = soundness.probabilities(pipeline, features)
    if views is None:
        return found
    start = 0
    for part in soundness.in_parts(pipeline, views.features):
        np.add.at(found, views.image[start : start + len(part)], part)
        start += len(part)
    found /= (1 + np.bincount(views.image, minlength=len(found)))[:, None]
    return found


def _require_room(rows: int, classes: int) -> None:
    needed, free = 8 * rows * classes, free_memory()
    if needed > free:
        raise HeadError(
            f"the probabilities of {rows:,} images and {classes:,} classes take {needed / 1e9:.1f} "
            f"GB of memory, and {free / 1e9:.1f} GB are free; `headstart predict` takes the images "
            f"in parts"
        )


def mean_of_views(
    values: NDArray[np.float64], image: NDArray[np.intp], images: int
) -> NDArray[np.float64]:
    """(R, K) values of views, and which image each is of -> (images, K) means over its views."""
    total = np.zeros((images, values.shape[1]))
    np.add.at(total, image, values)
    means: NDArray[np.float64] = total / np.bincount(image, minlength=images)[:, None]
    return means


def counted(counts: collections.Counter[str], more: Mapping[str, int]) -> str:
    """How often each class was predicted, and what else there is to count, for a notebook."""
    rows = [(name, f"{number:,}") for name, number in counts.most_common(_MOST_ROWS) if number]
    if len(counts) > _MOST_ROWS:
        others = counts.total() - sum(number for _, number in counts.most_common(_MOST_ROWS))
        rows.append((f"{len(counts) - _MOST_ROWS:,} others", f"{others:,}"))
    rows += [(name, f"{number:,}") for name, number in more.items()]
    return in_html(count(counts.total(), "image"), rows, ("predicted", "images"))


def first_names(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
