"""A decoded image of any size -> the upright square that a backbone sees, in little memory.

The pixels are those of turning the whole image, putting it over white and then resizing it, which
would take several copies of it. Here bands of it are put over white and resized across the band,
as Pillow resizes one direction after the other as well; turning comes last. (Pillow may choose the
other direction to begin with, which changes a level by one at most.)
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL import Image

from .exif import UPRIGHT

TURNED: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PADDING: Final = (128, 128, 128)  # about the mean of photographs: nothing for a backbone to see
_BAND: Final = 2**20
"""Pixels that are converted at once."""

_Box = tuple[float, float, float, float]


def square(image: Image.Image, size: int, fit: str, orientation: int = UPRIGHT) -> Image.Image:
    """Fit a loaded image into (size, size) RGB; see `decode`."""
    box, inner = _geometry(image.size, size, fit)
    # The rows of the upright image come first, which a turned one has as columns.
    shrunk = _resized(image, inner, box, 1 if orientation in TURNED else 0)
    if orientation in _TURNS:
        shrunk = shrunk.transpose(_TURNS[orientation])
    if shrunk.size == (size, size):
        return shrunk
    padded = Image.new("RGB", (size, size), _PADDING)
    padded.paste(shrunk, (round((size - shrunk.width) / 2), round((size - shrunk.height) / 2)))
    return padded


def _geometry(stored: tuple[int, int], size: int, fit: str) -> tuple[_Box, tuple[int, int]]:
    """The part of an image that is seen, and its size in the square."""
    width, height = stored
    if fit == "crop":
        side = min(stored)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side), (size, size)
    inner = (size, size)
    if fit == "pad":
        longer = max(stored)
        inner = (max(1, round(width / longer * size)), max(1, round(height / longer * size)))
    return (0, 0, width, height), inner


def _resized(image: Image.Image, size: tuple[int, int], box: _Box, first: int) -> Image.Image:
    """Resize a part of an image, and make it RGB; along one axis (0: across) after the other."""
    between = (size[0] * image.height, image.width * size[1])
    if between[first] > 8 * _BAND:
        first = between.index(min(between))  # of one row, or one column
    second = 1 - first
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        if math.prod(image.size) <= _BAND:
            image = _rgb(image)
        else:
            narrow = [*image.size]
            narrow[first] = size[first]
            whole = Image.new("RGB", (narrow[0], narrow[1]))
            for part in _bands(image.size, second):
                band = _along(_rgb(image.crop(part)), first, size, box)
                whole.paste(band, part[:2])
            return _along(whole, second, size, box)
    if first == 0:
        return image.resize(size, Image.Resampling.BILINEAR, box).convert("RGB")
    return _along(_along(image, first, size, box), second, size, box).convert("RGB")


def _along(image: Image.Image, axis: int, size: tuple[int, int], box: _Box) -> Image.Image:
    """Resize along one axis alone."""
    # Pillow's bilinear filter widens its support when it shrinks, which is the antialiasing.
    width, height = image.size
    part: _Box
    if axis == 0:
        width, part = size[0], (box[0], 0.0, box[2], height)
    else:
        height, part = size[1], (0.0, box[1], width, box[3])
    return image.resize((width, height), Image.Resampling.BILINEAR, part)


def _bands(size: tuple[int, int], axis: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into parts, one after the other along an axis."""
    width, height = size
    step = max(1, _BAND // size[1 - axis])
    for start in range(0, size[axis], step):
        end = min(start + step, size[axis])
        yield (start, 0, end, height) if axis == 0 else (0, start, width, end)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which turns nearly every pixel white. This is
        # division by 257, rounded, in a quarter of the time; it maps 65,535 to 255 exactly.
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((values * 255 + 32_895 >> 16).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Converting straight to RGB would uncover whatever colours lie under transparent pixels.
    above = image.convert("RGBA")
    white = Image.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")
