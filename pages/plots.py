"""Scores and learning curves -> PNG files that say what they show."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..classify import LearningCurve, Scores
from ..features import HeadstartError, MissingExtra, durable
from ..features.errors import install_command, printable

_CONFUSION: Final = "confusion.png"
_RELIABILITY: Final = "reliability.png"
_LEARNING_CURVE: Final = "learning-curve.png"

_DPI: Final = 120
_MOST_NUMBERS: Final = 20
"""Classes up to which every cell of a confusion matrix has its number written in."""
_MOST_NAMES: Final = 60
"""Classes up to which every row has its name; of more, every second, third ... has."""
_MOST_OF_A_NAME: Final = 24
_MOST_OF_A_TITLE: Final = 80


def require_matplotlib() -> None:
    """Refuse to draw, before anything else is done, where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra(
            f"--plots: matplotlib is not installed; get it with {install_command('plots')}"
        ) from error
    matplotlib.use("agg")  # no window, no display


def require_plots(folder: Path) -> None:
    """Refuse to draw into a folder, before anything else is done, if that cannot be."""
    require_matplotlib()
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise HeadstartError(f"--plots {folder}: {there} is not a folder; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise HeadstartError(f"--plots {folder}: no permission to write in {there}")
    if there == folder:
        for name in (_CONFUSION, _RELIABILITY, _LEARNING_CURVE):
            durable.require_target(folder / name)


def draw(
    folder: Path, title: str, scores: Scores, curve: LearningCurve | None = None
) -> list[Path]:
    """Draw confusions, reliability and the learning curve into a folder, made if need be.

    The title says what was scored. The paths of the PNG files are returned; each appears whole or
    not at all.
    """
    title = _drawable(title, _MOST_OF_A_TITLE)
    drawn = {_CONFUSION: _confusion(title, scores), _RELIABILITY: _reliability(title, scores)}
    if curve is not None:
        drawn[_LEARNING_CURVE] = _learning_curve(title, curve)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.cannot_write(folder, error, work_kept=False) from error
    paths = [folder / name for name in drawn]
    for path, figure in zip(paths, drawn.values(), strict=True):
        with durable.written(path) as temporary:
            figure.savefig(temporary, dpi=_DPI, format="png")
    return paths


def _figure(width: float, height: float, title: str, across: str, up: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _confusion(title: str, scores: Scores) -> Any:
    from matplotlib.ticker import PercentFormatter

    names, number = list(scores.per_class), len(scores.per_class)
    inches = 0.45 * number if number <= _MOST_NUMBERS else 0.17 * number
    side = min(max(4.5, 2.5 + inches), 14)
    title = f"Confusion matrix, {scores.rows:,} images\n{title}"
    figure, axes = _figure(side + 1, side, title, "predicted class", "true class")
    counts = scores.confusion_matrix()
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(
        image, ax=axes, shrink=0.8, format=PercentFormatter(1, 0), label="share of the true class"
    )
    if number <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            shown = f"{count:,}" if count else "·"
            axes.text(column, row, shown, ha="center", va="center", color=colour, fontsize=9)
    named = range(0, number, -(-number // _MOST_NAMES))
    shown_names = [_drawable(names[place], _MOST_OF_A_NAME) for place in named]
    size = 10 if number <= _MOST_NUMBERS else 7
    axes.set_xticks(named, shown_names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(named, shown_names, fontsize=size, parse_math=False)
    return figure


def _reliability(title: str, scores: Scores) -> Any:
    from matplotlib.ticker import PercentFormatter

    error = f"expected calibration error {scores.calibration_error:.1%}"
    title = f"Reliability, {scores.rows:,} images, {error}\n{title}"
    figure, axes = _figure(5.5, 5.5, title, "confidence of the prediction", "share that is right")
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    confidence = [one["confidence"] for one in scores.reliability]
    accuracy = [one["accuracy"] for one in scores.reliability]
    most = max(one["images"] for one in scores.reliability)
    axes.plot(confidence, accuracy, color="tab:blue", linewidth=1, zorder=2)
    axes.scatter(
        confidence,
        accuracy,
        s=[15 + 250 * one["images"] / most for one in scores.reliability],
        color="tab:blue",
        alpha=0.7,
        zorder=3,
        label="predictions by confidence (area: images)",
    )
    axes.set_xlim(min(1 / len(scores.per_class), *confidence) - 0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9, markerscale=0.5)
    return figure


def _learning_curve(title: str, curve: LearningCurve) -> Any:
    from matplotlib.ticker import NullFormatter, PercentFormatter

    across, up = "training images of each class", "cross-validated accuracy"
    if curve.note:
        across += f", {curve.note}"
    figure, axes = _figure(6.5, 4.5, f"Learning curve\n{title}", across, up)
    sizes = [point.per_class for point in curve.points]
    low, high = zip(*(point.interval for point in curve.points), strict=True)
    accuracy = [point.accuracy for point in curve.points]
    axes.fill_between(sizes, low, high, color="tab:blue", alpha=0.2, label="95% interval")
    axes.plot(sizes, accuracy, "o-", color="tab:blue", label="accuracy")
    axes.axhline(curve.baseline, color="grey", linestyle="--", label="always the commonest class")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize=9)
    return figure


def _drawable(text: str, most: int) -> str:
    """Text that can be drawn, whatever bytes it came from, and that is not too long."""
    text = printable(text).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"
