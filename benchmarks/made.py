"""An origin for vectors that no backbone made, so that files can be sealed without embedding."""

from __future__ import annotations

import numpy as np
from headstart.features import Provenance
from headstart.features.units import Origin


def origin(dimension: int) -> Origin:
    """Of vectors of `dimension` numbers."""
    provenance = Provenance(
        backbone="none",
        weights_digest="0" * 64,
        pooling="avg",
        size=1,
        dimension=dimension,
        decode="none",
        resize="none",
        fit="stretch",
        normalisation="none",
        precision="f32",
        dtype="float32",
        augmentation="none",
        preprocessing_version=1,
    )
    return Origin(provenance, {}, np.ones((8, dimension), np.float32))
