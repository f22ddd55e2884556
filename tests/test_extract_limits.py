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


def progressive_with(scans: int) -> bytes:
    """A JPEG that goes over and over its first component again."""
    data = saved(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
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
