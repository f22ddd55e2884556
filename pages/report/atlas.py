"""Places of images -> the points of a map, coloured by class."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 720
HEIGHT: Final = 520
_MARGIN: Final = 10
COLOURS: Final = 8
"""Classes that have a colour and a shape of their own; eyes tell no more apart."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the map: where it is, whose image it is of, and how it is drawn."""

    x: float
    y: float
    row: int | None
    code: int
    """Of its class, among the classes of the map."""
    colour: int
    """`COLOURS` if it has none of its own."""
    wrong: bool


@dataclasses.dataclass(frozen=True)
class Atlas:
    """The points, and the classes in the map: the most frequent first."""

    points: tuple[Point, ...]
    classes: tuple[tuple[str, int], ...]
    """Name and number of points."""

    @classmethod
    def of(
        cls,
        places: NDArray[np.floating],
        rows: Sequence[int | None],
        labels: Sequence[str],
        wrong: Sequence[bool],
    ) -> "Atlas":
        """(N, 2) places from 0 to 1; row, label and whether it is a mistake of each of N images."""
        frequent = collections.Counter(sorted(labels)).most_common()
        codes = {name: code for code, (name, _) in enumerate(frequent)}
        size = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
        spots = np.round(_MARGIN + places * size, 1).tolist()
        return cls(
            tuple(
                Point(x, y, row, codes[label], min(codes[label], COLOURS), is_wrong)
                for (x, y), row, label, is_wrong in zip(spots, rows, labels, wrong, strict=True)
            ),
            tuple(frequent),
        )
