"""The canary: vectors of built-in test images, compared before anything is mixed or predicted.

Version strings cannot tell whether two machines, engines or libraries compute the same vectors;
embedding the same few images on both can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .errors import ProvenanceMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE: Final = 1e-3
"""Largest relative distance, ``|a - b| / |b|``, between two vectors of one image.

Engines in float32 agree within 1e-4 and float16 storage rounds by at most 2**-11 = 5e-4; weights
of another training run differ by the order of 1.
"""


def distance(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """Largest relative distance between the vectors of one image; infinite if shapes differ."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))


def require_agreement(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    *,
    this: str,
    that: str,
    remedy: str,
) -> None:
    """Refuse to go on when two canaries of one provenance disagree.

    Parameters
    ----------
    ours, theirs : ndarray of shape (C, D)
        Vectors of the same images.
    this, that : str
        Who computed them, for the message.
    remedy : str
        What the user can do about it, for the message.

    Raises
    ------
    ProvenanceMismatch
        Saying by how much they disagree.
    """
    apart = distance(ours, theirs)
    if not apart <= TOLERANCE:
        raise ProvenanceMismatch(
            f"the test images come out differently on {this} than on {that}: relative distance "
            f"{apart:.2g}, at most {TOLERANCE:g} is allowed. {remedy}"
        )
