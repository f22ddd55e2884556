"""What one image may cost: its pixels stay those of the plain way, its memory and time do not."""

import io
import random
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from headstart.extract.images import decode as decoding
from headstart.extract.images import limits
from headstart.extract.images.decode import Decoded, Undecodable, decode
from PIL import Image, ImageOps

NOISE = np.random.default_rng(0).integers(0, 256, (1000, 1100, 4), np.uint8)
"""More than one band of pixels."""


def saved(image, format, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plainly(data: bytes, size: int, fit: str) -> np.ndarray:
    """The whole image, turned, over white and then resized, by Pillow alone."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    image = image.convert("RGB")
    square, bilinear = (size, size), Image.Resampling.BILINEAR
    if fit == "crop":
        return np.asarray(ImageOps.fit(image, square, bilinear))
    if fit == "pad":
        return np.asarray(ImageOps.pad(image, square, bilinear, color=(128, 128, 128)))
    return np.asarray(image.resize(square, bilinear))


def of_mode(mode: str, height: int, width: int) -> tuple[Image.Image, dict]:
    pixels = NOISE[:height, :width]
    rgb = Image.fromarray(pixels[..., :3].copy())
    if mode == "I;16":
        return Image.fromarray(np.ascontiguousarray(pixels[..., :2]).view(np.uint16)[..., 0]), {}
    if mode == "P with transparency":
        return rgb.quantize(64, Image.Quantize.FASTOCTREE), {"transparency": 3}
    if mode == "P with alpha":
        return rgb.quantize(16, Image.Quantize.FASTOCTREE), {
            "transparency": bytes(range(0, 256, 16))
        }
    if mode == "RGB with transparency":
        return rgb, {"transparency": tuple(int(one) for one in pixels[0, 0, :3])}
    if mode in ("RGBA", "LA"):
        return Image.fromarray(pixels.copy()).convert(mode), {}
    return rgb.convert(mode), {}


MODES = {
    **dict.fromkeys(("1", "L", "LA", "RGB", "RGBA", "I;16"), "PNG"),
    **dict.fromkeys(("P with transparency", "P with alpha", "RGB with transparency"), "PNG"),
    "CMYK": "TIFF",
    "YCbCr": "TIFF",
}


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), [(131, 97), (1100, 1000)])
def test_pixels_are_those_of_the_plain_way(mode, fit, width, height):
    image, options = of_mode(mode, height, width)
    data = saved(image, MODES[mode], **options)
    np.testing.assert_array_equal(decode(data, 61, fit).pixels, plainly(data, 61, fit))


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_turning_comes_last_and_changes_no_level_by_more_than_one(mode, orientation, fit):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for width, height in ((131, 96), (96, 131), (1100, 1000)):
        data = saved(of_mode(mode, height, width)[0], "PNG", exif=exif)
        for size in (61, 110):
            seen = decode(data, size, fit)
            assert (seen.width, seen.height) == ImageOps.exif_transpose(
                Image.open(io.BytesIO(data))
            ).size
            difference = seen.pixels.astype(int) - plainly(data, size, fit)
            assert np.abs(difference).max() <= 1


def test_a_photograph_has_the_same_pixels_as_by_the_plain_way():
    data = saved(of_mode("RGB", 1000, 1100)[0], "JPEG", quality=90)
    np.testing.assert_array_equal(decode(data, 120).pixels, plainly(data, 120, "stretch"))


def test_images_of_one_row_or_column_are_still_seen():
    for size in ((1, 3000), (3000, 1)):
        data = saved(Image.new("RGB", size, "red"), "PNG")
        for fit in ("stretch", "crop", "pad"):
            assert [255, 0, 0] in decode(data, 32, fit).pixels.reshape(-1, 3).tolist()


def png(width: int, height: int, bits: int, colours: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """An empty PNG, which stays small whatever it inflates to."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    row = bytes(1 + (width * samples * bits + 7) // 8)
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", packed), (b"IEND", b""))
    )


def tiff(
    width: int,
    height: int,
    piece: bytes,
    *more: tuple[int, int, int],
    compression=8,
    colours=2,
    repeated=1,
) -> bytes:
    """A TIFF of 8 bits RGB of tiles or strips, all of the same bytes; `more` has (tag, kind, value)
    of each field that says how large they are."""
    tiled = any(tag == 322 for tag, _, _ in more)
    body = piece + bytes(len(piece) % 2)
    bits, lists = 8 + len(body), 16 + len(body)
    body += struct.pack("<HHHH", 8, 8, 8, 0)
    body += struct.pack("<I", 8) * repeated + struct.pack("<I", len(piece)) * repeated
    places, lengths = (lists, lists + 4 * repeated) if repeated > 1 else (8, len(piece))
    fields = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, compression),
        (262, 3, 1, colours), (277, 3, 1, 3),
        (324 if tiled else 273, 4, repeated, places), (325 if tiled else 279, 4, repeated, lengths),
        (530, 3, 2, 0x10001), *((tag, kind, 1, value) for tag, kind, value in more),
    ]  # fmt: skip
    table = struct.pack("<H", len(fields)) + b"".join(
        struct.pack("<HHII", *field) for field in sorted(fields, key=lambda field: field[0])
    )
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + table + bytes(4)


def deflated(pixels: int) -> bytes:
    """RGB of that many black pixels."""
    return zlib.compress(bytes(3 * pixels))


SIDE = 4000
_EXIF = Image.Exif()
_EXIF[0x0112] = 6
LARGE_FILES = {
    "RGBA": lambda: png(SIDE, SIDE, 8, 6),
    "RGBA of 16 bits": lambda: png(SIDE, SIDE, 16, 6),
    "grey of 16 bits": lambda: png(SIDE, SIDE, 16, 0),
    "RGB with a transparent colour": lambda: png(SIDE, SIDE, 8, 2, (b"tRNS", bytes(6))),
    "palette with alpha": lambda: png(
        SIDE, SIDE, 8, 3, (b"PLTE", bytes(768)), (b"tRNS", bytes(256))
    ),
    "progressive CMYK": lambda: saved(
        Image.new("CMYK", (SIDE, SIDE), "red"), "JPEG", progressive=True
    ),
    "turned TIFF": lambda: saved(
        Image.new("RGB", (SIDE, SIDE), "red"), "TIFF", compression="tiff_lzw", exif=_EXIF
    ),
    "animated GIF": lambda: saved(
        Image.new("P", (SIDE, SIDE), 1), "GIF", save_all=True,
        append_images=[Image.new("P", (SIDE, SIDE), 2)],
    ),
    "lossless WebP": lambda: saved(
        Image.new("RGBA", (SIDE, SIDE), "red"), "WEBP", method=0, lossless=True, quality=0
    ),
    "TIFF in one strip": lambda: tiff(SIDE, SIDE, deflated(SIDE**2), (278, 4, SIDE)),
    "TIFF in one tile": lambda: tiff(
        SIDE, SIDE, deflated(SIDE**2), (322, 4, SIDE), (323, 4, SIDE), colours=6
    ),
    "progressive JPEG in a TIFF": lambda: tiff(
        SIDE, SIDE, saved(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
        (278, 4, SIDE), compression=7, colours=6,
    ),
    "small TIFF in one large tile": lambda: tiff(
        16, 16, deflated(SIDE**2), (322, 4, SIDE), (323, 4, SIDE)
    ),
    "one row": lambda: png(3_000_000, 1, 8, 2),
    "one column": lambda: png(1, 3_000_000, 8, 2),
}  # fmt: skip
MEASURE = """
import resource, sys
from headstart.extract.images import limits
from headstart.extract.images.decode import decode
asked = []
needed = limits.needed
limits.needed = lambda *arguments: asked.append(needed(*arguments)) or asked[-1]
data = sys.stdin.buffer.read()
decode(open(sys.argv[1], "rb").read(), 96)  # so that all that is imported later is there
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(data, 96)
print(asked[-1] // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
BESIDE = 40 * 1024
"""KiB that the bands and the decoders take, whatever the image."""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
@pytest.mark.parametrize("name", LARGE_FILES)
def test_an_image_takes_no_more_memory_than_is_counted_for_it(name, tmp_path):
    data = LARGE_FILES[name]()
    small = tmp_path / "small"
    small.write_bytes(saved(of_mode("RGBA", 50, 50)[0], "PNG"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small)], input=data, stdout=subprocess.PIPE, check=True
    )
    counted, taken = map(int, done.stdout.split())
    assert taken < counted + len(data) // 1024 + BESIDE


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_would_take_more_than_the_limit_is_refused_before_it_is_decoded(monkeypatch):
    empty = png(1, 1, 8, 2)
    monkeypatch.setattr(Image.Image, "load", None)
    for size in ((1, 170_000_000), (170_000_000, 1)):
        header = b"IHDR" + struct.pack(">II", *size) + empty[24:29]
        data = empty[:12] + header + struct.pack(">I", zlib.crc32(header)) + empty[33:]
        with pytest.raises(Undecodable, match=r"GiB of memory, more than the 1\.5 GiB"):
            decode(data, 32)


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    data = png(64, 64, 8, 2)
    monkeypatch.setattr(limits, "LARGE", 64 * 64)
    inside, most = [], []
    square = decoding.shrink.square
    together = threading.Event()

    def watched(*arguments):
        inside.append(1)
        most.append(len(inside))
        together.wait(0.05)
        inside.pop()
        return square(*arguments)

    monkeypatch.setattr(decoding.shrink, "square", watched)
    threads = [threading.Thread(target=decode, args=(data, 32)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def progressive_with(scans: int, **options) -> bytes:
    """A JPEG that goes over and over its first component again."""
    data = saved(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True, **options)
    again = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + bytes(4)
    count = data.count(b"\xff\xda")
    return data[:-2] + again * (scans - count) + data[-2:]


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    assert decode(progressive_with(100), 32).width == 64
    refused = [progressive_with(scans) for scans in (101, 20_000)]
    monkeypatch.setattr(Image.Image, "load", None)
    for data in refused:
        with pytest.raises(Undecodable, match="more than 100 scans"):
            decode(data, 32)


def test_scans_of_a_large_jpeg_are_counted_by_their_pixels(monkeypatch):
    monkeypatch.setattr(limits, "_SCANNED", 64 * 64 * 20)
    assert decode(progressive_with(20), 32).width == 64
    with pytest.raises(Undecodable, match="a JPEG of 21 scans of 0 megapixels takes too long"):
        decode(progressive_with(21), 32)


def test_a_scan_in_a_thumbnail_or_behind_the_image_is_not_counted():
    data = saved(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    thumbnail = b"\xff\xda" * 5000
    comment = b"\xff\xfe" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert decode(data[:2] + comment + data[2:] + thumbnail, 32).width == 64
    between = data.rindex(b"\xff\xda")  # a comment between two scans
    assert decode(data[:between] + comment + data[between:], 32).width == 64


def test_the_scans_of_a_jpeg_within_a_tiff_are_counted_as_if_it_stood_alone(monkeypatch):
    def within(scans, *more, repeated=1):
        jpeg = progressive_with(scans, subsampling=0)
        return tiff(64, 64 * repeated, jpeg, *more, compression=7, colours=6, repeated=repeated)

    tile = (322, 3, 64), (323, 3, 64)
    many = [within(20, (278, 3, 64), repeated=9), within(20, *tile, repeated=9)]
    for data in (within(99, (278, 3, 64)), within(99, *tile), *many):
        assert decode(data, 32).width == 64  # ordinary files have scans in each strip
    refused = [within(101, (278, 3, 64)), within(101, *tile), within(101, *tile, repeated=9)]
    monkeypatch.setattr(Image.Image, "load", None)
    for data in refused:
        with pytest.raises(Undecodable, match="more than 100 scans"):
            decode(data, 32)
    monkeypatch.setattr(limits, "_SCANNED", 64 * 64 * 90)
    for data in many:
        with pytest.raises(Undecodable, match="a JPEG of 20 scans"):
            decode(data, 32)


@pytest.mark.parametrize(
    "more",
    [
        ((322, 4, 20_000), (323, 4, 10_000)),
        ((322, 9, 20_000), (323, 9, 10_000)),
        ((322, 4, 20_000), (323, 4, 10_000), (322, 4, 16), (323, 4, 16)),
        # Here Pillow stops reading, and libtiff does not.
        ((322, 4, 20_000), (323, 4, 10_000), (292, 5, 2**31)),
    ],
)
def test_tiles_far_larger_than_their_picture_are_refused(more, monkeypatch):
    data = tiff(16, 16, deflated(1000), *more)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(Undecodable, match=r"a TIFF of 0\.0 megapixels in tiles of 200, made to"):
        decode(data, 32)


def test_many_tiles_that_are_nearly_all_edge_are_refused(monkeypatch):
    wide = (322, 4, 16_384), (323, 4, 64)
    assert decode(tiff(1, 128, deflated(16_384 * 64), *wide, repeated=2), 32).height == 128
    data = tiff(1, 64 * 16, deflated(1000), *wide, repeated=16)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(Undecodable, match=r"a TIFF of 0\.0 megapixels in tiles of 17, made to"):
        decode(data, 32)


@pytest.mark.parametrize("kind", [2, 5, 11, 13, 17])
def test_a_tile_whose_size_is_no_integer_is_refused(kind):
    data = tiff(16, 16, deflated(256), (322, kind, 16), (323, kind, 16))
    with pytest.raises(Undecodable, match="the size of its tiles or strips makes no sense"):
        decode(data, 32)


def test_tiles_may_reach_over_the_edges_of_an_ordinary_picture():
    for side in (16, 256, 2048):
        data = tiff(10, 10, deflated(side * side), (322, 3, side), (323, 3, side))
        assert decode(data, 32).pixels.max() == 0


_NAMED = Image.Exif()
_NAMED[0x010F] = "maker" * 9
CUT = {
    **{kind: ("RGB", kind, {}) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")},
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "exif": _NAMED}),
    "palette PNG": ("P with alpha", "PNG", {}),
    "GIF": ("P with transparency", "GIF", {"comment": b"comment"}),
    "BMP with alpha": ("RGBA", "BMP", {}),
    "WebP with EXIF": ("RGB", "WEBP", {"exif": _NAMED}),
    "WebP with alpha": ("RGBA", "WEBP", {"exif": _NAMED}),
    "lossless WebP": ("RGB", "WEBP", {"lossless": True, "exif": _NAMED}),
    "film": ("RGB", "WEBP", {"save_all": True, "append_images": [Image.new("RGB", (40, 24))]}),
    **{
        f"TIFF of {name}": ("1" if name == "group4" else "RGB", "TIFF", {"compression": name})
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")
    },
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_ends_too_early_never_gives_pixels_of_its_own(name):
    mode, format, options = CUT[name]
    image, more = of_mode(mode, 24, 40)
    data = saved(image, format, **more, **options)
    whole = decode(data, 16).pixels
    for end in (*range(0, len(data) - 300, 7), *range(max(0, len(data) - 300), len(data))):
        try:
            seen = decode(data[:end], 16).pixels
        except Undecodable:
            continue
        if not np.array_equal(seen, whole):  # Pillow itself sees what is there in the same way
            np.testing.assert_array_equal(seen, plainly(data[:end], 16, "stretch"))


def test_a_webp_that_lost_the_last_byte_of_its_pixels_is_refused():
    refused = 0
    for width in range(24, 40):  # even and odd lengths
        for options in ({}, {"lossless": True}):
            data = saved(of_mode("RGB", 24, width)[0], "WEBP", exif=_NAMED, **options)
            length = int.from_bytes(data[34:38], "little")
            assert data[12:16] == b"VP8X"
            assert data[30:33] == b"VP8"
            assert decode(data[: 38 + length], 16).width == width
            with pytest.raises(Undecodable):
                decode(data[: 37 + length], 16)
            refused += length % 2
    assert 0 < refused < 32


def changed(data: bytes, chance: random.Random) -> bytes:
    """Flip, set, insert, delete, repeat or cut bytes."""
    file = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = int(chance.random() ** 3 * len(file))
        match chance.randrange(6):
            case 0:
                file[at] ^= 1 << chance.randrange(8)
            case 1:
                size = chance.choice((1, 2, 4))
                file[at : at + size] = chance.choice((b"\0", b"\xff", b"\x7f")) * size
            case 2:
                file[at:at] = chance.randbytes(chance.choice((1, 4, 30)))
            case 3:
                del file[at : at + chance.choice((1, 4, 100))]
            case 4:
                file[at:at] = file[at : at + chance.choice((4, 12, 50))]
            case 5:
                del file[chance.randrange(len(file)) :]
        if not file:
            break
    return bytes(file)


FUZZED = {
    "JPEG": {"quality": 90}, "progressive": {"progressive": True}, "PNG": {}, "WEBP": {},
    "lossless": {"lossless": True}, "TIFF": {}, "LZW": {"compression": "tiff_lzw"}, "GIF": {},
    "BMP": {},
}  # fmt: skip
_FORMATS = {"progressive": "JPEG", "lossless": "WEBP", "LZW": "TIFF"}


@pytest.mark.parametrize("kind", FUZZED)
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_give_pixels_or_a_reason_and_nothing_else(kind):
    chance = random.Random(kind)
    mode = "RGB" if kind in ("JPEG", "progressive", "BMP") else "RGBA"
    image = of_mode(mode, 40, 60)[0] if kind != "GIF" else of_mode("P with alpha", 40, 60)[0]
    data = saved(image, _FORMATS.get(kind, kind), **FUZZED[kind])
    outcomes = set()
    for _ in range(150):
        try:
            outcomes.add(type(decode(changed(data, chance), 16)))
        except Undecodable as error:
            outcomes.add(str(error) and type(error))
    assert outcomes <= {Decoded, Undecodable}
