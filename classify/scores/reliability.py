"""Confidences + which were right -> how well calibrated they are, and what noise alone would be."""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .intervals import Groups

_BINS: Final = 15  # of equal width, as in Guo et al. 2017

_DRAWS: Final = (20, 1000)
"""Fewest and most simulations; a thousand tell the noise to a fortieth of it."""
_MOST_VALUES: Final = 2**22
"""Simulated predictions, all together, beyond which there are fewer simulations."""
_AT_ONCE: Final = 2**20


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[dict[str, float], ...]:
    """For each bin of (N,) confidences that is not empty: `Scores.reliability`."""
    bins = _bins(confidence)
    return tuple(
        {
            "confidence": float(confidence[bins == one].mean()),
            "accuracy": float(right[bins == one].mean()),
            "images": int(np.count_nonzero(bins == one)),
        }
        for one in np.unique(bins)
    )


def calibration_error(bins: Iterable[Mapping[str, float]]) -> float:
    """Expected calibration error (Naeini et al. 2015) of what `reliability` returns.

    How far confidence is from accuracy, in the mean over rows.
    """
    apart = [(abs(one["confidence"] - one["accuracy"]), one["images"]) for one in bins]
    return sum(far * rows for far, rows in apart) / sum(rows for _, rows in apart)


def calibration_noise(confidence: NDArray[np.floating], groups: Groups) -> float:
    """Mean calibration error of perfectly calibrated predictions with these (N,) confidences.

    A bin of few rows is off by chance, and the calibration error adds up how far, never which way:
    it is above zero for perfect predictions too, by about a seventh at 30 images (Roelofs et al.
    2022, AISTATS, on its bias). An error of this size says nothing against the probabilities.

    By simulation with a fixed seed: each row is right with the probability that is its confidence.
    Rows of one group are one image, for which one number is drawn.
    """
    bins = _bins(confidence)
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
    confidence = confidence[order].astype(np.float32)
    _, image = np.unique(groups[order], return_inverse=True)
    images, rows = int(image.max()) + 1, len(confidence)
    fewest, most = _DRAWS
    draws = min(max(_MOST_VALUES // rows, fewest), most)
    generator = np.random.default_rng(0)
    total = 0.0
    size = max(1, _AT_ONCE // rows)
    for start in range(0, draws, size):
        luck = generator.random((min(size, draws - start), images), np.float32)
        apart = (luck[:, image] < confidence) - confidence
        total += float(np.abs(np.add.reduceat(apart, starts, axis=1)).sum(dtype=np.float64))
    return total / draws / rows


def _bins(confidence: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.minimum((confidence * _BINS).astype(np.intp), _BINS - 1)
