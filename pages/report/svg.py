"""Scores and curves -> where lines and points of a plot are; the templates draw them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final

from ...classify import LearningCurve, Scores
from ...classify.studies.curve import CurvePoint

_WIDTH: Final = 420
_HEIGHT: Final = 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 14, 22, 42
_LARGEST: Final = 11
"""Radius of the point that stands for the most images."""
_TICKS: Final = 5


@dataclasses.dataclass(frozen=True)
class Dot:
    """A point, and what it says."""

    x: float
    y: float
    radius: float
    text: str


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot with two axes: everything in pixels of its own."""

    across: list[tuple[float, str]]
    """Ticks: where, and what stands there."""
    up: list[tuple[float, str]]
    line: str
    """The data of a path, as of the next two."""
    reference: str
    dots: list[Dot]
    band: str = ""
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    top: int = _TOP
    right: int = _WIDTH - _RIGHT
    bottom: int = _HEIGHT - _BOTTOM


def reliability(scores: Scores) -> Plot:
    """How often predictions are right, by how sure they are."""
    bins = scores.reliability
    most = max(one["images"] for one in bins)
    lowest = min(1 / len(scores.per_class), *(one["confidence"] for one in bins))
    ticks = _ticks(lowest, 1)
    x, y = _scale(ticks[0], 1, across=True), _scale(0, 1, across=False)
    corners = [(x(ticks[0]), y(ticks[0])), (x(1), y(1))]
    return Plot(
        across=[(x(one), _percent(one)) for one in ticks],
        up=[(y(one), _percent(one)) for one in _ticks(0, 1)],
        line=_path([(x(one["confidence"]), y(one["accuracy"])) for one in bins]),
        reference=_path(corners),
        dots=[
            Dot(
                x(one["confidence"]),
                y(one["accuracy"]),
                _short(max(2.5, _LARGEST * math.sqrt(one["images"] / most))),
                f"{one['images']:,} images, {one['confidence']:.1%} sure in the mean: "
                f"{one['accuracy']:.1%} are right",
            )
            for one in bins
        ],
    )


def learning(curve: LearningCurve) -> Plot:
    """Accuracy by the number of training images of each class."""
    points = curve.points
    first, last = (math.log2(points[place].per_class) for place in (0, -1))
    lowest = min(curve.baseline, *(point.interval[0] for point in points))
    ticks = _ticks(lowest, 1)
    x, y = _scale(first, max(last, first + 1), across=True), _scale(ticks[0], 1, across=False)
    places = [(x(math.log2(point.per_class)), point) for point in points]
    upper = [(at, y(point.interval[1])) for at, point in places]
    lower = [(at, y(point.interval[0])) for at, point in places]
    base = y(curve.baseline)
    return Plot(
        across=[(at, f"{point.per_class:,}") for at, point in _apart(places)],
        up=[(y(one), _percent(one)) for one in ticks],
        line=_path([(at, y(point.accuracy)) for at, point in places]),
        reference=_path([(_LEFT, base), (_WIDTH - _RIGHT, base)]),
        band=_path([*upper, *reversed(lower)]) + "z",
        dots=[
            Dot(
                at,
                y(point.accuracy),
                3.5,
                f"{point.per_class:,} images of each class: {point.accuracy:.1%} "
                f"({100 * point.interval[0]:.1f} to {point.interval[1]:.1%})",
            )
            for at, point in places
        ],
    )


def _apart(places: Sequence[tuple[float, CurvePoint]]) -> list[tuple[float, CurvePoint]]:
    """Ticks whose texts do not touch; the last is one of them."""
    kept = [places[-1]]
    for place in reversed(places[:-1]):
        if kept[-1][0] - place[0] >= 36:
            kept.append(place)
    return kept[::-1]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` up to `high`, about `_TICKS` of them."""
    step = next(
        one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if (high - low) / one <= _TICKS + 0.5
    )
    first = math.floor(low / step + 1e-9)
    number = round(high / step)
    return [round(one * step, 4) for one in range(first, number + 1)]


def _scale(low: float, high: float, *, across: bool) -> Callable[[float], float]:
    start, end = (_LEFT, _WIDTH - _RIGHT) if across else (_HEIGHT - _BOTTOM, _TOP)
    return lambda value: _short(start + (end - start) * (value - low) / (high - low))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points)


def _short(number: float) -> float:
    return round(number, 1)


def _percent(share: float) -> str:
    return f"{100 * share:g}%"
