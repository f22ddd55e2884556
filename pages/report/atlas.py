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
    """The points, those without a label below; the classes in the map, the most frequent first."""

    points: tuple[Point, ...]
    classes: tuple[tuple[str, int], ...]
    """Name and number of points."""
    unlabelled: int
    """Points without a label: their code is that after the last class, their colour none."""
    order: tuple[int, ...]
    """Which of the N images each point is."""

    @classmethod
    def of(
        cls,
        places: NDArray[np.floating],
        rows: Sequence[int | None],
        labels: Sequence[str | None],
        wrong: Sequence[bool],
    ) -> "Atlas":
        """(N, 2) places from 0 to 1; row, label and whether it is a mistake of each of N images."""
        known = sorted(label for label in labels if label is not None)
        frequent = collections.Counter(known).most_common()
        codes: dict[str | None, int] = {name: code for code, (name, _) in enumerate(frequent)}
        colours = {name: min(code, COLOURS) for name, code in codes.items()} | {None: COLOURS}
        codes[None] = len(frequent)
        size = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
        spots = np.round(_MARGIN + places * size, 1).tolist()
        order = sorted(range(len(labels)), key=lambda place: labels[place] is not None)
        points = []
        for place in order:
            (x, y), label = spots[place], labels[place]
            points.append(Point(x, y, rows[place], codes[label], colours[label], wrong[place]))
        return cls(tuple(points), tuple(frequent), len(labels) - len(known), tuple(order))
