"""Image files of every kind, what may stand beside their pixels, and the pixels by Pillow alone."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageOps

SIDES = st.integers(1, 40) | st.sampled_from([1, 2, 3, 64, 300])
QUALITY = {"quality": st.integers(1, 100)}


def options(**strategies):
    return st.fixed_dictionaries({}, optional=strategies)


SAVED = {
    "JPEG": (
        st.sampled_from(["L", "RGB", "CMYK"]),
        options(
            **QUALITY, subsampling=st.integers(0, 2), progressive=st.booleans(),
            optimize=st.booleans(), restart_marker_blocks=st.integers(1, 5), keep_rgb=st.booleans(),
        ),
    ),
    "PNG": (
        st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
        options(compress_level=st.integers(0, 9), transparency=st.just(1), save_all=st.just(True)),
    ),
    "GIF": (
        st.sampled_from(["1", "L", "P", "RGB", "RGBA"]),
        options(interlace=st.integers(0, 1), transparency=st.just(1), save_all=st.just(True)),
    ),
    "BMP": (st.sampled_from(["1", "L", "P", "RGB", "RGBA"]), st.just({})),
    "WEBP": (
        st.sampled_from(["L", "RGB", "RGBA"]),
        options(
            **QUALITY, lossless=st.booleans(), exact=st.booleans(), method=st.integers(0, 6),
            alpha_quality=st.integers(0, 100), save_all=st.just(True),
        ),
    ),
    "TIFF": (
        st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"]),
        options(
            compression=st.sampled_from(
                ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group3", "group4", "jpeg",
                 "lzma", "zstd"]
            ),
            big_tiff=st.booleans(), save_all=st.just(True),
        ),
    ),
}  # fmt: skip


def picture(seed: int, width: int, height: int, mode: str) -> Image.Image:
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 256, (height, width, 4), np.uint8)
    if seed % 3 == 0:
        pixels[...] = np.linspace(0, 255, width * 4).astype(np.uint8).reshape(width, 4)
    if seed % 5 == 0:
        pixels[..., 3] = seed % 2 * 255
    if mode == "I;16":
        return Image.fromarray(np.ascontiguousarray(pixels[..., :2]).view(np.uint16)[..., 0])
    image = Image.fromarray(pixels)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(image: Image.Image, format: str, **how) -> bytes | None:
    """A file of the format; None if Pillow does not write this."""
    buffer = io.BytesIO()
    if how.get("save_all"):
        how["append_images"] = [ImageOps.flip(image)]
    if image.mode == "RGB" and "transparency" in how and format == "PNG":
        how["transparency"] = (1, 1, 1)
    try:
        image.save(buffer, format, **how)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError):
        return None
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body) ^ wrong)
    return struct.pack(">I", len(body)) + kind + body + check


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
ADAM7 += ((0, 1, 1, 2),)
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
DEPTHS += [(4, 8), (4, 16), (6, 8), (6, 16)]


def raw_png(seed, width, height, kind, interlaced, colours, transparent) -> bytes:
    """A PNG of any kind that there is, of noise: any bytes are filtered rows."""
    chance = np.random.default_rng(seed)
    colour, depth = kind
    rows = b""
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            length = (columns * SAMPLES[colour] * depth + 7) // 8
            for _ in range(lines):
                rows += bytes([chance.integers(0, 5)]) + chance.bytes(length)
    chunks = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    ]
    if colour == 3:
        chunks.append(png_chunk(b"PLTE", chance.bytes(3 * min(colours, 1 << depth))))
    if transparent and colour in (0, 2, 3):
        length = {0: 2, 2: 6, 3: min(colours, 1 << depth)}[colour]
        chunks.append(png_chunk(b"tRNS", chance.bytes(length)))
    chunks += [png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


RAW_PNG = st.builds(
    raw_png, st.integers(0, 999), SIDES, SIDES, st.sampled_from(DEPTHS), st.booleans(),
    st.integers(1, 256), st.booleans(),
)  # fmt: skip


@st.composite
def files(draw) -> tuple[str, bytes]:
    """A file as Pillow writes it, or a PNG of a kind that it does not write."""
    format = draw(st.sampled_from(sorted(SAVED)))
    if format == "PNG" and draw(st.booleans()):
        return format, draw(RAW_PNG)
    modes, how = SAVED[format]
    image = picture(draw(st.integers(0, 999)), draw(SIDES), draw(SIDES), draw(modes))
    data = encoded(image, format, **draw(how)) or encoded(image, format)
    return format, data


# Beside the pixels: things with a place in each format, and what may stand in them.

BODIES = st.binary(max_size=40) | st.sampled_from(
    [b"", b"\0", b"ICC_PROFILE\0\1\1", b"icc\0\0" + zlib.compress(bytes(10**6)), b"a\0\7b",
     b"JFIF\0", b"Adobe", b"MPF\0II*\0", b"Photoshop 3.0\x008BIM\4\4",
     b"XML:com.adobe.xmp\0" * 2, b"a" * 90 + b"\0",
     b"http://ns.adobe.com/xap/1.0/\0<x/>", b"comment\0\1\0\0\0" + b"x" * 70_000]
)  # fmt: skip
PNG_KINDS = st.sampled_from(
    b"tEXt zTXt iTXt iCCP gAMA cHRM sRGB pHYs tIME bKGD hIST sBIT sPLT acTL fcTL oFFs prVt".split()
)


def exif(turn: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = turn
    block[0x010F] = "maker"
    return block.tobytes()


def beside(format: str, data: bytes, turn: int, things) -> bytes | None:
    """The file with things beside its pixels, one of which says how it is turned."""
    if format == "JPEG":
        codes = [*range(0xE0, 0xEF), 0xFE]
        pieces = [
            bytes((0xFF, codes[code])) + struct.pack(">H", len(body) + 2) + body
            for code, _, body, _ in things
            if len(body) < 65_000
        ]
        block = exif(turn)
        pieces.insert(len(pieces) // 2, b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block)
        return data[:2] + b"".join(pieces) + data[2:]
    if format == "PNG":
        pieces = [png_chunk(kind, body, wrong) for _, kind, body, wrong in things]
        pieces.insert(len(pieces) // 2, png_chunk(b"eXIf", exif(turn)[6:]))
        at = 33 if turn % 2 else len(data) - 12
        return data[:at] + b"".join(pieces) + data[at:]
    if format == "GIF":
        at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
        pieces = [
            b"!\xfe" + bytes([len(body[:255])]) + body[:255] + b"\0"
            for _, _, body, _ in things
            if body
        ]
        return b"GIF89a" + data[6:at] + b"".join(pieces) + data[at:]
    if format == "WEBP":
        pieces = [(b"EXIF", exif(turn)), *((kind.upper(), body) for _, kind, body, _ in things)]
        if data[12:16] == b"VP8X":
            return None  # its flags and its other pieces are the encoder's own
        with Image.open(io.BytesIO(data)) as image:
            alpha, size = 0x10 * (image.mode == "RGBA"), image.size
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
        whole = b"WEBPVP8X\x0a\0\0\0" + bytes((0x2C | alpha, 0, 0, 0)) + canvas + data[12:]
        for kind, body in pieces:
            whole += kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        return b"RIFF" + struct.pack("<I", len(whole)) + whole
    if format == "TIFF" and data[:4] == b"II*\0":
        pieces = [
            struct.pack("<HHI4s", TIFF_TAGS[code], len(kind) * wrong + code, len(body), body[:4])
            for code, kind, body, wrong in things
        ]
        return in_directory(data, [struct.pack("<HHIHH", 0x0112, 3, 1, turn, 0), *pieces])
    return None


TIFF_TAGS = (270, 271, 282, 283, 296, 305, 306, 315, 700, 33432, 34377, 34665, 34675, 34853, 37724)
TIFF_TAGS += (40961,)


def in_directory(data: bytes, entries) -> bytes:
    """A TIFF whose directory has further entries."""
    data += b"\0" * (len(data) % 2)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    own = [data[start + 2 + 12 * number :][:12] for number in range(count)]
    every = sorted([*own, *entries], key=lambda entry: struct.unpack_from("<H", entry))
    table = struct.pack("<H", len(every)) + b"".join(every) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + table


def repaired(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them now."""
    file, at = bytearray(data), 8
    while at + 12 <= len(file):
        end = at + 12 + int.from_bytes(file[at : at + 4], "big")
        file[end - 4 : end] = zlib.crc32(file[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return bytes(file[: len(data)])


THINGS = st.lists(
    st.tuples(st.integers(0, 15), PNG_KINDS, BODIES, st.sampled_from([0, 0, 1])), max_size=4
)


def plainly(data: bytes, turn: int, size: int, fit: str) -> np.ndarray:
    """The whole image, turned, over white and then resized, by Pillow alone."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        image = opened.copy()
        if opened.format == "BMP" and image.mode == "RGBA" and not image.getbbox(alpha_only=True):
            image.putalpha(255)
    image.getexif()[0x0112] = turn
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    image = image.convert("RGB")
    side = min(image.size)
    if fit == "crop":
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
    if fit == "stretch":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    longer = max(image.size)
    inner = [max(1, round(one / longer * size)) for one in image.size]
    square = Image.new("RGB", (size, size), (128, 128, 128))
    shrunk = image.resize(inner, Image.Resampling.BILINEAR)
    square.paste(shrunk, tuple(round((size - one) / 2) for one in inner))
    return np.asarray(square)
