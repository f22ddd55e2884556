"""What one image may take, in memory and in time, before it is decoded."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Final

from PIL import BmpImagePlugin, Image, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin

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

_SAMPLE_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_WEBP_BYTES: Final = 20  # two canvases, the decoder's own, a copy and the image, of four bytes each
_LINE_BYTES: Final = 16  # a pointer a line, and lines end on four bytes
_FILTER_BYTES: Final = 16  # of Pillow's resampling, a pixel of a side


TOO_MANY_PIXELS: Final = f"more than {MAX_PIXELS // 1_000_000} megapixels"


class Undecodable(Exception):
    """Why an image cannot be used; the message is the ledger's reason."""


def check_work(image: Image.Image, scans: int) -> None:
    """Refuse what would take minutes to decode; `image` has been opened and not loaded."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise Undecodable(TOO_MANY_PIXELS)
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


def needed(image: Image.Image, stored: tuple[int, int], scans: int) -> int:
    """Bytes that loading and shrinking an opened image takes at most, as it will be decoded.

    `stored` is its size in the file, which a JPEG need not be decoded at.
    """
    pixels = stored[0] * stored[1]
    total = image.height * (image.width * _SAMPLE_BYTES.get(image.mode, 4) + _LINE_BYTES)
    total += _FILTER_BYTES * sum(image.size)
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        total = _WEBP_BYTES * pixels
    elif isinstance(image, JpegImagePlugin.JpegImageFile) and (
        scans > 1 or image.info.get("progressive")
    ):
        total += 2 * _coefficients(image.layer, pixels)
    return total


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
    global _alone  # the thread that held it does not exist in the child
    _alone = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
