import io

import numpy as np
import pytest
from headstart.extract.images.decode import Undecodable, decode
from PIL import Image, JpegImagePlugin

GRADIENT = np.stack(
    [
        np.tile(np.linspace(0, 255, 64), (48, 1)),
        np.tile(np.linspace(0, 255, 48)[:, None], (1, 64)),
        np.full((48, 64), 90.0),
    ],
    axis=-1,
).astype(np.uint8)


def encoded(image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, format, **options
    )
    return buffer.getvalue()


def pixels(data, size=32, fit="stretch"):
    return decode(data, size, fit).pixels


def mean_difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_format_gives_the_same_picture(format):
    options = {"quality": 95} if format in ("JPEG", "WEBP") else {}
    decoded = decode(encoded(GRADIENT, format, **options), 32)
    assert decoded.pixels.shape == (32, 32, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (64, 48)
    assert mean_difference(decoded.pixels, pixels(encoded(GRADIENT))) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
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
    stored = encoded(np.ascontiguousarray(turn(GRADIENT)), "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(stored), pixels(encoded(GRADIENT)))


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    grey = pixels(encoded(ramp), 64)[..., 0]
    np.testing.assert_array_equal(grey, np.round(ramp / 257).astype(np.uint8))


def test_transparent_pixels_become_white_whatever_lies_under_them():
    image = np.dstack([GRADIENT, np.zeros((48, 64), np.uint8)])
    assert (pixels(encoded(image)) == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0] * 768)
    assert (pixels(encoded(palette, transparency=3)) == 255).all()
    half = np.dstack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 128, np.uint8)])
    assert (pixels(encoded(half)) == 127).all()


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert pixels(data)[0, 0].tolist() == [255, 0, 0], format


def test_cmyk_and_grey_become_rgb():
    assert pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))[0, 0, 0] > 200
    grey = pixels(encoded(Image.new("L", (8, 8), 77)))
    assert (grey == 77).all()


def test_resizing_is_bilinear_with_antialiasing():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    smooth = pixels(encoded(noise), 16)
    means = noise.reshape(16, 16, 16, 16, 3).mean(axis=(1, 3))
    assert mean_difference(smooth, means) < 8  # sampling single pixels would give about 64


def test_fit_crops_or_pads_to_a_square_and_keeps_proportions():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (pixels(encoded(wide), 20, "crop") == 255).all()
    padded = pixels(encoded(wide), 60, "pad")
    assert (padded[:18] == 128).all()
    assert (padded[25:35, 25:35] == 255).all()
    assert (padded[25:35, :18] == 0).all()
    assert 0 < pixels(encoded(wide), 20, "stretch").mean() < 255


LARGE = np.kron(GRADIENT, np.ones((32, 32, 1), np.uint8))  # 2,048 x 1,536


@pytest.mark.parametrize(("size", "turned"), [(150, False), (150, True), (400, False)])
def test_a_large_jpeg_is_decoded_at_reduced_scale_and_looks_the_same(size, turned, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    data = encoded(LARGE, "JPEG", quality=90, exif=exif)
    asked = []
    draft = JpegImagePlugin.JpegImageFile.draft
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile,
        "draft",
        lambda image, *arguments: asked.append(draft(image, *arguments)),
    )
    reduced = decode(data, size)
    # The shorter side may not fall below 4 x 150 = 600: half of 1,536 is allowed, a quarter is not.
    assert [result[1][2:] for result in asked] == [(1024, 768) if size == 150 else (2048, 1536)]
    assert (reduced.width, reduced.height) == ((1536, 2048) if turned else (2048, 1536))
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", lambda *_: None)
    assert mean_difference(reduced.pixels, decode(data, size).pixels) < 0.5


def test_small_inputs_see_the_whole_jpeg(monkeypatch):
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", None)
    assert decode(encoded(LARGE, "JPEG"), 149).width == 2048


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html>", "not an image in one of the formats"),
        (b"%!PS-Adobe-3.0 EPSF", "a page of PDF or EPS; draw as PNG"),
        (encoded(GRADIENT, "JPEG")[:-400], "truncated"),
        (encoded(GRADIENT, "PNG")[:-100], "truncated|damaged"),
        (encoded(np.zeros((8, 8), np.float32), "TIFF"), "32-bit pixels"),
        (encoded(np.zeros((8, 8), np.int32), "TIFF"), "32-bit pixels"),
        (encoded(Image.new("1", (20_000, 20_000))), "megapixels"),
    ],
    ids=["empty", "html", "eps", "cut jpeg", "cut png", "float", "int32", "400 megapixels"],
)
def test_what_is_no_usable_image_gets_a_reason(data, reason):
    with pytest.raises(Undecodable, match=reason):
        decode(data, 32)


def test_a_format_outside_the_list_is_refused_though_pillow_reads_it():
    with pytest.raises(Undecodable, match="formats JPEG, PNG, GIF, BMP, WEBP, TIFF"):
        decode(encoded(GRADIENT, "PPM"), 32)
