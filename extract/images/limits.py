"""What one image may take, in memory and in time, before it is decoded."""

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Final, TypeGuard

from PIL import BmpImagePlugin, Image, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin

from ...features.child import after_fork
from . import formats
from .formats import Undecodable as Undecodable

MAX_PIXELS: Final = 178_956_970
"""The limit of Pillow itself, which warns from half of it on: half a gigabyte of RGB."""

MEMORY: Final = 3 * 2**29
"""Bytes that decoding one image may take beside its file: 1.5 GiB.

Every kind of file of 169 megapixels stayed below what `needed` says, by the peak of a process
(Pillow 13.0; `test_extract_limits.py` measures smaller ones). One over the limit is refused.
"""

LARGE: Final = 2**27
"""Bytes from which on images are decoded one at a time: 32 megapixels of RGB. A process that
decodes in n threads so takes no more than `MEMORY` and n times this."""

MAX_SCANS: Final = 100
"""Of one JPEG, as libtiff limits them too; those that encoders write have up to 20."""

_SCANNED: Final = 4_000_000_000
"""Pixels times scans of one JPEG: about ten seconds of one core."""

_MAX_RUNS: Final = 16_000_000
"""Pixels of a BMP compressed in runs, which Pillow decodes in Python, in up to four seconds."""

_MAX_STRIPS: Final = 1_000_000
"""Strips or tiles of a TIFF, each of which Pillow keeps a record of."""

_MOST_PADDED: Final = 16_000_000
"""Pixels that the tiles of a TIFF may have in all, where four times those of its picture are less:
0.3 seconds, and 128 MB, which `needed` counts."""

_SAMPLE_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_BITS, _COLOURS, _YCBCR = 258, 262, 6  # of a TIFF
_WEBP_BYTES: Final = 20  # two canvases, the decoder's own, a copy and the image, of four bytes each
CODED_BYTES: Final = 6  # a pixel of a coded picture of HEIF or AVIF, in what its decoder keeps
_CANVAS_BYTES: Final = 12  # a pixel of what such pictures are put together and made RGB in
_LINE_BYTES: Final = 16  # a pointer a line, and lines end on four bytes
_FILTER_BYTES: Final = 16  # of Pillow's resampling, a pixel of a side


TOO_MANY_PIXELS: Final = f"more than {MAX_PIXELS // 1_000_000} megapixels"


Piece = tuple[int, int] | None
"""Width and height of the tiles or strips of a TIFF."""


def check_work(image: Image.Image, scans: int, piece: Piece = None) -> None:
    """Refuse what would take minutes to decode; `image` has been opened and not loaded."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise Undecodable(TOO_MANY_PIXELS)
    if _in_pieces(image):
        pixels = _decoded(image.size, pixels, piece)
    if scans > MAX_SCANS:
        raise Undecodable(
            f"a JPEG of more than {MAX_SCANS} scans, made to keep a decoder busy; save it again"
        )
    if scans * pixels > _SCANNED:
        raise Undecodable(
            f"a JPEG of {scans} scans of {pixels // 1_000_000} megapixels takes too long to "
            f"decode; save it again as a baseline JPEG"
        )
    if isinstance(image, BmpImagePlugin.BmpImageFile) and image.tile[0].codec_name == "bmp_rle":
        if pixels > _MAX_RUNS:
            raise Undecodable(f"a BMP in runs of more than {_MAX_RUNS // 1_000_000} megapixels")
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and len(image.tile) > _MAX_STRIPS:
        raise Undecodable(f"a TIFF of more than {_MAX_STRIPS:,} strips")


def _in_pieces(image: Image.Image) -> TypeGuard[TiffImagePlugin.TiffImageFile]:
    """Whether libtiff decodes it; Pillow itself reads a TIFF that is not compressed by lines."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.use_load_libtiff


def _decoded(size: tuple[int, int], pixels: int, piece: Piece) -> int:
    """Pixels of all tiles of a TIFF, which reach over its edges; refuse those that are all edge."""
    if piece is None or min(piece) < 1:
        raise Undecodable("damaged: the size of its tiles or strips makes no sense")
    total = math.prod(-(-side // step) * step for side, step in zip(size, piece, strict=True))
    if total > max(4 * pixels, _MOST_PADDED):
        raise Undecodable(
            f"a TIFF of {pixels / 1e6:.1f} megapixels in tiles of {total / 1e6:,.0f}, made to keep "
            f"a decoder busy; save it again"
        )
    return total


def needed(
    image: Image.Image, stored: tuple[int, int], scans: int, piece: Piece = None, beside: int = 0
) -> int:
    """Bytes that loading and shrinking an opened image takes at most, as it will be decoded.

    `stored` is its size in the file, which a JPEG need not be decoded at; `beside` is what the file
    itself says that its decoder takes.
    """
    pixels = stored[0] * stored[1]
    total = image.height * (image.width * _SAMPLE_BYTES.get(image.mode, 4) + _LINE_BYTES)
    total += _FILTER_BYTES * sum(image.size) + beside
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        total = _WEBP_BYTES * pixels
    elif isinstance(image, JpegImagePlugin.JpegImageFile) and (
        scans > 1 or image.info.get("progressive")
    ):
        total += 2 * _coefficients(image.layer, pixels)
    elif piece and _in_pieces(image):
        total += math.prod(piece) * _piece_bytes(image, scans)
    elif image.format in (formats.AVIF, formats.HEIF):
        total += _CANVAS_BYTES * pixels
    return total


def _piece_bytes(image: TiffImagePlugin.TiffImageFile, scans: int) -> int:
    """Bytes a pixel of a tile or strip, of which one is decoded at a time."""
    size = _SAMPLE_BYTES.get(image.mode, 4)
    bits = max(image.tag_v2.get(_BITS, (1,)))
    if image.tag_v2.get(_COLOURS) == _YCBCR or (size == 4 and bits > 8):
        size *= 2  # a second buffer to convert from, or 16 bits that become 8
    return size + (2 * len(image.getbands()) if scans > 1 else 0)


def _coefficients(layers: list[tuple[int, int, int, int]], pixels: int) -> int:
    """Numbers that libjpeg keeps until the last scan: one for each sample of each component."""
    areas = [down * across for _, down, across, _ in layers]
    largest = max((down for _, down, _, _ in layers), default=1) * max(
        (across for _, _, across, _ in layers), default=1
    )
    return pixels * sum(areas) // max(1, largest)


_alone = threading.Lock()


@contextlib.contextmanager
def room(wanted: int) -> Iterator[None]:
    """Wait until an image may be decoded that takes so many bytes; refuse it if it never may."""
    if wanted > MEMORY:
        raise Undecodable(
            f"decoding it takes {wanted / 2**30:.1f} GiB of memory, more than the "
            f"{MEMORY / 2**30:.1f} GiB that one image may have; save it smaller"
        )
    with _alone if wanted > LARGE else contextlib.nullcontext():
        yield


def _after_fork() -> None:
    global _alone
    _alone = threading.Lock()


after_fork(_after_fork)
