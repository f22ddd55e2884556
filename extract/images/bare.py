"""An image file of which no more is left than says what its pixels are."""

import dataclasses
from collections.abc import Iterator, Sequence

from .exif import UPRIGHT


@dataclasses.dataclass(frozen=True)
class Bare:
    """The bytes that say what the pixels are."""

    data: bytes
    orientation: int = UPRIGHT
    """As EXIF counts: 1 is upright, 2 to 8 have to be flipped or turned."""
    scans: int = 1
    """How often a JPEG, or one within a TIFF, goes over its pixels."""
    piece: tuple[int, int] | None = None
    """Width and height of what a TIFF is decoded in: its tiles or strips."""
    beside: int = 0
    """Bytes that decoding takes beside the image, of formats whose files say so."""


def without(data: bytes, cuts: Sequence[tuple[int, int]]) -> bytes:
    """The data but for some ranges, which are in order."""
    return b"".join(_between(data, cuts)) if cuts else data


def _between(data: bytes, cuts: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
    view, at = memoryview(data), 0
    for start, end in cuts:
        yield view[at:start]
        at = end
    yield view[at:]
