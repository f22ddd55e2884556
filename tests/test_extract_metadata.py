"""What stands beside the pixels of an image decides at most which way up it is."""

import io
import struct
import zlib

import numpy as np
import pytest
from headstart.extract.images.decode import decode
from PIL import Image

SIZE = 16
WIDTH, HEIGHT = 24, 16


def picture() -> np.ndarray:
    """Every corner another colour, so that no turn or flip goes unnoticed."""
    across, down = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)


def saved(image, format, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


# EXIF


def field(tag, kind, count, value: bytes, order="<") -> bytes:
    return struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")


def tiff(*fields: bytes, order="<", start=8, count=None, follows=0) -> bytes:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    table = struct.pack(order + "H", len(fields) if count is None else count)
    return head + table + b"".join(fields) + struct.pack(order + "I", follows)


def turned(order="<") -> bytes:
    return field(0x112, 3, 1, struct.pack(order + "H", 6), order)


TURNED = tiff(turned())
"""EXIF that says: turn it by 90 degrees."""

EXIF_TURNED = {
    "little-endian": TURNED,
    "big-endian": tiff(turned(">"), order=">"),
    "as a long": tiff(field(0x112, 4, 1, struct.pack("<I", 6))),
    "as a byte": tiff(field(0x112, 1, 1, b"\6")),
    "said twice": tiff(turned(), field(0x112, 3, 1, b"\3\0")),
    "among other fields": tiff(field(0x10F, 2, 4, b"abc\0"), turned(), field(0x11A, 5, 1, b"\1")),
    "with a resolution that is a signed fraction over zero": (
        tiff(turned(), field(0x11A, 10, 1, struct.pack("<I", 38))) + struct.pack("<ii", -1, 0)
    ),
    "with a field of an unknown type": tiff(turned(), field(0x9000, 99, 5, b"\xff" * 4)),
    "with a field that points outside": tiff(turned(), field(0x10F, 2, 1000, b"\xff" * 4)),
    "in a directory that follows itself": tiff(turned(), follows=8),
    "in a directory of fewer fields than it says": tiff(turned(), count=500)[:-4],
    "with a directory of further fields that points at itself": tiff(
        turned(), field(0x8769, 4, 1, struct.pack("<I", 8))
    ),
    "with the name of the block twice": b"Exif\0\0" + TURNED,
}
EXIF_UPRIGHT = {
    "orientation 0": tiff(field(0x112, 3, 1, b"\0\0")),
    "orientation 9": tiff(field(0x112, 3, 1, b"\t\0")),
    "orientation as text": tiff(field(0x112, 2, 2, b"6\0")),
    "orientation of no count": tiff(field(0x112, 3, 0, b"\6\0")),
    "orientation that points outside": tiff(field(0x112, 3, 100, b"\xff" * 4)),
    "orientation as a fraction": tiff(field(0x112, 5, 1, b"\6")),
    "a directory outside": tiff(turned(), start=2**32 - 1),
    "another name": b"Canon" + TURNED,
    "only a head": TURNED[:8],
    "half a head": TURNED[:5],
    "nothing": b"",
    "noise": bytes(range(256)),
}


# JPEG


def segment(code: int, body: bytes, length: int | None = None) -> bytes:
    length = len(body) + 2 if length is None else length
    return bytes((0xFF, code)) + struct.pack(">H", length) + body


PLAIN_JPEG = saved(picture(), "JPEG", quality=95)


def jpeg(*segments: bytes) -> bytes:
    return PLAIN_JPEG[:2] + b"".join(segments) + PLAIN_JPEG[2:]


def app1(block: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + block)


XMP = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'

JPEG_UPRIGHT = {
    **{f"APP{n} of two bytes": jpeg(segment(0xE0 + n, b"")) for n in range(16)},
    "APP1 of length 0": jpeg(segment(0xE1, b"", 0)),
    "APP13 of length 1": jpeg(segment(0xED, b"", 1)),
    "comment of length 0": jpeg(segment(0xFE, b"", 0)),
    "short JFIF": jpeg(segment(0xE0, b"JFIF\0")),
    "short Adobe": jpeg(segment(0xEE, b"Adobe")),
    "short ICC": jpeg(segment(0xE2, b"ICC_PROFILE\0")),
    "ICC without a number": jpeg(segment(0xE2, b"ICC_PROFILE\0\1")),
    "ICC of other numbers": jpeg(segment(0xE2, b"ICC_PROFILE\0\7\2abc")),
    "cut Photoshop": jpeg(segment(0xED, b"Photoshop 3.0\x008BIM\4\4")),
    "Photoshop resolution of no length": jpeg(
        segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\2ab")
    ),
    "MPF of noise": jpeg(segment(0xE2, b"MPF\0" + bytes(range(80)))),
    "MPF of two pictures that are not there": jpeg(
        segment(
            0xE2,
            b"MPF\0"
            + tiff(field(0xB001, 4, 1, b"\2"), field(0xB002, 7, 32, struct.pack("<I", 38)))
            + bytes(32),
        )
    ),
    "comment that is no text": jpeg(segment(0xFE, bytes(range(256)))),
    "flashpix": jpeg(segment(0xE2, b"FPXR\0")),
    "fill before markers": jpeg(b"\xff\xff\xff" + segment(0xFE, b"x") + b"\xff\xff\xff"),
    "junk between segments": jpeg(segment(0xFE, b"x") + b"junk"),
    "lone markers": jpeg(b"\xff\x01\xff\xd0"),
    "something after its end": PLAIN_JPEG + b"\xff\xda" * 500,
    "EXIF without its name": jpeg(segment(0xE1, TURNED)),
    **{f"EXIF of {name}": jpeg(app1(block)) for name, block in EXIF_UPRIGHT.items()},
}
JPEG_TURNED = {
    **{f"EXIF {name}": jpeg(app1(block)) for name, block in EXIF_TURNED.items()},
    "XMP before EXIF": jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), app1(TURNED)),
    "XMP alone": jpeg(segment(0xE1, XMP)),
    "EXIF before JFIF, in two parts": jpeg(app1(TURNED[:20]), app1(TURNED[20:])),
}


# PNG


def chunk(kind: bytes, body: bytes, crc: int = 0) -> bytes:
    check = zlib.crc32(kind + body) ^ crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


PLAIN_PNG = saved(picture(), "PNG")
HEAD, TAIL = PLAIN_PNG[:33], PLAIN_PNG[33:]


def png(*chunks: bytes) -> bytes:
    return HEAD + b"".join(chunks) + TAIL


def after(*chunks: bytes) -> bytes:
    return PLAIN_PNG[:-12] + b"".join(chunks) + PLAIN_PNG[-12:]


PACKED_BOMB = zlib.compress(bytes(30_000_000))
_RAW_PROFILE = b"\nexif\n%8d\n" % (len(TURNED) + 6) + (b"Exif\0\0" + TURNED).hex().encode()

PNG_UPRIGHT = {
    "zTXt that inflates to 30 MB": png(chunk(b"zTXt", b"note\0\0" + PACKED_BOMB)),
    "iTXt that inflates to 30 MB": png(chunk(b"iTXt", b"note\0\1\0\0\0" + PACKED_BOMB)),
    "iTXt bomb after the pixels": after(chunk(b"iTXt", b"note\0\1\0\0\0" + PACKED_BOMB)),
    "XMP bomb": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED_BOMB)),
    "200 bombs for a profile": png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + PACKED_BOMB) * 200
    ),
    "zTXt of an unknown compression": png(chunk(b"zTXt", b"note\0\7abc")),
    "tEXt of 70 MB": png(chunk(b"tEXt", b"note\0" + bytes(70_000_000))),
    "iCCP bomb": png(chunk(b"iCCP", b"icc\0\0" + PACKED_BOMB)),
    "iCCP of an unknown compression": png(chunk(b"iCCP", b"icc\0\7abc")),
    "iCCP of noise": png(chunk(b"iCCP", bytes(range(1, 200)))),
    "empty iCCP": png(chunk(b"iCCP", b"")),
    "iCCP without its method": png(chunk(b"iCCP", b"icc\0")),
    **{
        f"{kind.decode()} of a wrong CRC": png(chunk(kind, bytes(32), 1))
        for kind in (
            b"tEXt",
            b"pHYs",
            b"gAMA",
            b"cHRM",
            b"sRGB",
            b"iCCP",
            b"tIME",
            b"eXIf",
            b"prVt",
        )
    },
    **{
        f"empty {kind.decode()}": png(chunk(kind, b""))
        for kind in (
            b"pHYs",
            b"gAMA",
            b"cHRM",
            b"sRGB",
            b"tIME",
            b"bKGD",
            b"hIST",
            b"acTL",
            b"eXIf",
        )
    },
    "tRNS of a wrong CRC": png(chunk(b"tRNS", bytes((0, 0, 0, 0, 0, 255)), 1)),
    "short tRNS": png(chunk(b"tRNS", b"\0")),
    "long tRNS": png(chunk(b"tRNS", bytes(300))),
    "tRNS after the pixels": after(chunk(b"tRNS", bytes(6))),
    "pHYs twice": png(chunk(b"pHYs", bytes(9)) * 2),
    "acTL of a thousand frames and none there": png(chunk(b"acTL", struct.pack(">II", 1000, 0))),
    "frames out of their order": png(
        chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", struct.pack(">I", 7) + bytes(22))
    ),
    "tEXt cut off after the pixels": PLAIN_PNG[:-12] + chunk(b"tEXt", bytes(100))[:50],
    "without its end": PLAIN_PNG[:-12],
    "noise after its end": PLAIN_PNG + bytes(range(256)),
    "20,000 empty chunks": png(chunk(b"prVt", b"") * 20_000),
    "broken raw profile": png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 8\nxyz")),
    **{f"EXIF of {name}": png(chunk(b"eXIf", block)) for name, block in EXIF_UPRIGHT.items()},
}
PNG_TURNED = {
    **{f"EXIF {name}": png(chunk(b"eXIf", block)) for name, block in EXIF_TURNED.items()},
    "EXIF after the pixels": after(chunk(b"eXIf", TURNED)),
    "EXIF as ImageMagick writes it": png(chunk(b"tEXt", b"Raw profile type exif\0" + _RAW_PROFILE)),
    "the same, packed": png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(_RAW_PROFILE))
    ),
    "XMP": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
}


# WebP


PLAIN_WEBP = saved(picture(), "WEBP", lossless=True)


def webp(*chunks: bytes, flags=0x2C, size=None) -> bytes:
    canvas = (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes((flags, 0, 0, 0)) + canvas
    body += PLAIN_WEBP[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


WEBP_UPRIGHT = {
    "flags without chunks": webp(),
    "chunks without flags": webp(riff(b"XMP ", b"x"), riff(b"ICCP", b"x"), flags=0),
    "unknown chunk": webp(riff(b"what", b"xyz")),
    "EXIF cut off": webp(riff(b"EXIF", bytes(100))[:40]),
    "EXIF that reaches beyond the file": webp(b"EXIF" + struct.pack("<I", 2**32 - 20) + b"x"),
    "noise after its end": webp() + b"noise",
    "a size that is too small": webp(riff(b"EXIF", bytes(20)), size=60),
    **{f"EXIF of {name}": webp(riff(b"EXIF", block)) for name, block in EXIF_UPRIGHT.items()},
}
WEBP_TURNED = {
    **{f"EXIF {name}": webp(riff(b"EXIF", block)) for name, block in EXIF_TURNED.items()},
    "EXIF under the name of JPEG": webp(riff(b"EXIF", b"Exif\0\0" + TURNED)),
    "XMP": webp(riff(b"XMP ", XMP)),
    "EXIF without its flag": webp(riff(b"EXIF", TURNED), flags=0),
}


# TIFF


def tiff_file(*fields: bytes, order="<", compression=1, follows=0) -> bytes:
    """An uncompressed TIFF of the picture with further fields."""
    pixels = picture().tobytes()
    short = lambda value: struct.pack(order + "H", value)  # noqa: E731
    long = lambda value: struct.pack(order + "I", value)  # noqa: E731
    own = [
        (256, 4, 1, long(WIDTH)), (257, 4, 1, long(HEIGHT)), (258, 3, 3, long(8)),
        (259, 3, 1, short(compression)), (262, 3, 1, short(2)), (273, 4, 1, long(14)),
        (277, 3, 1, short(3)), (278, 4, 1, long(HEIGHT)), (279, 4, 1, long(len(pixels))),
    ]  # fmt: skip
    every = sorted([*(field(*one, order) for one in own), *fields], key=lambda one: one[:2])
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 14 + len(pixels))
    table = (
        struct.pack(order + "H", len(every)) + b"".join(every) + struct.pack(order + "I", follows)
    )
    return head + struct.pack(order + "HHH", 8, 8, 8) + pixels + table


_SIXTH = struct.pack("<H", 6)
TIFF_UPRIGHT = {
    "a field of an unknown type": tiff_file(field(0x9000, 99, 5, b"\xff" * 4)),
    "a field that points outside": tiff_file(field(0x10F, 2, 1000, b"\xff" * 4)),
    "a resolution that is text": tiff_file(
        field(282, 2, 2, b"a"), field(283, 2, 2, b"a"), field(296, 3, 1, b"\3")
    ),
    "a resolution without a value": tiff_file(field(282, 5, 0, b""), field(283, 5, 0, b"")),
    "an XMP that is a fraction": tiff_file(field(700, 5, 1, b"\1")),
    "a profile that points outside": tiff_file(field(34675, 7, 10**6, b"\xff" * 4)),
    "an EXIF directory outside": tiff_file(field(34665, 4, 1, b"\xff" * 4)),
    "an EXIF directory that is text": tiff_file(field(34665, 2, 4, b"abc")),
    "a directory that follows itself": tiff_file(follows=14 + WIDTH * HEIGHT * 3),
    "a directory outside that follows": tiff_file(follows=2**32 - 2),
    "orientation 0": tiff_file(field(0x112, 3, 1, b"\0")),
    "orientation 9": tiff_file(field(0x112, 3, 1, b"\t")),
    "orientation as text": tiff_file(field(0x112, 2, 2, b"6")),
    "big-endian": tiff_file(order=">"),
}
TIFF_TURNED = {
    "orientation": tiff_file(field(0x112, 3, 1, _SIXTH)),
    "orientation as a long": tiff_file(field(0x112, 4, 1, _SIXTH)),
    "orientation, big-endian": tiff_file(field(0x112, 3, 1, b"\0\6", ">"), order=">"),
    "orientation beside a broken EXIF directory": tiff_file(
        field(0x112, 3, 1, _SIXTH), field(34665, 4, 1, b"\xff" * 4)
    ),
}


# GIF


_INDEXED = Image.fromarray(picture() // 64 * 64).quantize(64, dither=Image.Dither.NONE)
PLAIN_GIF = saved(_INDEXED, "GIF")
_PICTURE_AT = 13 + (3 << (PLAIN_GIF[10] & 7) + 1)


def gif(*extensions: bytes) -> bytes:
    return b"GIF89a" + PLAIN_GIF[6:_PICTURE_AT] + b"".join(extensions) + PLAIN_GIF[_PICTURE_AT:]


GIF_UPRIGHT = {
    "comment that is no text": gif(b"!\xfe\x03\xff\xfe\xfd\0"),
    "empty comment": gif(b"!\xfe\0"),
    "empty application": gif(b"!\xff\0"),
    "short application": gif(b"!\xff\x03abc\0"),
    "NETSCAPE without a loop": gif(b"!\xff\x0bNETSCAPE2.0\0"),
    "unknown extension": gif(b"!\x42\x03abc\0"),
    "text": gif(b"!\x01\x0c" + bytes(12) + b"\x03abc\0"),
    "1,000 comments": gif(b"!\xfe\x03abc\0" * 1000),
    "control of one byte": gif(b"!\xf9\x01\x00\0"),
    "empty control": gif(b"!\xf9\0"),
    "noise after its end": PLAIN_GIF + b"noise",
    "without its end": PLAIN_GIF[:-1],
}


# BMP


def bmp(pixels: np.ndarray, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=108) -> bytes:
    """A BMP of 32 bits a pixel and bit fields, from (height, width, 4) RGBA."""
    height, width = pixels.shape[:2]
    rows = pixels[::-1][..., [2, 1, 0, 3]].tobytes()
    head = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0)
    head += struct.pack("<IIII", *masks).ljust(header - 40, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + header + len(rows), 0, 0, 14 + header) + head + rows


def with_alpha(alpha: int) -> np.ndarray:
    return np.dstack([picture(), np.full((HEIGHT, WIDTH), alpha, np.uint8)])


BMP_UPRIGHT = {
    f"alpha {alpha} everywhere, header of {header}": bmp(with_alpha(alpha), header=header)
    for alpha in (0, 255)
    for header in (56, 108, 124)
}

UPRIGHT = {
    "JPEG": JPEG_UPRIGHT, "PNG": PNG_UPRIGHT, "WEBP": WEBP_UPRIGHT, "TIFF": TIFF_UPRIGHT,
    "GIF": GIF_UPRIGHT, "BMP": BMP_UPRIGHT,
}  # fmt: skip
"""Images that look like the plain one of their format."""

TURNED_RIGHT = {
    "JPEG": JPEG_TURNED, "PNG": PNG_TURNED, "WEBP": WEBP_TURNED, "TIFF": TIFF_TURNED,
}  # fmt: skip
"""Images that look like it when it is turned by 90 degrees, clockwise."""

PLAIN = {
    "JPEG": PLAIN_JPEG, "PNG": PLAIN_PNG, "WEBP": PLAIN_WEBP, "TIFF": tiff_file(),
    "GIF": PLAIN_GIF, "BMP": saved(picture(), "BMP"),
}  # fmt: skip


def cases(corpus):
    return [
        pytest.param(format, data, id=f"{format}: {name}")
        for format, files in corpus.items()
        for name, data in files.items()
    ]


@pytest.mark.parametrize(("format", "data"), cases(UPRIGHT))
def test_odd_things_beside_the_pixels_change_nothing(format, data):
    seen, plain = decode(data, SIZE), decode(PLAIN[format], SIZE)
    assert (seen.width, seen.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(seen.pixels, plain.pixels)


@pytest.mark.parametrize(("format", "data"), cases(TURNED_RIGHT))
def test_an_orientation_is_found_wherever_it_stands(format, data):
    seen, plain = decode(data, SIZE), decode(PLAIN[format], SIZE)
    assert (seen.width, seen.height) == (HEIGHT, WIDTH)
    turned = np.rot90(plain.pixels, -1).astype(int)
    assert np.abs(seen.pixels.astype(int) - turned).max() <= 1
