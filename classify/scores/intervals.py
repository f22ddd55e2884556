"""Right and wrong predictions -> 95% intervals of accuracies and of their differences."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, studentized_range
from scipy.stats import t as student

CONFIDENCE: Final = 0.95
_Z: Final = float(norm.ppf((1 + CONFIDENCE) / 2))

Groups = NDArray[np.integer[Any]]
"""(N,) numbers: rows of one group are one image."""


def accuracy_interval(right: NDArray[np.bool_], groups: Groups) -> tuple[float, float]:
    """Interval of the share of (N,) rows that are right (Wilson 1927, no continuity correction).

    Rows of one group are one image and right or wrong together, so N is replaced by the effective
    number of images, N^2 / sum of (rows of an image)^2 (Kish 1965).
    """
    _, copies = np.unique(groups, return_counts=True)
    number = len(right) ** 2 / np.sum(copies.astype(np.float64) ** 2)
    return _wilson(right.mean(), number)


def _wilson(share: float, number: float) -> tuple[float, float]:
    centre = share + _Z**2 / (2 * number)
    spread = _Z * np.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    shrunk = 1 + _Z**2 / number
    return max(float((centre - spread) / shrunk), 0.0), min(float((centre + spread) / shrunk), 1.0)


def drawn_interval(
    right: Sequence[NDArray[np.bool_]], groups: Groups, drawn: float
) -> tuple[float, float]:
    """Interval of the accuracy to expect of training images that are drawn anew, and of new images.

    Two things make an accuracy differ from it. Which images are scored: as for
    `accuracy_interval`, less what several draws average out. And which are trained on, which moves
    all rows of a fold together: draws whose accuracies vary by v give their mean a variance of
    v (1 / draws + r / (1 - r)), where r is the correlation of two draws (Nadeau & Bengio 2003,
    Machine Learning 52:239): the share of images that they have in common. In simulations 91 to 98%
    of the intervals hold the truth, where those of one draw, on the scored images alone, are down
    to 69%.

    Parameters
    ----------
    right : sequence of ndarray of shape (draws, n)
        Of each fold, which of its rows were right after each draw; at least two draws.
    groups : ndarray of shape (N,)
        Of the rows of all folds, one fold after the other; rows of one group are one image, and
        in the same fold.
    drawn : float
        Share of the images there were to draw from that a draw takes.
    """
    draws, rows = len(right[0]), len(groups)
    _, image, copies = np.unique(groups, return_inverse=True, return_counts=True)
    squares = np.sum(copies.astype(np.float64) ** 2)
    free = len(right) * (draws - 1)
    wider = student.ppf((1 + CONFIDENCE) / 2, free) / _Z
    places = np.cumsum([of_fold.shape[1] for of_fold in right])[:-1]
    together = [_together(*one) for one in zip(right, np.split(image, places), strict=True)]
    moved = max(float(np.mean(together)), 0.0) * wider**2
    drawn = min(drawn, 1 - 1 / (rows + 1))  # all of them: then draws do not differ either
    pooled = moved * drawn / (1 - drawn)

    often = np.concatenate([of_fold.mean(axis=0) for of_fold in right])
    share = float(often.mean())
    if not 0 < share < 1:
        return _wilson(share, rows**2 / squares)
    # Images are right after all draws or after none, or all of them after some: somewhere between
    # lies how much an image counts. Few wrong ones cannot tell; then it counts as with one draw.
    one = (squares / rows) ** 2
    scattered = np.sum(np.bincount(image, often - share) ** 2) + one
    counted = scattered / (share * (1 - share) * squares + one)
    scored = share * (1 - share) * counted * squares / rows**2
    # An image that is hard to tell also misleads those who learn from it, so that the two go
    # together: in simulations about half as much as they could at most.
    variance = scored + moved / (draws * len(right)) + pooled + np.sqrt(scored * pooled)
    return _wilson(share, share * (1 - share) / variance)


def _together(right: NDArray[np.bool_], image: NDArray[np.intp]) -> float:
    """By how much draws move all (draws, n) rows of a fold: the variance of their accuracies.

    Less what each image does of its own from draw to draw; by chance it may be negative.
    """
    _, own = np.unique(image, return_inverse=True)
    of_image = np.stack([np.bincount(own, one) for one in right])
    apart = of_image.sum(axis=1).var(ddof=1) - of_image.var(axis=0, ddof=1).sum()
    pairs = right.shape[1] ** 2 - np.sum(np.bincount(own).astype(np.float64) ** 2)
    return float(apart / max(pairs, 1))


def paired_difference(
    right: NDArray[np.bool_], other: NDArray[np.bool_], groups: Groups, compared: int = 2
) -> tuple[float, float, float]:
    """By how much one accuracy is above another on the same (N,) rows; low and high end of that.

    Images, which the `groups` number, and not rows are the independent observations. The interval
    is the normal one after adding half an observation to each of the four outcomes (Agresti & Min
    2005, Statistics in Medicine 24:729), which keeps it honest for few images and few differences.

    Where the two are among several that are `compared`, all intervals of any two of them hold
    together, so that the best may be picked first (`critical_value`).
    """
    apart = right.astype(np.float64) - other
    _, image, copies = np.unique(groups, return_inverse=True, return_counts=True)
    usual = len(apart) / len(copies)
    # Sums over the rows of an image, as ratios to the rows of a usual image.
    of_image, share = np.bincount(image, apart) / usual, copies / usual
    number = len(copies) + 2
    mean = of_image.sum() / number
    squares = np.sum((of_image - share * mean) ** 2) + 1 + 2 * mean**2
    spread = critical_value(compared) * np.sqrt(squares) / number
    return float(apart.mean()), float(mean - spread), float(mean + spread)


@functools.cache
def critical_value(compared: int) -> float:
    """How many standard errors each way make all intervals of differences hold together.

    The 95th percentile of the studentised range of so many values, by the root of 2 (Tukey 1953;
    1.96 for two, 3.03 for eight). It is too large rather than too small where their variances
    differ (Hayter 1984, Annals of Statistics 12:61).
    """
    return float(studentized_range.ppf(CONFIDENCE, max(compared, 2), np.inf) / np.sqrt(2))


def in_percent(accuracy: float, interval: tuple[float, float]) -> str:
    """``97.3% (95.1 to 98.6%)``."""
    low, high = interval
    return f"{accuracy:.1%} ({100 * low:.1f} to {high:.1%})"
