"""The golden table: one image of every awkward kind, with the exact status and pixels of each.

Pillow itself writes most of these images, so a line that fails after an update may mean a new
encoder. If it is the decoder, features of before and after must not be mixed: raise
`PREPROCESSING_VERSION` together with the new value.
"""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from headstart.extract.images.decode import FORMATS, Undecodable, decode
from PIL import Image

SIZE = 16


def picture(width=24, height=16) -> np.ndarray:
    """Every corner another colour, so that no turn or flip goes unnoticed."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)


def saved(image, format, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(), "JPEG", quality=95, exif=exif)


def png16(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a sample, which Pillow reads but does not write in colour."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    return png((width, height, 16, colour_type), zlib.compress(data))


def png(header: tuple[int, int, int, int], data: bytes) -> bytes:
    """A PNG of compressed rows; the header is width, height, bits a sample and colour type."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff16(samples: np.ndarray) -> bytes:
    """An uncompressed TIFF of 16-bit RGB, which Pillow reads but does not write."""
    height, width = samples.shape[:2]
    data = samples.astype("<u2").tobytes()
    # Tag, value: sizes, three times 16 bits (at 122), RGB, one strip (at 128) of all rows.
    tags = (
        (256, width), (257, height), (258, 122), (259, 1), (262, 2), (273, 128),
        (277, 3), (278, height), (279, len(data)),
    )  # fmt: skip
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag in (258, 262) else 4, 3 if tag == 258 else 1, value)
        for tag, value in tags
    )
    start = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    return start + struct.pack("<HHH", 16, 16, 16).rjust(128 - len(start), b"\0") + data


def animated(format) -> bytes:
    frames = [Image.fromarray(frame) for frame in (picture(), 255 - picture())]
    options = {"lossless": True} if format == "WEBP" else {}
    return saved(frames[0], format, save_all=True, append_images=frames[1:], **options)


def see_through(mode) -> Image.Image:
    image = Image.fromarray(picture()).convert(mode)
    image.putalpha(Image.fromarray(picture()[..., 1]))
    return image


def palette(format) -> bytes:
    """The colour of the corner, and wherever else it stands, is transparent."""
    image = Image.fromarray(picture() // 64 * 64).quantize(64, dither=Image.Dither.NONE)
    return saved(image, format, transparency=image.getpixel((0, 0)))


def bomb() -> bytes:
    """400 megapixels of nothing in 50 KB."""
    row = zlib.compressobj()
    data = b"".join(row.compress(bytes(2501)) for _ in range(20_000)) + row.flush()
    return png((20_000, 20_000, 1, 0), data)


NOISE = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
WIDE = picture().astype(np.uint16) * 257
JPEG = saved(picture(), "JPEG", quality=95)

ORIENTED = [
    "24x16 b7bad929f9fe6aaa",
    "24x16 1d86e41f74ce21ee",
    "24x16 dd925ec6d9e5539d",
    "24x16 32f3604eabdd10c3",
    "16x24 e1f83afe36b3868f",
    "16x24 5d3fe0cfa90a52eb",
    "16x24 84171919e4b54929",
    "16x24 43bb68061d5925e3",
]
PIXELS = {
    "plain": (saved(picture(), "PNG"), "24x16 6a55147c7097b56e"),
    **{f"EXIF {n}": (oriented(n), ORIENTED[n - 1]) for n in range(1, 9)},
    "baseline JPEG": (JPEG, "24x16 b7bad929f9fe6aaa"),
    "progressive JPEG": (
        saved(picture(), "JPEG", quality=95, progressive=True),
        "24x16 b7bad929f9fe6aaa",
    ),
    "grey JPEG": (
        saved(Image.fromarray(picture()).convert("L"), "JPEG", quality=95),
        "24x16 fef509e74b0f4f63",
    ),
    "CMYK JPEG": (
        saved(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95),
        "24x16 be44d172b1698418",
    ),
    "CMYK TIFF": (
        saved(Image.fromarray(picture()).convert("CMYK"), "TIFF"),
        "24x16 6a55147c7097b56e",
    ),
    "16-bit grey PNG": (png16(WIDE[..., 0], 0), "24x16 81ac0b36d6e22850"),
    "16-bit grey TIFF": (saved(Image.fromarray(WIDE[..., 0]), "TIFF"), "24x16 81ac0b36d6e22850"),
    "16-bit RGB TIFF": (tiff16(WIDE), "24x16 6a55147c7097b56e"),
    "16-bit RGB PNG": (png16(WIDE, 2), "24x16 6a55147c7097b56e"),
    "16-bit RGBA PNG": (png16(np.dstack([WIDE, WIDE[..., 1]]), 6), "24x16 4b909e15766da8a1"),
    "palette with transparency, PNG": (palette("PNG"), "24x16 6f6ba48205b28f99"),
    "palette with transparency, GIF": (palette("GIF"), "24x16 6f6ba48205b28f99"),
    "alpha": (saved(see_through("RGB"), "PNG"), "24x16 4b909e15766da8a1"),
    "grey with alpha": (saved(see_through("L"), "PNG"), "24x16 6bb1e40107ff2ddb"),
    "alpha, WebP": (
        saved(see_through("RGB"), "WEBP", lossless=True, exact=True),
        "24x16 4b909e15766da8a1",
    ),
    "animated GIF": (animated("GIF"), "24x16 04b79c4e60a61cad"),
    "animated WebP": (animated("WEBP"), "24x16 6a55147c7097b56e"),
    "animated PNG": (animated("PNG"), "24x16 6a55147c7097b56e"),
    "one bit": (saved(Image.fromarray(picture()).convert("1"), "PNG"), "24x16 21dd213a3a323340"),
    "BMP": (saved(picture(), "BMP"), "24x16 6a55147c7097b56e"),
    "wrong suffix, which decoding never sees": (
        saved(picture(), "WEBP", lossless=True),
        "24x16 6a55147c7097b56e",
    ),
    "PNG without its end": (saved(picture(), "PNG")[:-12], "24x16 6a55147c7097b56e"),
}

FOREIGN = f"not an image in one of the formats {', '.join(FORMATS)}, or damaged from its start "

REASONS = {
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated: the file ends before the image does"),
    "JPEG two bytes short": (JPEG[:-2], "truncated: the file ends before the image does"),
    "half a PNG": (saved(NOISE, "PNG")[:20_000], "truncated: the file ends before the image does"),
    "PNG cut in its first row": (
        saved(picture(), "PNG")[:-60],
        FOREIGN + "(which is b'\\x89PNG\\r\\n\\x1a\\n')",
    ),
    "zero bytes": (b"", "empty file (0 bytes)"),
    "HTML": (
        b"<!DOCTYPE html><html>",
        FOREIGN + "(which is b'<!DOCTYP')",
    ),
    "PDF": (
        b"%PDF-1.7 ...............",
        "a page of PDF or EPS; draw as PNG",
    ),
    "400 megapixels": (bomb(), "more than 178 megapixels"),
    "32-bit float": (
        saved(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"),
        "32-bit pixels have no agreed white: save it with 8 or 16 bits",
    ),
}


def fingerprint(data: bytes) -> str:
    decoded = decode(data, SIZE)
    shape = f"{decoded.width}x{decoded.height}"
    return f"{shape} {hashlib.sha256(decoded.pixels.tobytes()).hexdigest()[:16]}"


@pytest.mark.parametrize("name", PIXELS)
def test_the_pixels_of_every_kind_of_image_are_fixed(name):
    data, expected = PIXELS[name]
    assert fingerprint(data) == expected


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_of_every_kind_of_bad_image_is_fixed(name):
    data, expected = REASONS[name]
    with pytest.raises(Undecodable) as error:
        decode(data, SIZE)
    assert str(error.value) == expected
