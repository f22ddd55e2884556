"""Bytes of an image file -> RGB pixels of the size a backbone wants, or the reason why not."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, UnidentifiedImageError

from . import foreign, formats, limits, metadata, shrink
from .formats import FORMATS as FORMATS
from .formats import SUFFIXES as SUFFIXES
from .formats import Missing as Missing
from .limits import Undecodable as Undecodable

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
PREPROCESSING_VERSION: Final = 3
"""Raise it by one in the commit that changes the pixels of any image."""


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
        # Pillow would take the preview in the raw data of a camera for its image.
        if data.startswith(foreign.MAY_BE_RAW) and (reason := foreign.raw(data)):
            raise Undecodable(reason)
        bare = metadata.bare(data)
        with formats.opened(bare.data) as image:
            stored = image.size
            takes = bare.scans, bare.piece, bare.beside
            limits.check_work(image, bare.scans, bare.piece)
            if image.mode in ("I", "F"):
                raise Undecodable(foreign.NO_WHITE)
            # A large JPEG is reduced for any input. (Of HEIC, this would take a thumbnail.)
            if isinstance(image, JpegImagePlugin.JpegImageFile) and (
                size >= _REDUCED_FROM or limits.needed(image, stored, *takes) > limits.LARGE
            ):
                least = KEPT * max(size, _REDUCED_FROM)
                image.draft(None, (least, least))
            with limits.room(limits.needed(image, stored, *takes)):
                image.load()
                if image.format == BmpImagePlugin.BmpImageFile.format:
                    _make_invisible_opaque(image)
                turn = formats.turn(image) or bare.orientation
                pixels = np.asarray(shrink.square(image, size, fit, turn))
            width, height = stored
            if turn in shrink.TURNED:
                width, height = height, width
            return Decoded(pixels, width, height)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(
            foreign.reason(data)
            or f"not an image in one of the formats {', '.join(FORMATS)}, or damaged from its "
            f"start (which is {data[:8]!r})"
        ) from error
    except Image.DecompressionBombError as error:
        raise Undecodable(limits.TOO_MANY_PIXELS) from error
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more on
        # damaged bytes, without a common base; no image may stop a run.
        said = str(error).lower()
        if "out of memory" in said:
            raise MemoryError(str(error)) from error
        if "truncated" in said:
            raise Undecodable("truncated: the file ends before the image does") from error
        what = "of a kind that Pillow does not read" if "unsupported" in said else "damaged"
        raise Undecodable(f"{what}: {error or type(error).__name__}") from error


def _make_invisible_opaque(image: Image.Image) -> None:
    """Most programs that write 32 bits to a BMP leave 0 where others have the alpha."""
    if image.mode == "RGBA" and image.getbbox(alpha_only=True) is None:
        image.putalpha(255)
