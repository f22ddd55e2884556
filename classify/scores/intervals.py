"""Right and wrong predictions -> 95% intervals of accuracies and of their differences."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

CONFIDENCE: Final = 0.95
_Z: Final = float(norm.ppf((1 + CONFIDENCE) / 2))


def accuracy_interval(
    right: NDArray[np.bool_], identities: NDArray[np.uint64]
) -> tuple[float, float]:
    """Interval of the share of (N,) rows that are right (Wilson 1927, no continuity correction).

    Rows of one identity are one image and right or wrong together, so N is replaced by the
    effective number of images, N^2 / sum of (rows of an image)^2 (Kish 1965).
    """
    _, copies = np.unique(identities, return_counts=True)
    number = len(right) ** 2 / np.sum(copies.astype(np.float64) ** 2)
    share = right.mean()
    centre = share + _Z**2 / (2 * number)
    spread = _Z * np.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    shrunk = 1 + _Z**2 / number
    return max(float((centre - spread) / shrunk), 0.0), min(float((centre + spread) / shrunk), 1.0)


def paired_difference(
    right: NDArray[np.bool_], other: NDArray[np.bool_], identities: NDArray[np.uint64]
) -> tuple[float, float, float]:
    """By how much one accuracy is above another on the same (N,) rows; low and high end of that.

    Images, not rows, are the independent observations. The interval is the normal one after adding
    half an observation to each of the four outcomes (Agresti & Min 2005, Statistics in Medicine
    24:729), which keeps it honest for few images and few differences.
    """
    apart = right.astype(np.float64) - other
    _, image = np.unique(identities, return_inverse=True)
    of_image = np.bincount(image, apart) / np.bincount(image)
    number = len(of_image) + 2
    mean = of_image.sum() / number
    spread = _Z * np.sqrt((((of_image**2).sum() + 1) / number - mean**2) / number)
    return float(of_image.mean()), float(mean - spread), float(mean + spread)


def in_percent(accuracy: float, interval: tuple[float, float]) -> str:
    """``97.3% (95.1 to 98.6%)``."""
    low, high = interval
    return f"{accuracy:.1%} ({100 * low:.1f} to {high:.1%})"
