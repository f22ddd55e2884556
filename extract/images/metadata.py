"""An image file -> the same file without what stands beside its pixels, and how to turn them.

Viewers show a picture whatever its text, its colour profile or its date look like, so no decoder
gets to see them here. Only the orientation is read, and one that makes no sense means upright.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

from . import boxes, exif, formats, jpeg2000
from .bare import Bare, without
from .exif import UPRIGHT

_TEXT_LIMIT: Final = 1 << 20  # bytes of one inflated text: an orientation stands at its start


def bare(data: bytes) -> Bare:
    """Leave out all metadata; what is no whole file of a known format comes back as it is."""
    for start, strip in _FORMATS:
        if data.startswith(start):
            return strip(data)
    return boxes.bare(data) if data.startswith(b"ftyp", 4) else Bare(data)


# JPEG: segments up to the first scan; what libjpeg takes them for is taken from its jdmarker.c.

_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MARKER_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_SEQUENTIAL: Final = (0xC0, 0xC1, 0xC9)  # frames that are not progressive
_LONE: Final = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and RSTn have no length
_PASSED_OVER: Final = frozenset((*range(0xE0, 0xF0), 0xFE, *_LONE))  # APPn, comments
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def _jpeg(data: bytes) -> Bare:
    cuts, block, packet = [], b"", b""
    at, components = 2, -1
    while found := _MARKER.search(data, at):
        code, start = data[found.start() + 1], found.end()
        if code in _LONE:
            end = start
        else:
            if code in (_SOI, _EOI):
                break
            # A length below two says that nothing follows but the length itself.
            end = start + max(2, int.from_bytes(data[start : start + 2], "big"))
            if end > len(data):
                break
        if found.start() > at:
            cuts.append((at, found.start()))  # fill bytes and junk
        if code == _SOS:
            orientation = exif.orientation(block) or exif.of_xmp(packet) or UPRIGHT
            # One scan that has all components is read to its end, and nothing after it.
            scans = 1 if data[start + 2] == components else _scans(data, found.start())
            return Bare(without(data, cuts), orientation, scans)
        if code in _SEQUENTIAL:
            components = data[start + 7] if end >= start + 8 else -1
        if code in _PASSED_OVER:
            body = data[start + 2 : end]
            if code == _APP1 and body.startswith(_EXIF):
                block += body[len(_EXIF) :]  # a long one goes on in further segments
            elif code == _APP1 and body.startswith(_XMP):
                packet = packet or body
            if not _tells_colours(code, body):
                cuts.append((found.start(), end))
        at = end
    return Bare(data)


def _tells_colours(code: int, body: bytes) -> bool:
    if code == _APP0:
        return len(body) >= 14 and body.startswith(b"JFIF\0")
    return code == _APP14 and len(body) >= 12 and body.startswith(b"Adobe")


def _scans(data: bytes, at: int) -> int:
    """Count the scans from the first one at `at` on; in their data FF is never followed by DA."""
    count = 0
    while found := _MARKER_AFTER_SCAN.search(data, at):
        code, at = data[found.start() + 1], found.end()
        if code == _EOI:
            break  # what follows is another picture, or a film
        count += code == _SOS
        if code not in _LONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


# PNG: of the ancillary chunks, tRNS alone is about pixels; where libpng passes over one, so do we.

_GREY, _RGB, _PALETTE = 0, 2, 3
_PROFILES: Final = (b"Raw profile type exif", b"Raw profile type APP1")
_PNG_XMP: Final = b"XML:com.adobe.xmp"


def _png(data: bytes) -> Bare:
    cuts, block, packet = [], b"", b""
    colours, entries, transparent, pixels = -1, 0, False, False
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start, end = at + 8, at + 12 + length
        if not kind.isalpha() or kind == b"IEND":
            break
        if kind[0] < ord("a"):  # it cannot be left out
            if kind == b"IHDR" and length >= 13:
                colours = data[start + 9]
            elif kind == b"PLTE":
                entries = length // 3
            pixels = pixels or kind == b"IDAT"
        elif (
            kind == b"tRNS"
            and not (transparent or pixels)
            and _fits(length, colours, entries)
            and _is_intact(data, at, end)
        ):
            transparent = True
        else:
            if kind == b"eXIf":
                block = block or data[start : start + length]
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                if data.startswith(_PROFILES, start):
                    block = block or _profile(_text(kind, data[start : start + length]))
                elif data.startswith(_PNG_XMP, start):
                    packet = packet or _text(kind, data[start : start + length])
            cuts.append((at, min(end, len(data))))
        at = end
    orientation = exif.orientation(block) or exif.of_xmp(packet) or UPRIGHT
    return Bare(without(data, cuts), orientation)


def _fits(length: int, colours: int, entries: int) -> bool:
    """Whether a tRNS chunk of so many bytes can be meant for an image of these colours."""
    if colours == _PALETTE:
        return 1 <= length <= entries
    return length == {_GREY: 2, _RGB: 6}.get(colours)


def _is_intact(data: bytes, at: int, end: int) -> bool:
    return (
        end <= len(data)
        and zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") == (data[end - 4 : end])
    )


def _text(kind: bytes, body: bytes) -> bytes:
    """The text of a chunk, whichever way it is kept, or its start; empty if that is broken."""
    _, _, text = body.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        text = text[1:]
    elif kind == b"iTXt":
        packed = text[:1] == b"\x01"
        text = text[2:].split(b"\0", 2)[-1]
    if not packed:
        return text[:_TEXT_LIMIT]
    try:
        return zlib.decompressobj().decompress(text, _TEXT_LIMIT)
    except zlib.error:
        return b""


def _profile(text: bytes) -> bytes:
    """EXIF as ImageMagick writes it: a name, a length, and the bytes in hexadecimal."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


# WebP: chunks of RIFF. A file without VP8X has no room for metadata.

_EXTENDED: Final = b"WEBPVP8X\x0a\0\0\0"
_WEBP_PIXELS: Final = (b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_ANIMATED, _ABOUT_METADATA = 0x02, 0x20 | 0x08 | 0x04  # ICC, EXIF, XMP


def _webp(data: bytes) -> Bare:
    if data[8:20] != _EXTENDED or len(data) < 30:
        return Bare(data)
    pieces, block, packet, animated = [], b"", b"", 0
    view, at = memoryview(data), 30
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind in _WEBP_PIXELS:
            if at + 8 + length > len(data):
                return Bare(data)  # pixels are missing, which the decoder has to see
            pieces.append(view[at:end])
            if end > len(data):
                pieces.append(memoryview(b"\0"))  # the padding that many leave out
            animated |= _ANIMATED * (kind == b"ANMF")
        elif kind == b"EXIF":
            block = block or data[at + 8 : at + 8 + length]
        elif kind == b"XMP ":
            packet = packet or data[at + 8 : at + 8 + length]
        at = end
    flags = data[20] & ~(_ABOUT_METADATA | _ANIMATED) | animated
    head = _EXTENDED + bytes((flags,)) + data[21:30]
    size = len(head) + sum(map(len, pieces))
    orientation = exif.orientation(block) or exif.of_xmp(packet) or UPRIGHT
    return Bare(b"".join((b"RIFF", struct.pack("<I", size), head, *pieces)), orientation)


# TIFF: the entries of the first directory that describe pixels, and no further directory.

_TIFF_PIXELS: Final = frozenset(
    (
        *(256, 257, 258, 259, 262),  # width, height, bits, compression, colours
        *(266, 273, 277, 278, 279, 284),  # order of bits, strips, samples, planes
        *(292, 293, 317, 320),  # fax options, predictor, palette
        *(322, 323, 324, 325, 332, 334),  # tiles, inks
        *(338, 339, 347),  # extra samples, format of samples, tables of JPEG
        *range(512, 522),  # JPEG of old
        *(529, 530, 531, 532, 32995, 32996, 32997, 50674),  # YCbCr, SGI's own, LERC
    )
)
_TIFF_XMP: Final = 700


def _tiff(data: bytes) -> Bare:
    found = exif.first_directory(data)
    # Of a big-endian BigTIFF Pillow reads another directory than libtiff.
    if found is None or not found.whole or (found.big and found.order == ">"):
        return Bare(data)
    kept = [entry for entry in found.entries if entry.tag in _TIFF_PIXELS]
    table = found.packed(kept)
    orientation = exif.orientation(data)
    if not orientation:
        packets = [entry for entry in found.entries if entry.tag == _TIFF_XMP]
        orientation = exif.of_xmp(found.value(packets[0], data)) if packets else 0
    view = memoryview(data)
    joined = b"".join((view[: found.start], table, view[found.start + len(table) :]))
    return Bare(joined, orientation or UPRIGHT, found.scans(data), found.piece())


# GIF: of the extensions before the first picture, those that control how it is shown.


def _gif(data: bytes) -> Bare:
    if len(data) < 13:
        return Bare(data)
    cuts = []
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at : at + 1] == b"!" and at + 2 < len(data):
        end = at + 2
        while end < len(data) and data[end]:
            end += 1 + data[end]
        end += 1
        if data[at + 1] != 0xF9 or data[at + 2] < 4:
            cuts.append((at, min(end, len(data))))
        at = end
    return Bare(without(data, cuts))


_FORMATS: Final[tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], Bare]], ...]] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    ((b"II", b"MM"), _tiff),
    ((b"GIF87a", b"GIF89a"), _gif),
    (formats.STARTS_OF_JPEG_2000, jpeg2000.bare),
)
