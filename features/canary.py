"""The canary: vectors of built-in test images, compared before anything is mixed or predicted.

Version strings cannot tell whether two machines, engines or libraries compute the same vectors;
embedding the same few images on both can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .errors import ProvenanceMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

TOLERANCES: Final[Mapping[str, float]] = {"f32": 1e-3, "bf16": 5e-2}
"""Largest relative distance, ``|a - b| / |b|``, between two vectors of one image, by the precision
in which both were computed.

Engines in float32 agree within 2e-4 and float16 storage rounds by at most 2**-11 = 5e-4. bfloat16
keeps eight bits of a number and engines round at different places: Keras and OpenVINO came out 2e-3
(VGG16) to 2.5e-2 (Xception at 299 pixels) apart, as far as either is from float32. 5e-2 is a cosine
of 0.99875; where engines differ by more, as with MobileNetV2 (9e-2), their vectors do not mix.
Weights of another training run differ by the order of 1.
"""

PRECISIONS: Final = tuple(TOLERANCES)


def distance(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """Largest relative distance between the vectors of one image; infinite if shapes differ."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))


def require_agreement(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    precision: str,
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
    precision : str
        In which they were computed; one of `PRECISIONS`.
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
    allowed = TOLERANCES[precision]
    if not apart <= allowed:
        raise ProvenanceMismatch(
            f"the test images come out differently on {this} than on {that}: relative distance "
            f"{apart:.2g}, at most {allowed:g} is allowed. {remedy}"
        )
