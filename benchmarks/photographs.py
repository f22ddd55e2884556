"""What becomes of photographs, for the benchmarks of near-copies: one step from image to image.

Every copy is made from the original, and saved as JPEG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Step = Callable[[Image.Image, np.random.Generator], Image.Image]


def unchanged(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


def half(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def mirror(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def crop(percent: int) -> Step:
    """Leave so much of each side out, anywhere."""

    def step(image: Image.Image, generator: np.random.Generator) -> Image.Image:
        width, height = (side * (100 - percent) // 100 for side in image.size)
        x, y = generator.integers((image.width - width + 1, image.height - height + 1))
        return image.crop((x, y, x + width, y + height))

    return step


def burst(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """As from a camera held by hand: turned by up to 2 degrees, moved by 3%, lighter or darker."""
    image = image.rotate(generator.uniform(-2, 2), Image.Resampling.BICUBIC)
    width, height = image.size
    x, y = (round(generator.uniform(0.01, 0.07) * side) for side in (width, height))
    image = image.crop((x, y, x + round(0.92 * width), y + round(0.92 * height)))
    return ImageEnhance.Brightness(image).enhance(generator.uniform(0.85, 1.15))


def thumbnail(pixels: int) -> Step:
    """The longer side has so many pixels, in the file too: enlarging it is the backbone's part."""

    def step(image: Image.Image, _: np.random.Generator) -> Image.Image:
        image = image.copy()
        image.thumbnail((pixels, pixels))
        return image

    return step


def digits() -> Iterator[tuple[Image.Image, int]]:
    """The 1,797 handwritten digits of scikit-learn, 8 pixels wide."""
    from sklearn.datasets import load_digits

    data = load_digits()
    for pixels, label in zip(data.images, data.target.tolist(), strict=True):
        yield Image.fromarray((pixels * 255 / 16).astype(np.uint8)), label
