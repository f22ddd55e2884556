"""Provenance: everything that can change a vector, and the fingerprint that sums it up."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from ..errors import FeatureFileError
from ..layout import FEATURE_DTYPES

INT8: Final = "int8"
PRECISIONS: Final = ("f32", "bf16", INT8)
"""Arithmetic that a backbone can run in; in int8 its graph is one of its own."""

MOST_PIXELS: Final = 1 << 12
"""Side of a square input: eight times what the largest backbone was trained on (480)."""
_MOST_NUMBERS: Final = 1 << 24
"""In a vector: more than any backbone gives."""
_LONGEST: Final = 1000  # characters of a text; those in use have up to about 120


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Provenance:
    """How the vectors of a feature file were computed.

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

    def __repr__(self) -> str:
        return (
            f"Provenance({self.backbone} at {self.size} px, {self.precision}, {self.fit}, "
            f"{self.dtype}, weights {self.weights_digest[:8]}...)"
        )

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII; equal provenances give equal bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` wrote.

        Raises
        ------
        FeatureFileError
            If a field is missing, unknown, of the wrong type or out of range.
        """
        try:
            return cls.checked(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise FeatureFileError(f"the recorded provenance cannot be read: {error}") from error

    @classmethod
    def checked(cls, values: object) -> Provenance:
        """Take fields that were read from a file of anybody's.

        Raises
        ------
        FeatureFileError
            As `from_json` does.
        """
        fault = _fault(values, {field.name: str(field.type) for field in dataclasses.fields(cls)})
        if fault:
            raise FeatureFileError(f"the recorded provenance cannot be read: {fault}")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON (hexadecimal)."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()


def _fault(values: object, fields: Mapping[str, str]) -> str:
    """Why values cannot be a provenance with these fields (name -> type); "" if they can."""
    if not isinstance(values, dict):
        return f"it is a {type(values).__name__}, not an object"
    wrong = [str(name) for name in values.keys() ^ fields.keys()]
    if wrong:
        return f"fields are missing or unknown: {_short(', '.join(sorted(wrong)))}"
    for name, kind in fields.items():
        if type(values[name]).__name__ != kind:
            return f"{name} should be {kind}, received {_short(repr(values[name]))}"
        if kind == "str" and len(values[name]) > _LONGEST:
            return f"{name} has {len(values[name])} characters"
    for name, most in (("size", MOST_PIXELS), ("dimension", _MOST_NUMBERS)):
        if not 0 < values[name] <= most:
            return f"{name} should be 1 to {most}, received {_short(str(values[name]))}"
    for name, choices in (("precision", PRECISIONS), ("dtype", FEATURE_DTYPES)):
        if values[name] not in choices:
            return f"{name} should be {' or '.join(choices)}, received {_short(values[name])}"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
