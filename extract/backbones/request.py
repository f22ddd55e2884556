"""What the user asked for, checked before anything heavy is loaded."""

import dataclasses
import os
from typing import Any

from ...features.errors import WrongUsage
from ...features.layout import FEATURE_DTYPES
from ...features.origin import PRECISIONS
from ...features.provenance import MOST_PIXELS, Provenance
from ..images.decode import DECODE_POLICY, FITS, PREPROCESSING_VERSION, RESIZE_POLICY
from .architectures import Architecture, architecture
from .weights import IMAGENET, WeightsSource


@dataclasses.dataclass(frozen=True)
class Request:
    """One way of turning images into vectors."""

    architecture: Architecture
    weights: WeightsSource
    size: int
    """Side of the input, in pixels."""
    fit: str
    """How an image becomes square: one of `FITS`."""
    precision: str
    """Arithmetic of the graph: one of `PRECISIONS`."""
    dtype: str
    """Of the stored vectors."""

    @classmethod
    def checked(
        cls,
        *,
        backbone: str = "Xception",
        weights: str | os.PathLike[str] | WeightsSource = IMAGENET,
        size: int | None = None,
        fit: str = "stretch",
        precision: str = PRECISIONS[0],
        dtype: str = "float32",
    ) -> "Request":
        """Check each value, before anything heavy is loaded, and fill in the defaults."""
        built = architecture(backbone)
        side = built.size if size is None else size
        if side > MOST_PIXELS:
            raise WrongUsage(f"size {side}: at most {MOST_PIXELS} pixels")
        if side < built.minimum:
            raise WrongUsage(
                f"size {side} is too small for {backbone}: at least {built.minimum} "
                f"(its default is {built.size})"
            )
        for name, value, choices in (
            ("fit", fit, FITS),
            ("precision", precision, PRECISIONS),
            ("dtype", dtype, FEATURE_DTYPES),
        ):
            if value not in choices:
                raise WrongUsage(f"{name} {value!r}: use one of {', '.join(choices)}")
        if not isinstance(weights, WeightsSource):
            weights = WeightsSource.named(weights)
        return cls(built, weights, side, fit, precision, dtype)

    @classmethod
    def repeating(cls, provenance: Provenance, weights: WeightsSource) -> "Request":
        """The request that leads to `provenance` again."""
        return cls.checked(
            backbone=provenance.backbone,
            weights=weights,
            size=provenance.size,
            fit=provenance.fit,
            precision=provenance.precision,
            dtype=provenance.dtype,
        )

    def __str__(self) -> str:
        return f"{self.architecture.name} at {self.size} pixels, {self.weights} weights"

    def declared(self) -> dict[str, Any]:
        """The fields of the provenance that are known before the backbone is loaded."""
        return {
            "backbone": self.architecture.name,
            "pooling": "avg",
            "size": self.size,
            "decode": DECODE_POLICY,
            "resize": RESIZE_POLICY,
            "fit": self.fit,
            "normalisation": f"keras.applications.{self.architecture.module}.preprocess_input",
            "precision": self.precision,
            "dtype": self.dtype,
            "preprocessing_version": PREPROCESSING_VERSION,
        }

    def provenance(self, weights_digest: str, dimension: int) -> Provenance:
        """The whole provenance, once the weights are known."""
        return Provenance(**self.declared(), weights_digest=weights_digest, dimension=dimension)
