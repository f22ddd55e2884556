"""What the user asked for, checked before anything heavy is loaded."""

import dataclasses
import os
from typing import Any

from ...features.errors import WrongUsage
from ...features.layout import FEATURE_DTYPES
from ...features.origin import INT8, PRECISIONS
from ...features.provenance import IMAGES, MOST_PIXELS, Provenance
from ..images.decode import DECODE_POLICY, FITS, PREPROCESSING_VERSION, RESIZE_POLICY
from .architectures import Architecture, architecture
from .weights import IMAGENET, QUANTISED, WeightsSource


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
        if weights.kind == QUANTISED and precision != INT8:
            raise WrongUsage(
                f"weights {weights.path}: the backbone in this feature file is quantised, and "
                f"computes in {INT8}, not in {precision}; add --precision {INT8} (in Python "
                f"precision={INT8!r}), or give other weights"
            )
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

    @property
    def uncalibrated(self) -> bool:
        """Whether the weights have to be quantised before they can be used as asked."""
        return self.precision == INT8 and self.weights.kind != QUANTISED

    def require_calibrated(self) -> None:
        """Refuse, where there is nothing to calibrate with, what has to be quantised first."""
        if self.uncalibrated:
            raise WrongUsage(
                f"precision {INT8!r}: {self.weights} weights are to be quantised first, which "
                f"`headstart extract --precision {INT8}` does; name the feature file that it made "
                f"by --weights FILE.h5 (in Python weights='FILE.h5')"
            )

    def declared(self) -> dict[str, Any]:
        """The fields of the provenance that are known before the backbone is loaded."""
        quantised = self.weights.kind == QUANTISED
        return {
            **({"weights_digest": self.weights.sha256} if quantised else {}),
            "kind": IMAGES,
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
        computed = {"weights_digest": weights_digest, "dimension": dimension}
        return Provenance(**self.declared() | computed)
