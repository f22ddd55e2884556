"""JPEG 2000: what its codestream takes to decode, and whether it is whole (ISO 15444-1, annex A).

OpenJPEG gives what it has of a file whose last tiles are missing, so this is found out before.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from . import exif, formats, limits
from .bare import Bare
from .boxes import TRUNCATED, boxes

_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_EXIF: Final = b"JpgTiffExif->JP2"
_XMP: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MOST_TILES: Final = 65_535  # there are no numbers for more
_MOST_COMPONENTS: Final = 4
_MOST_MARKERS: Final = 1_000_000
_SAMPLE: Final = 10
"""Bytes of a sample of the tile that is being decoded: a number of 32 bits, room to transform it,
and what Pillow copies it from."""
_TILE, _TILE_COMPONENT, _BLOCK, _PRECINCT = 6_000, 2_000, 400, 500  # OpenJPEG's records (2.5)


class _Size(NamedTuple):
    tile: int
    """Pixels of one tile."""
    tiles: int
    components: int


def bare(data: bytes) -> Bare:
    """Look a file over; one that is cut, or of no use, is `Undecodable`."""
    if formats.JPEG_2000 not in formats.FORMATS:
        return Bare(data)
    start, end, orientation = 0, len(data), exif.UPRIGHT
    if data[:4] == b"\0\0\0\x0c":
        start, end, orientation = _within(data)
    try:
        return Bare(data, orientation, beside=_beside(data, start, end))
    except struct.error:
        raise limits.Undecodable(TRUNCATED) from None


def _within(data: bytes) -> tuple[int, int, int]:
    """Where the codestream of a file in boxes lies, and which way up its picture is."""
    found, block, packet = (len(data), len(data)), b"", b""
    for box in boxes(data, 0, len(data)):
        if box.kind == b"jp2c" and found[0] == len(data):
            if not box.whole:
                raise limits.Undecodable(TRUNCATED)
            found = box.start, box.end
        elif box.kind == b"uuid":
            name, body = data[box.start : box.start + 16], data[box.start + 16 : box.end]
            if name == _EXIF:
                block = block or body
            elif name == _XMP:
                packet = packet or body
    return *found, exif.orientation(block) or exif.of_xmp(packet) or exif.UPRIGHT


def _beside(data: bytes, start: int, end: int) -> int:
    soc, siz = struct.unpack_from(">HH", data, start)
    if (soc, siz) != (_SOC, _SIZ):
        raise limits.Undecodable("damaged: no size at the start of its JPEG 2000 codestream")
    size = _size(data, start + 4)
    blocks, precincts, layers = 0, 0, 1
    seen: set[int] = set()
    for marker, at, tile in _markers(data, start + 2, end):
        if marker == _SOT:
            seen.add(tile)
        elif marker in (_COD, _COC):
            # COD has the layers before what both have, COC the number of a component.
            first = at + (7 if marker == _COD else 4)
            if marker == _COD:
                layers = max(layers, int.from_bytes(data[first - 3 : first - 1], "big"))
            given = bool(data[first - (5 if marker == _COD else 1)] & 1)
            counts = _counts(data[first : first + 38], given, size.tile)
            blocks, precincts = max(blocks, counts[0]), max(precincts, counts[1])
    if seen != set(range(size.tiles)):
        raise limits.Undecodable(TRUNCATED)
    total = size.tile * size.components * _SAMPLE
    total += size.components * (blocks * _BLOCK + precincts * (_PRECINCT + 2 * layers))
    return total + size.tiles * (_TILE + size.components * _TILE_COMPONENT)


def _size(data: bytes, at: int) -> _Size:
    fields = struct.unpack_from(">HHIIIIIIIIH", data, at)
    _, _, right, bottom, left, top, across, down, tile_left, tile_top, components = fields
    width, height = right - left, bottom - top
    if min(width, height, across, down) < 1 or tile_left > left or tile_top > top:
        raise limits.Undecodable("damaged: the size of the image or its tiles makes no sense")
    if width * height > limits.MAX_PIXELS:
        raise limits.Undecodable(limits.TOO_MANY_PIXELS)
    if not 1 <= components <= _MOST_COMPONENTS:
        raise limits.Undecodable(
            f"a JPEG 2000 of {components:,} bands: which are red, green and blue is not known; "
            f"save three of them as an RGB image"
        )
    depths = [data[at + 38 + 3 * index] & 0x7F for index in range(components)]
    if max(depths) >= 16:
        raise limits.Undecodable(
            f"a JPEG 2000 of {max(depths) + 1} bits has no agreed white: save it with 8 or 16 bits"
        )
    tiles = -(-(right - tile_left) // across) * -(-(bottom - tile_top) // down)
    if tiles > _MOST_TILES:
        raise limits.Undecodable(f"damaged: a JPEG 2000 has at most {_MOST_TILES:,} tiles")
    return _Size(min(width, across) * min(height, down), tiles, components)


def _markers(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Every marker of the headers, where its segment starts, and the tile it is about."""
    at, tile, next_part = start, -1, 0
    for _ in range(_MOST_MARKERS):
        if at + 2 > end:
            raise limits.Undecodable(TRUNCATED)
        (marker,) = struct.unpack_from(">H", data, at)
        at += 2
        if marker == _EOC:
            return
        if marker == _SOD:
            at = next_part
            continue
        if marker < 0xFF00:
            raise limits.Undecodable("damaged: its JPEG 2000 codestream makes no sense")
        (length,) = struct.unpack_from(">H", data, at)
        if marker == _SOT:
            tile, size = struct.unpack_from(">HI", data, at + 2)
            next_part = at - 2 + size if size else end - 2  # 0: it goes on to the end
            if next_part < at + 12 or next_part > end:
                raise limits.Undecodable(TRUNCATED)
        yield marker, at, tile
        if length < 2:
            raise limits.Undecodable("damaged: its JPEG 2000 codestream makes no sense")
        at += length
    raise limits.Undecodable(
        f"a JPEG 2000 of more than {_MOST_MARKERS:,} markers, made to keep a decoder busy; save it "
        f"again"
    )


def _counts(style: bytes, given: bool, pixels: int) -> tuple[int, int]:
    """How many blocks and precincts a component of a tile is cut into, about or more."""
    levels, block = style[0], (style[1] + 2, style[2] + 2)
    blocks = precincts = 0
    for level in range(min(levels, 32) + 1):
        part = style[5 + level] if given else 0xFF
        sides = part & 15, part >> 4
        within = -(-pixels >> 2 * (levels - level)) + 1
        # But for the first resolution, each precinct is a quarter of it in each of three bands.
        inner = [max(0, side - (level > 0)) for side in sides]
        blocks += within >> sum(map(min, block, inner))
        precincts += (within >> sum(sides)) + 1
    return blocks + precincts, precincts
