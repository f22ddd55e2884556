"""Bytes of an image file -> RGB pixels of the size a backbone wants, or the reason why not."""

import dataclasses
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

FORMATS: Final = {
    JpegImagePlugin.JpegImageFile.format: (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    PngImagePlugin.PngImageFile.format: (".png",),
    GifImagePlugin.GifImageFile.format: (".gif",),
    BmpImagePlugin.BmpImageFile.format: (".bmp",),
    WebPImagePlugin.WebPImageFile.format: (".webp",),
    TiffImagePlugin.TiffImageFile.format: (".tif", ".tiff"),
}
"""Pillow's name of each format that may be decoded, and its file suffixes.

Each decoder is native code that strangers' bytes reach, so the list is short on purpose. Importing
the plugins here spares Pillow from loading every one it has.
"""

SUFFIXES: Final = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

MAX_PIXELS: Final = 178_956_970
"""The limit of Pillow itself, which warns from half of it on: half a gigabyte of RGB."""

FITS: Final = ("stretch", "crop", "pad")
_REDUCED_FROM: Final = 150
KEPT: Final = 4
"""A JPEG is decoded at a half, a quarter or an eighth of its size where its shorter side stays at
least `KEPT` times that of the input, and the input has at least `_REDUCED_FROM` pixels.

On 750 photographs (150 of them enlarged two- to sixfold, with noise) the vectors of MobileNetV2
with ImageNet weights then had a cosine of at least 0.9992 to those of a full decode, at 150 to 224
pixels. With 3 in place of 4, or below 150 pixels, some fell to 0.995.
"""

DECODE_POLICY: Final = (
    f"Pillow, EXIF upright, alpha over white, 16 bits scaled, first frame, no ICC, JPEG reduced to "
    f"no less than {KEPT} x size from {_REDUCED_FROM} pixels on"
)
RESIZE_POLICY: Final = "Pillow bilinear, antialiased"
PREPROCESSING_VERSION: Final = 2
"""Raise it by one in the commit that changes the pixels of any image."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_PADDING = (128, 128, 128)  # about the mean of photographs: nothing for a backbone to see


class Undecodable(Exception):
    """Why an image cannot be used; the message is the ledger's reason."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One image, ready for the backbone."""

    pixels: NDArray[np.uint8]
    """(size, size, 3), RGB."""
    width: int
    height: int
    """Pixels of the upright image before it was resized."""


def decode(data: bytes, size: int, fit: str = "stretch") -> Decoded:
    """Decode one image file and resize it to a square of `size` pixels a side.

    `fit` distorts it (``"stretch"``), cuts its middle out (``"crop"``) or adds grey borders
    (``"pad"``). The format is told from the bytes. What cannot be used is `Undecodable`; lack of
    memory stays a MemoryError, since it says nothing about the image.
    """
    if not data:
        raise Undecodable("empty file (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Undecodable(_too_many_pixels())
            width, height = image.size
            if size >= _REDUCED_FROM:
                image.draft(None, (KEPT * size, KEPT * size))  # has an effect on JPEG alone
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
                width, height = height, width
            upright = ImageOps.exif_transpose(image)
            square = _square(_rgb(upright), size, fit)
            return Decoded(np.asarray(square), width, height)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(
            f"not an image in one of the formats {', '.join(FORMATS)}, or damaged from its start "
            f"(which is {data[:8]!r})"
        ) from error
    except Image.DecompressionBombError as error:
        raise Undecodable(_too_many_pixels()) from error
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more on
        # damaged bytes, without a common base; no image may stop a run.
        if "truncated" in str(error).lower():
            raise Undecodable("truncated: the file ends before the image does") from error
        raise Undecodable(f"damaged: {error or type(error).__name__}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which turns nearly every pixel white. 257 maps
        # 65,535 to 255 exactly.
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise Undecodable("32-bit pixels have no agreed white: save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Converting straight to RGB would uncover whatever colours lie under transparent pixels.
    above = image.convert("RGBA")
    white = Image.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")


def _square(image: Image.Image, size: int, fit: str) -> Image.Image:
    # Pillow's bilinear filter widens its support when it shrinks, which is the antialiasing.
    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR, color=_PADDING)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _too_many_pixels() -> str:
    return f"more than {MAX_PIXELS // 1_000_000} megapixels"
