"""The built-in synthetic images: they prove that two graphs agree, and calibrate random weights."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .decode import decode

CANARIES: Final = 8
_CANARY_SEED: Final = 1
_HEIGHT, _WIDTH = 64, 96
_CELLS = (2, 4, 8, 16, 32)


def synthetic_images(count: int, seed: int, size: int, fit: str = "stretch") -> NDArray[np.uint8]:
    """Coloured noise with detail at every scale, as in photographs: (count, size, size, 3) uint8.

    The pixels come from integer arithmetic alone, so they are the same on every machine, and pass
    through the same decoding and resizing as any image file.
    """
    generator = np.random.default_rng(seed)
    return np.stack([decode(_png(_noise(generator)), size, fit).pixels for _ in range(count)])


def canary_images(size: int, fit: str) -> NDArray[np.uint8]:
    """The test images whose vectors every feature file carries, (8, size, size, 3) uint8."""
    return synthetic_images(CANARIES, _CANARY_SEED, size, fit)


def _noise(generator: "np.random.Generator") -> NDArray[np.uint8]:
    total = np.zeros((_HEIGHT, _WIDTH, 3), np.int64)
    for cell in _CELLS:
        grid = generator.integers(0, 256, (_HEIGHT // cell, _WIDTH // cell, 3))
        total += cell * np.kron(grid, np.ones((cell, cell, 1), np.int64))
    return (total // sum(_CELLS)).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
