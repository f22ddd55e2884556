"""What made vectors, and the proof: the one place that says whether two sets of them fit."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import ProvenanceMismatch
from .provenance import INT8 as INT8
from .provenance import PRECISIONS as PRECISIONS
from .provenance import Given, Made, Provenance
from .provenance.augmentation import NO_AUGMENTATION, Augmentation

TOLERANCES: Final[Mapping[str, float]] = {"f32": 1e-3, "bf16": 5e-2, INT8: 1e-1}
"""Largest relative distance, ``|a - b| / |b|``, between two vectors of one image, by the precision
in which both were computed.

Engines in float32 agree within 2e-4 and float16 storage rounds by at most 2**-11 = 5e-4. bfloat16
keeps eight bits of a number and engines round at different places: Keras and OpenVINO came out 2e-3
(VGG16) to 2.5e-2 (Xception at 299 pixels) apart, as far as either is from float32. 5e-2 is a cosine
of 0.99875; where engines differ by more, as with MobileNetV2 (9e-2), their vectors do not mix.
One int8 graph (MobileNetV2, ImageNet weights, 150 pixels) came out equal to the bit in any number
of threads, streams and images a call, and with AVX-VNNI, AVX512-VNNI and AVX512-BF16; AMX came out
3.4e-2 from those (8e-2 from f32). 1e-1 is a cosine of 0.995. Without dot products of 8 bits sums of
pairs overflow (AVX2, AVX512 without VNNI): 0.17 to 0.19 from all others, so these do not mix.
Weights of another training run differ by the order of 1.
"""

_WEIGHTS: Final = frozenset({"kind", "path", "sha256"})
"""What is recorded of where weights came from."""

THIS_RUN: Final = "this run"
"""Name of vectors that are being computed here and now."""


def distance(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """Largest relative distance between the vectors of one image; infinite if shapes differ.

    None of `theirs` has the length zero. Of no vectors at all it is 0.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    apart = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    return float(np.max(apart, initial=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """What made vectors, and what proves it; it travels with them.

    Version strings cannot tell whether two machines, engines or libraries compute the same vectors;
    embedding the same few images on both, the canary, can.
    """

    provenance: Made
    """Everything that can change a vector."""
    environment: Mapping[str, Any]
    """Machine, libraries, source and times; recorded, not compared."""
    canary: NDArray[np.floating]
    """Vectors of the built-in test images, (C, D); C is 0 where no images were embedded."""
    name: str = THIS_RUN
    """Whose vectors these are, for messages."""
    remedy: str = ""
    """What the user can do if other vectors do not fit these, for messages."""
    augmentation: Augmentation = NO_AUGMENTATION
    """The views that there are of images; all fit where the images themselves do."""

    def called(self, name: str, remedy: str) -> "Origin":
        """The same, under another name and with another remedy in messages."""
        return dataclasses.replace(self, name=name, remedy=remedy)

    def require_declared(self, fields: Mapping[str, object], name: str = THIS_RUN) -> None:
        """Refuse, before a backbone is loaded, what is known already to differ."""
        mine = self.provenance.declared
        if fields.get("kind", mine["kind"]) != mine["kind"]:
            fields = {"kind": fields["kind"]}  # the others are of that kind alone
        differing = [
            f"{field} is {_shorten(mine[field])} against {_shorten(value)}"
            for field, value in fields.items()
            if value != mine[field]
        ]
        if differing:
            raise ProvenanceMismatch(
                f"{self.name} does not fit {name}: {'; '.join(differing)}. {self.remedy}"
            )

    def require(self, other: "Origin") -> None:
        """Refuse to go on with vectors that were made, or come out, differently from these.

        Given vectors are alike if that is said of them.
        """
        self.require_declared(other.provenance.declared, other.name)
        if isinstance(self.provenance, Given):
            return
        precision = self.provenance.precision
        apart, allowed = distance(other.canary, self.canary), TOLERANCES[precision]
        if apart <= allowed:
            return
        remedy, engine = self.remedy, self.environment.get("engine")
        if precision == INT8:
            remedy += (
                f" In {INT8} processors without dot products of 8 bits (VNNI, AMX, Arm's) compute "
                f"other vectors: use one that has them."
            )
        elif engine and precision != "f32":
            remedy += (
                f" Engines round differently in {precision}: try --engine {engine}, which computed "
                f"{self.name}."
            )
        here = other.name == THIS_RUN
        machine = "this machine" if here else f"the machine that made {other.name}"
        raise ProvenanceMismatch(
            f"the test images come out differently on {machine} than on the one that made "
            f"{self.name}: relative distance {apart:.2g}, at most {allowed:g} is allowed. {remedy}"
        )

    def of_images(self, what: str) -> Provenance:
        """How a backbone made the vectors; if none of ours did, there is no way to do `what`.

        Raises
        ------
        ProvenanceMismatch
            In one line.
        """
        if isinstance(self.provenance, Given):
            raise ProvenanceMismatch(
                f"{self.name}: its vectors were given, made by {self.provenance.maker!r} and not "
                f"by a backbone of headstart, so it cannot {what}; make the vectors by what made "
                f"these, and give them as a feature file (`headstart import`)"
            )
        return self.provenance

    def fits(self, other: "Origin") -> bool:
        """Whether `require` would let the other pass."""
        try:
            self.require(other)
        except ProvenanceMismatch:
            return False
        return True


def environment_fault(environment: object) -> str:
    """Why a value that was read from a file is no recorded environment; "" if it can be one."""
    if not isinstance(environment, dict):
        return f"is a {type(environment).__name__}, not an object"
    weights = environment.get("weights", {})
    if not isinstance(weights, dict):
        return f"has weights that are a {type(weights).__name__}, not an object"
    if weights and (not isinstance(weights.get("kind"), str) or weights.keys() - _WEIGHTS):
        return f"has weights without a kind, or with more than {', '.join(sorted(_WEIGHTS))}"
    if not all(isinstance(value, str | None) for value in weights.values()):
        return "has weights with values that are no texts"
    for name, value in environment.items():
        plain = isinstance(value, str | int | None) or (
            isinstance(value, float) and math.isfinite(value)
        )
        if name != "weights" and not plain:
            return f"has a {type(value).__name__} where a text or number is expected"
    return ""


class HasOrigin:
    """Something whose vectors have an origin, the parts of which it shows as its own."""

    origin: Origin

    @property
    def provenance(self) -> Made:
        """Everything that can change a vector."""
        return self.origin.provenance

    @property
    def augmentation(self) -> Augmentation:
        """The views that there are of images."""
        return self.origin.augmentation

    @property
    def environment(self) -> Mapping[str, Any]:
        """Machine, libraries, source and times; recorded, not compared."""
        return self.origin.environment

    @property
    def canary(self) -> NDArray[np.floating]:
        """(C, D): vectors of the built-in test images; none of given vectors."""
        return self.origin.canary


def _shorten(value: object) -> str:
    text = str(value) or "empty"
    return text[:12] + "..." if len(text) == 64 else text
