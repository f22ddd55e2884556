"""Formats whose decoders are loaded when they are met, and those that are not decoded at all."""

import io
import os
import random
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.images import boxes, coded, foreign, formats, jpeg2000, limits, metadata
from headstart.extract.images.decode import FORMATS, SUFFIXES, Decoded, Undecodable, decode
from headstart.features.records import AGAIN, UNREAD
from PIL import Image

HEIGHT, WIDTH = 48, 64
GRADIENT = np.stack(
    [
        np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)),
        np.tile(np.linspace(0, 255, HEIGHT)[:, None], (1, WIDTH)),
        np.full((HEIGHT, WIDTH), 90.0),
    ],
    axis=-1,
).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
RAMP = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)

each = pytest.mark.parametrize(
    "format",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(name not in FORMATS, reason=f"no decoder of {name} here")
        )
        for name in formats.LATER
    ],
)
avif = pytest.mark.skipif("AVIF" not in FORMATS, reason="no decoder of AVIF here")
heif = pytest.mark.skipif("HEIF" not in FORMATS, reason="no decoder of HEIF here")
in_boxes = pytest.mark.parametrize(
    "format", [pytest.param("AVIF", marks=avif), pytest.param("HEIF", marks=heif)]
)


def encoded(image, format, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if format == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, **{"quality": 95} | options)
    else:
        image.save(buffer, format, **options)
    return buffer.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def seen(data, size=32):
    return decode(data, size).pixels


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


# What holds for every format holds for these.


@each
def test_a_format_gives_the_same_picture_and_size_as_png(format):
    got = decode(encoded(GRADIENT, format), 32)
    assert (got.width, got.height) == (WIDTH, HEIGHT)
    assert difference(got.pixels, seen(encoded(GRADIENT, "PNG"))) < 2


@each
@pytest.mark.parametrize("size", [149, 200])
def test_a_large_picture_is_decoded_in_full_and_never_from_its_thumbnail(format, size):
    large = np.kron(NOISE, np.ones((16, 16, 1), np.uint8))
    options = {"HEIF": {"thumbnails": [64]}}.get(format, {})
    got = decode(encoded(large, format, **options), size)
    assert got.width == 16 * WIDTH
    assert difference(got.pixels, seen(encoded(large, "PNG"), size)) < 6


@each
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = np.ascontiguousarray(turn(GRADIENT))
    if format == "JPEG2000":  # as exiftool writes it
        data = with_box(encoded(stored, format), b"JpgTiffExif->JP2" + exif.tobytes()[6:])
    else:  # Pillow and pillow-heif write the boxes irot and imir
        data = encoded(stored, format, exif=exif.tobytes())
    got = decode(data, 32)
    assert (got.width, got.height) == (WIDTH, HEIGHT)
    assert difference(got.pixels, seen(encoded(GRADIENT, "PNG"))) < 2


def with_box(jp2: bytes, body: bytes) -> bytes:
    at = jp2.index(b"jp2c") - 4
    return jp2[:at] + box(b"uuid", body) + jp2[at:]


def test_xmp_turns_a_jpeg_2000():
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b'<x tiff:Orientation="6"/>'
    assert decode(with_box(encoded(GRADIENT, "JPEG2000"), xmp), 32).width == HEIGHT


@each
def test_exif_of_noise_spoils_no_picture(format):
    noise = bytes(range(256))
    if format == "JPEG2000":
        data = with_box(encoded(GRADIENT, format), b"JpgTiffExif->JP2" + noise)
    else:
        exif = Image.Exif()
        exif[0x010E] = "x" * 300
        data = encoded(GRADIENT, format, exif=exif.tobytes())
        at = data.index(b"x" * 300)
        start = data.rindex(exif.tobytes()[6:10], 0, at)
        data = data[:start] + (noise * 3)[: at + 300 - start] + data[at + 300 :]
    assert difference(seen(data), seen(encoded(GRADIENT, "PNG"))) < 2


@avif
def test_exif_does_not_turn_an_avif_whose_boxes_say_otherwise():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 1, "upright"
    data = encoded(GRADIENT, "AVIF", exif=exif.tobytes())
    block = exif.tobytes()[6:]
    exif[0x0112] = 6
    assert decode(data.replace(block, exif.tobytes()[6:]), 32).width == WIDTH


@each
def test_alpha_lies_over_white_and_grey_stays_grey(format):
    hidden = np.dstack([GRADIENT, np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert (seen(encoded(hidden, format)) == 255).all()
    half = np.dstack([np.zeros_like(GRADIENT), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    assert abs(seen(encoded(half, format)).mean() - 127) < 2
    grey = seen(encoded(Image.new("L", (WIDTH, HEIGHT), 77), format))
    assert abs(grey.astype(int) - 77).max() <= 1


def test_sixteen_bits_of_jpeg_2000_are_scaled():
    got = seen(encoded(RAMP, "JPEG2000"), 64)[..., 0]
    np.testing.assert_array_equal(got, np.round(RAMP / 257).astype(np.uint8))


@heif
@pytest.mark.parametrize("mode", ["I;16", "RGB;16"])
def test_ten_bits_of_heif_are_scaled(mode):
    import pillow_heif

    pixels = RAMP if mode == "I;16" else np.dstack([RAMP] * 3)
    buffer = io.BytesIO()
    picture = pillow_heif.from_bytes(mode=mode, size=(64, 64), data=pixels.tobytes())
    picture.save(buffer, quality=-1, chroma=444)
    assert np.abs(seen(buffer.getvalue(), 64)[..., 0] - np.round(RAMP / 257)).max() <= 1


@avif
def test_the_first_frame_of_an_avif_sequence_counts():
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert data[8:12] == b"avis"
    assert difference(seen(data), np.array([255, 0, 0])) < 3


@heif
def test_the_primary_image_of_a_heif_counts():
    import pillow_heif

    for primary, colour in ((0, [255, 0, 0]), (1, [0, 0, 255])):
        file = pillow_heif.HeifFile()
        for name in ("red", "blue"):
            file.add_from_pillow(Image.new("RGB", (WIDTH, HEIGHT), name))
        buffer = io.BytesIO()
        file.save(buffer, primary_index=primary)
        assert difference(seen(buffer.getvalue()), np.array(colour)) < 3


@heif
def test_a_heif_of_tiles_is_put_together():
    large = np.kron(GRADIENT, np.ones((8, 8, 1), np.uint8))
    data = encoded(large, "HEIF", tile_size=256)
    assert b"grid" in data
    assert difference(seen(data), seen(encoded(large, "PNG"))) < 2


@each
def test_a_file_that_ends_too_early_is_refused_whatever_is_missing(format):
    data = encoded(NOISE, format)
    for end in (*range(0, len(data), 97), *range(len(data) - 60, len(data))):
        with pytest.raises(Undecodable):
            decode(data[:end], 16)


def test_a_jpeg_2000_without_its_last_tiles_is_refused():
    data = encoded(NOISE, "JPEG2000", tile_size=(16, 16), no_jp2=True)
    last = data.rindex(b"\xff\x90\x00\x0a")
    cut = data[:last] + b"\xff\xd9"
    with Image.open(io.BytesIO(cut)) as image:
        image.load()  # Pillow gives what there is
    with pytest.raises(Undecodable, match="truncated"):
        decode(cut, 16)


@each
def test_any_bytes_of_a_format_give_pixels_or_a_reason(format):
    chance = random.Random(format)
    data = encoded(np.dstack([NOISE, NOISE[..., 0]]), format)
    outcomes = set()
    for _ in range(120):
        file = bytearray(data)
        for _ in range(chance.choice((1, 2, 5))):
            at = int(chance.random() ** 3 * len(file))
            match chance.randrange(3):
                case 0:
                    file[at] ^= 1 << chance.randrange(8)
                case 1:
                    file[at : at + 4] = chance.choice((b"\0", b"\xff", b"\x7f")) * 4
                case 2:
                    del file[at : at + chance.choice((1, 4, 100))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outcomes.add(type(decode(bytes(file), 16)))
            except Undecodable as error:
                outcomes.add(str(error) and type(error))
    assert outcomes <= {Decoded, Undecodable}


# What one file may cost


def codestream(width, height, tile, components=3, bits=8, blocks=4, parts=None) -> bytes:
    """The main header of a JPEG 2000 and an empty part for each of up to 100 tiles."""
    count = -(-width // tile[0]) * -(-height // tile[1])
    siz = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, *tile, 0, 0, components)
    siz += bytes((bits - 1, 1, 1)) * components
    style = struct.pack(">BBHBBBBBB", parts is not None, 0, 1, 0, 0, blocks, blocks, 0, 1)
    cod = style + bytes(parts or ())
    head = b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz
    head += b"\xff\x52" + struct.pack(">H", len(cod) + 2) + cod
    empty = b"".join(
        b"\xff\x90" + struct.pack(">HHIBB", 10, index, 14, 0, 1) + b"\xff\x93"
        for index in range(min(count, 65_535))
    )
    return head + empty + b"\xff\xd9"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: codestream(100_000, 100_000, (100_000, 100_000)), "more than 178 megapixels"),
        (lambda: codestream(10_000, 10_000, (10_000, 10_000)), "GiB of memory, more than"),
        (lambda: codestream(12_000, 12_000, (16, 16)), "at most 65,535 tiles"),
        (lambda: codestream(64, 64, (64, 64), components=5), "of 5 bands"),
        (lambda: codestream(64, 64, (64, 64), components=16_384), "of 16,384 bands"),
        (lambda: codestream(64, 64, (64, 64), bits=32), "no agreed white"),
        (lambda: codestream(6000, 6000, (6000, 6000), blocks=0), "GiB of memory, more than"),
        (lambda: codestream(4000, 4000, (4000, 4000), parts=b"\0"), "GiB of memory, more than"),
    ],
    ids=["wide", "one tile", "tiles", "5 bands", "bands", "32 bits", "blocks", "precincts"],
)
def test_a_jpeg_2000_that_takes_too_much_is_refused_before_it_is_decoded(data, reason, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(Undecodable, match=reason):
        decode(data(), 32)


def test_a_jpeg_2000_of_endless_markers_is_refused(monkeypatch):
    monkeypatch.setattr(jpeg2000, "_MOST_MARKERS", 100)
    plain = encoded(NOISE, "JPEG2000", no_jp2=True)
    at = plain.index(b"\xff\x52")
    with pytest.raises(Undecodable, match="more than 100 markers"):
        decode(plain[:at] + b"\xff\x64\x00\x02" * 100 + plain[at:], 32)


@avif
@pytest.mark.parametrize("size", [(16, 16), (64, 48), (1000, 37), (4096, 16)])
@pytest.mark.parametrize("speed", [6, 10])
def test_the_size_of_av1_is_read_from_the_coded_picture(size, speed):
    data = encoded(Image.new("RGB", size, "red"), "AVIF", speed=speed)
    assert coded.av1(data[data.index(b"mdat") + 4 :]) == size[0] * size[1]
    assert metadata.bare(data).beside == size[0] * size[1] * limits.CODED_BYTES


@heif
@pytest.mark.parametrize("size", [(64, 64), (64, 48), (1000, 64), (4096, 128)])
def test_the_size_of_hevc_is_read_from_the_coded_picture(size):
    data = encoded(Image.new("RGB", size, "red"), "HEIF")
    said = metadata.bare(data).beside // limits.CODED_BYTES
    # x265 pads what is smaller than a block of 64 pixels a side.
    assert size[0] * size[1] <= said <= (size[0] + 63) * (size[1] + 63)


@pytest.mark.parametrize(
    "format", [pytest.param("AVIF", marks=avif), pytest.param("HEIF", marks=heif)]
)
def test_a_container_that_says_a_smaller_size_than_its_picture_does_not_hide_it(
    format, monkeypatch
):
    data = encoded(Image.new("RGB", (1024, 1024), "red"), format)
    at = data.index(b"ispe") + 8
    small = data[:at] + struct.pack(">II", 16, 16) + data[at + 8 :]
    assert metadata.bare(small).beside >= 1024 * 1024 * limits.CODED_BYTES
    monkeypatch.setattr(limits, "MAX_PIXELS", 1_000_000)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(Undecodable, match="megapixels"):
        decode(small, 32)


@avif
def test_a_sequence_that_says_a_smaller_size_than_its_picture_does_not_hide_it():
    frames = [Image.new("RGB", (256, 128), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    tracks_alone = data.replace(b"meta", b"free")
    assert metadata.bare(tracks_alone).beside == 256 * 128 * limits.CODED_BYTES


@pytest.mark.parametrize(
    "format", [pytest.param("AVIF", marks=avif), pytest.param("HEIF", marks=heif)]
)
def test_pictures_that_take_too_long_together_are_refused(format, monkeypatch):
    data = encoded(NOISE, format)
    monkeypatch.setattr(boxes, "_MOST_CODED", HEIGHT * WIDTH - 1)
    with pytest.raises(Undecodable, match="take too long to decode"):
        decode(data, 32)


MEASURE = """
import sys
from headstart.extract.images import limits
from headstart.extract.images.decode import decode
def peak():
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
asked, needed = [], limits.needed
limits.needed = lambda *arguments: asked.append(needed(*arguments)) or asked[-1]
data = sys.stdin.buffer.read()
decode(open(sys.argv[1], "rb").read(), 96)  # so that all that is imported later is there
open("/proc/self/clear_refs", "w").write("5")
before = peak()
decode(data, 96)
print(asked[-1] // 1024, peak() - before)
"""
SIDE = 3000
LARGE_FILES = {
    "AVIF": ("AVIF", "RGB", {"speed": 10}),
    "AVIF with alpha": ("AVIF", "RGBA", {"speed": 10, "subsampling": "4:4:4"}),
    "HEIF": ("HEIF", "RGB", {}),
    "HEIF with alpha": ("HEIF", "RGBA", {"chroma": 444}),
    "HEIF of tiles": ("HEIF", "RGB", {"tile_size": 512}),
    "JPEG 2000": ("JPEG2000", "RGB", {}),
    "JPEG 2000 of small tiles": ("JPEG2000", "RGBA", {"tile_size": (16, 16)}),
    "JPEG 2000 of small blocks": ("JPEG2000", "L", {"codeblock_size": (4, 4)}),
    "JPEG 2000 of 16 bits": ("JPEG2000", "I;16", {"irreversible": True}),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures as Linux does")
@pytest.mark.parametrize("name", LARGE_FILES)
def test_an_image_takes_no_more_memory_than_is_counted_for_it(name, tmp_path):
    format, mode, options = LARGE_FILES[name]
    if format not in FORMATS:
        pytest.skip(f"no decoder of {format} here")
    data = encoded(Image.new(mode, (SIDE, SIDE)), format, **options)
    small = tmp_path / "small"
    small.write_bytes(encoded(Image.new(mode, (64, 64)), format))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small)], input=data, stdout=subprocess.PIPE, check=True
    )
    counted, taken = map(int, done.stdout.split())
    assert taken < counted + len(data) // 1024 + 40 * 1024


# What is loaded, and when


def test_no_decoder_is_loaded_before_its_first_image():
    code = (
        "import sys; from headstart.extract.images import decode, synthetic\n"
        "synthetic.synthetic_images(1, 0, 32)\n"
        "late = '_avif', 'AvifImagePlugin', 'Jpeg2KImagePlugin', 'heif'\n"
        "print([name for name in sys.modules if name.endswith(late)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@heif
def test_pillow_reads_no_heif_in_this_process_because_we_do():
    data = encoded(GRADIENT, "HEIF")
    decode(data, 32)
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("name", formats.LATER)
def test_a_format_whose_decoder_is_missing_is_refused_with_the_command(name, monkeypatch):
    start = {
        "AVIF": box(b"ftyp", b"avif\0\0\0\0avifmif1"),
        "HEIF": box(b"ftyp", b"heic\0\0\0\0mif1heic"),
        "JPEG2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    }[name]
    monkeypatch.setattr(formats, "FORMATS", {"JPEG": (".jpg",)})
    with pytest.raises(Undecodable, match="python3 -m pip install"):
        decode(start + bytes(64), 32)


@each
def test_what_a_run_skipped_for_want_of_a_decoder_is_decoded_when_it_is_there(
    format, monkeypatch, stub, tmp_path
):
    (tmp_path / "photos").mkdir()
    for name, kind in (("1.jpg", format), ("2.jpg", "JPEG")):
        (tmp_path / "photos" / name).write_bytes(encoded(NOISE, kind))
    with monkeypatch.context() as without:
        here = {name: suffixes for name, suffixes in FORMATS.items() if name != format}
        without.setattr(formats, "FORMATS", here)
        for _ in range(2):
            store = pipeline.run(stub, tmp_path / "photos", tmp_path / "out.h5")
            (skipped,) = store.skipped_files
            assert "python3 -m pip install" in skipped.reason
            assert skipped.reason.endswith(AGAIN)
            assert skipped.digest == UNREAD
    store = pipeline.run(stub, tmp_path / "photos", tmp_path / "out.h5")
    assert len(store) == 2
    assert not len(store.skipped_files)


@heif
def test_an_extra_that_is_broken_is_refused_with_the_command(monkeypatch):
    data = encoded(GRADIENT, "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Undecodable, match=r'pip install "headstart\[heif\]"'):
        decode(data, 32)


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        (b"avif\0\0\0\0", "AVIF"),
        (b"avis\0\0\0\0msf1miaf", "AVIF"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"heic\0\0\0\0mif1heic", "HEIF"),
        (b"heix\0\0\0\0mif1avif", "HEIF"),
        (b"mif1\0\0\0\0heic", "HEIF"),
        (b"hevc\0\0\0\0msf1", "HEIF"),
        (b"isom\0\0\0\0avc1heic", None),
        (b"mp42\0\0\0\0", None),
        (b"crx \0\0\0\1crx isom", None),
    ],
)
def test_a_file_of_boxes_is_told_by_its_brands(brands, name):
    assert formats.later(box(b"ftyp", brands)) == name


def test_every_suffix_is_either_decoded_or_has_its_advice():
    suffixes = {suffix for listed in formats.LATER.values() for suffix in listed}
    assert suffixes <= SUFFIXES | set(foreign.ADVICE)
    assert not SUFFIXES & set(foreign.ADVICE)
