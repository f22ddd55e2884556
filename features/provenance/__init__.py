"""Provenance: everything that can change a vector, and the fingerprint that sums it up."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Final, TypeAlias

from numpy.typing import NDArray

from .given import GIVEN as GIVEN
from .given import Given as Given
from .recorded import Recorded, parsed

IMAGES: Final = "images"
INT8: Final = "int8"
PRECISIONS: Final = ("f32", "bf16", INT8)
"""Arithmetic that a backbone can run in; in int8 its graph is one of its own."""

MOST_PIXELS: Final = 1 << 12
"""Side of a square input: eight times what the largest backbone was trained on (480)."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Provenance(Recorded):
    """How the vectors of images were computed, by a backbone of ours: the kind ``images``.

    Two files may be compared, joined or scored by the same head only if their provenances are
    equal. The engine that ran the graph is not part of it: engines must agree within tolerance,
    and the canary checks that they do.

    Attributes
    ----------
    backbone : str
        Name in ``keras.applications``.
    weights_digest : str
        SHA-256 over the weight arrays, in the order of the model, or over the quantised graph
        (hexadecimal).
    pooling : str
        How the last feature map becomes one vector: ``"avg"``.
    size : int
        Side of the square input, in pixels.
    dimension : int
        Length of a vector.
    decode : str
        Policy for EXIF, colour, alpha, 16 bits and animations.
    resize : str
        Resampling kernel.
    fit : str
        ``"stretch"``, ``"crop"`` or ``"pad"``: how an image becomes square.
    normalisation : str
        The function that maps 0..255 to what the backbone was trained on.
    precision : str
        Arithmetic of the graph: ``"f32"``, ``"bf16"`` or ``"int8"``.
    dtype : str
        dtype of the stored vectors: ``"float32"`` or ``"float16"``.
    preprocessing_version : int
        Raised by hand when decoding or resizing changes the pixels of any image.
    """

    kind: dataclasses.InitVar[str] = IMAGES
    backbone: str
    weights_digest: str
    pooling: str
    size: int
    dimension: int
    decode: str
    resize: str
    fit: str
    normalisation: str
    precision: str
    dtype: str
    preprocessing_version: int

    KIND: ClassVar = IMAGES
    RANGES: ClassVar = {**Recorded.RANGES, "size": MOST_PIXELS}
    CHOICES: ClassVar = {**Recorded.CHOICES, "precision": PRECISIONS}

    def __repr__(self) -> str:
        return (
            f"Provenance({self.backbone} at {self.size} px, {self.precision}, {self.fit}, "
            f"{self.dtype}, weights {self.weights_digest[:8]}...)"
        )

    @property
    def maker(self) -> str:
        """What made the vectors, in a few words."""
        return f"{self.backbone} at {self.size} px"

    @property
    def role(self) -> str:
        """What `maker` is."""
        return "backbone"

    @property
    def noun(self) -> str:
        """What a row is of."""
        return "image"

    @property
    def remedy(self) -> str:
        """What to do where a file does not fit a head of such vectors."""
        return (
            "Extract the images again with the settings and library versions of the head "
            "(`headstart info HEAD`), or train a head on this file."
        )

    @property
    def labelling(self) -> str:
        """How examples get labels."""
        return (
            "put the images of each class into a folder of its own, or give a manifest with a "
            "'label' column, and run `headstart extract` again (nothing is embedded twice)"
        )

    def takes(self, canary: NDArray[Any]) -> bool:
        """Whether (C, D) vectors of test images can be of this provenance."""
        return len(canary) > 0 and super().takes(canary)

    @property
    def graph_digest(self) -> str:
        """SHA-256 of the quantised graph that a file of such vectors carries; "" if it has none."""
        return self.weights_digest if self.precision == INT8 else ""


Made: TypeAlias = Provenance | Given
"""How vectors were made: a kind of provenance."""


def read(text: str) -> Made:
    """The provenance, of either kind, that `to_json` wrote.

    Raises
    ------
    FeatureFileError
        If a field is missing, unknown, of the wrong type or out of range.
    """
    return checked(parsed(text))


def checked(values: object) -> Made:
    """Fields of either kind that were read from a file of anybody's; errors as of `read`."""
    kind = values.get("kind") if isinstance(values, dict) else None
    return Given.checked(values) if kind == GIVEN else Provenance.checked(values)
