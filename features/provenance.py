"""Provenance: everything that can change a vector, and the fingerprint that sums it up."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from .errors import FeatureFileError
from .layout import FORMAT_VERSION


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
        SHA-256 over the weight arrays, in the order of the model (hexadecimal).
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
        Arithmetic of the graph: ``"f32"`` or ``"bf16"``.
    dtype : str
        dtype of the stored vectors: ``"float32"`` or ``"float16"``.
    augmentation : str
        How views after the first are made: ``"none"``.
    preprocessing_version : int
        Raised by hand when decoding or resizing changes the pixels of any image.
    format_version : int
        Version of the file format, FORMAT.md.
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
    augmentation: str
    preprocessing_version: int
    format_version: int = FORMAT_VERSION

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
            If a field is missing, unknown or of the wrong type.
        """
        try:
            values = json.loads(text)
            expected = {field.name: field.type for field in dataclasses.fields(cls)}
            if not isinstance(values, dict) or values.keys() != expected.keys():
                raise ValueError("its fields are not those of format version 1")
            for name, kind in expected.items():
                if type(values[name]).__name__ != kind:
                    raise ValueError(f"{name} should be {kind}, received {values[name]!r}")
        except ValueError as error:
            raise FeatureFileError(f"the recorded provenance cannot be read: {error}") from error
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON (hexadecimal)."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()
