"""Feature files whose vectors no backbone made, so that they can be sealed without embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from headstart.features import Provenance
from headstart.features.journal import units
from headstart.features.journal.known import Known
from headstart.features.journal.lock import exclusive
from headstart.features.journal.seal import seal
from headstart.features.origin import Origin
from headstart.features.records import FileStat, Listed, SeenFile


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
        preprocessing_version=1,
    )
    return Origin(provenance, {}, np.ones((8, dimension), np.float32))


def feature_file(
    path: Path, features: np.ndarray, labels: list[str], *, splits: list[str] | None = None
) -> None:
    """Seal (N, D) float32 vectors in a feature file."""
    number = len(features)
    digests = [row.to_bytes(32, "little") for row in range(number)]
    files = [
        SeenFile(FileStat(f"{row:06}".encode(), 1, 1, row), digests[row], 1, 1)
        for row in range(number)
    ]
    listing = [
        Listed(file.stat, label, split)
        for file, label, split in zip(files, labels, splits or ["none"] * number, strict=True)
    ]
    vectors = dict(zip((file.key for file in files), features, strict=True))
    with exclusive(path):
        units.publish(units.folder_of(path), origin(features.shape[1]), files, vectors)
        seal(Known(path), listing)


def embeddings(
    rows: int, classes: int, *, apart: float = 1.0, dimension: int = 2048, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors with the looks of pooled embeddings: (rows, dimension) float32 and (rows,) classes.

    Positive, of very different scales, and correlated: the eigenvalues of their correlations fall
    like those of MobileNetV2's vectors of photographs (the first ten 161 to 23 against 102 to 18,
    the hundredth 3.1 against 2.7). `apart` is how far the classes are from each other.
    """
    hidden = 400
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, hidden)).astype(np.float32)
    codes = generator.permutation(np.arange(rows) % classes)
    latent = generator.normal(size=(rows, hidden)).astype(np.float32)
    latent += 0.2 * apart * centres[codes] * (np.arange(hidden) >= 20)
    latent *= (np.arange(1, hidden + 1) ** -0.5).astype(np.float32)
    vectors = latent @ generator.normal(size=(hidden, dimension)).astype(np.float32)
    vectors /= vectors.std()
    vectors += 0.3 * generator.standard_normal((rows, dimension), np.float32)
    vectors = np.log1p(np.exp(2 * vectors - 1.5))
    vectors *= generator.lognormal(-1.5, 0.7, dimension).astype(np.float32)
    return vectors, codes
