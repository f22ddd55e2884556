"""Training images -> what a head keeps of them, to tell near-copies of them among others later."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..solver.rows import Matrix, Stored, passes, taken
from .duplicates import NEARER, Likeness, limits, surroundings
from .groups import Grouping
from .space import COMPONENTS, Space, parts, to_length_one

BYTES: Final = 4_500_000
"""With the rest of it, a head of 2,048 features stays at 6 MB."""

_FEWEST: Final = 128
"""Components: with 64 instead of 128, 8% of different photographs are taken for copies instead of
5%, and of thumbnails of 100 pixels 83% are found instead of 93% (at 150 pixels)."""
_LEAST: Final = 0.75
_FEW_LEAST: Final = 6.0
"""No smaller cosine than 0.75 + 6 / n is that of near-copies of n images. What looks like one of
them is not scored, so that errors cost test images: another image has only their n directions to be
described by, and looks the more like one of them, the fewer there are. With a head for 400
photographs, at 150 and 224 pixels, none of 200 others pass for copies; of the copies those are
found that were saved at quality 40 (100 and 100%), cropped by a tenth (98, 100) or a fifth (58,
81), mirrored (99, 100), shot again (99, 100), halved and saved (93, 75), or are thumbnails of 100
(56, 13) or 64 pixels (5, 1). With 0.65, 1% of others pass for copies, and 87 and 97% of crops by a
fifth are found; with 0.6, 3 and 4% pass."""
_MOST: Final = 0.9
_LARGEST: Final = np.iinfo(np.int8).max


@dataclasses.dataclass(frozen=True)
class Seen:
    """Training images as vectors in few dimensions, each number in a byte.

    2,048 features and up to 13,000 images fit in 256 components, 30,000 in 128; of more, as many
    are drawn at random. What a byte rounds off moves a cosine by 0.005 at most.
    """

    mean: NDArray[np.float32]
    """(D,) of the training vectors."""
    axes: NDArray[np.float16]
    """(D, k) of `Space`."""
    vectors: NDArray[np.int8]
    """(n, k): each row to be divided by its length."""
    limits: NDArray[np.float32]
    """(n,) cosines that a near-copy of each exceeds."""
    images: int
    """Training images that there were: n, unless only some could be kept."""

    @classmethod
    def of(
        cls,
        features: Matrix,
        seed: int,
        labels: NDArray[np.intp] | None = None,
        grouping: Grouping | None = None,
    ) -> "Seen":
        """Keep what `BYTES` have room for of (N, D) vectors, one of each image in masses.

        Their `grouping`, if there is one already, spares most of the work.
        """
        number, dimension = features.shape
        components, room = _room(number, dimension)
        rows = np.arange(number) if grouping is None else grouping.images
        space = Space.of(features) if grouping is None else grouping.space
        known = None if grouping is None else grouping.likeness
        if known is not None and len(rows) <= room and space.axes.shape[1] <= components:
            found = known
        else:
            if len(rows) > room:
                rows = np.sort(np.random.default_rng(seed).choice(rows, room, replace=False))
            space = space.first(components)
            of_rows = features if len(rows) == number else taken(features, rows)
            found = Likeness(space.vectors(of_rows), None if labels is None else labels[rows])
        vectors, around = found.vectors[found.kept], found.around[found.kept]
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        bytes_ = np.rint(vectors * (_LARGEST / np.where(largest > 0, largest, 1)))
        return cls(
            space.mean,
            space.axes.astype(np.float16),
            bytes_.astype(np.int8),
            _limits(around, *vectors.shape),
            number,
        )

    def copies(self, features: Matrix) -> NDArray[np.bool_]:
        """Which of (M, D) vectors are of near-copies of a training image, (M,).

        An image among whose neighbours there is nothing special about the training image is none:
        the limits of both hold, as in `Likeness`.
        """
        if isinstance(features, Stored):
            found = [self.copies(block) for block in passes(features, "near-copies")]
            return np.concatenate([np.zeros(0, np.bool_), *found])
        vectors = Space(self.mean, self.axes).vectors(features)
        kept = to_length_one(self.vectors.astype(np.float32))
        around, nearest = surroundings(vectors, kept)
        own = _limits(around, *kept.shape)
        copies = np.zeros(len(vectors), np.bool_)
        rows = np.flatnonzero(nearest > own)
        for part in parts(len(rows), len(kept)):
            cosines = vectors[rows[part]] @ kept.T
            above = cosines > np.maximum(own[rows[part], None], self.limits)
            copies[rows[part]] = above.any(axis=1)
        return copies

    def fault(self, dimension: int) -> str:
        """Why values that were read from a file are impossible; empty if they are not."""
        arrays = (self.mean, self.axes, self.vectors, self.limits)
        if [array.ndim for array in arrays] != [1, 2, 2, 1] or not (
            len(self.mean) == len(self.axes) == dimension
            and self.axes.shape[1] == self.vectors.shape[1] > 0
            and 0 < len(self.vectors) == len(self.limits) <= self.images
        ):
            return "the numbers of features or of images seen in training contradict each other"
        if not all(np.isfinite(array).all() for array in arrays):
            return "what it keeps of its training images has impossible values"
        return ""


def compared(images: int, rows: int, dimension: int) -> int:
    """How many of so many training images, in so many rows, there is room for."""
    return min(images, _room(rows, dimension)[1])


def _room(rows: int, dimension: int) -> tuple[int, int]:
    """Components of each row that are kept, and how many rows then can be."""
    components = min(COMPONENTS, (BYTES - 4 * rows) // (2 * dimension + rows))
    if components < _FEWEST:
        # Not so many that the axes alone would take more than half of it.
        components = max(1, components, min(_FEWEST, BYTES // (4 * dimension)))
    return components, max(1, (BYTES - 2 * dimension * components) // (components + 4))


def least(images: int) -> float:
    """No smaller cosine is that of a near-copy of one of so many, where errors cost."""
    return min(_LEAST + _FEW_LEAST / images, _MOST)


def _limits(around: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    return limits(around, rows, columns, NEARER, least(rows))
