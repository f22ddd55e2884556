"""Files that are images, or hold some, and are refused with what to do about them."""

import io
import struct
import zlib

import numpy as np
import pytest
from headstart.extract.images import foreign
from headstart.extract.images.decode import FORMATS, Undecodable, decode
from PIL import Image


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def tiff(*fields: tuple[int, int, int, int], order="<", follows=0, within=b"") -> bytes:
    """A TIFF of one directory of (tag, kind, count, value); `within` stands behind it."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    rows = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + struct.pack(order + ("HH" if kind == 3 and count == 1 else "I"),
                      *((value, 0) if kind == 3 and count == 1 else (value,)))
        for tag, kind, count, value in fields
    )  # fmt: skip
    return (
        head
        + struct.pack(order + "H", len(fields))
        + rows
        + struct.pack(order + "I", follows)
        + (within)
    )


def seen(data):
    return decode(data, 32).pixels


def preview(*more, **options) -> bytes:
    """A TIFF of 8 x 8 grey pixels that any program reads, as the previews in raw data."""
    fields = [
        (254, 4, 1, 1), (256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1),
        (262, 3, 1, 1), (273, 4, 1, 0), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64), *more,
    ]  # fmt: skip
    behind = 8 + 2 + 12 * len(fields) + 4
    within = options.pop("within", b"")
    fields = [
        (tag, kind, count, behind + len(within)) if tag == 273
        else (tag, kind, count, behind) if tag == 330
        else (tag, kind, count, value)
        for tag, kind, count, value in fields
    ]  # fmt: skip
    follows = behind if options.pop("chained", False) else 0
    return tiff(*sorted(fields), follows=follows, within=within + bytes(64), **options)


def directory(*fields, order="<") -> bytes:
    return tiff(*fields, order=order)[8:]


CFA = directory((262, 3, 1, 32803))
RAW = {
    "DNG": preview((50706, 1, 4, 0x00000401)),
    "NEF": preview((330, 4, 1, 0), within=CFA),
    "NEF, big-endian": preview(
        (330, 4, 1, 0), within=directory((262, 3, 1, 32803), order=">"), order=">"
    ),
    "ARW": preview((330, 4, 1, 0), within=directory((262, 3, 1, 34892))),
    "PEF": preview()[:8] + directory((262, 3, 1, 32803)),
    "in a later directory": preview(chained=True, within=CFA),
    "CR2": preview()[:8] + b"CR\2\0" + bytes(64),
    "CR3": box(b"ftyp", b"crx \0\0\0\1crx isom") + bytes(64),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(64),
    "ORF": b"IIRO\x08\0\0\0" + bytes(64),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(64),
    "X3F": b"FOVb" + bytes(64),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_data_of_a_camera_is_refused_and_not_read_as_its_preview(name):
    with pytest.raises(Undecodable, match="raw data of a camera; develop to JPEG or 16-bit TIFF"):
        decode(RAW[name], 32)


@pytest.mark.parametrize(
    "data",
    [
        preview(),
        preview(order=">"),
        preview((330, 4, 1, 0), within=directory((262, 3, 1, 1))),
        preview(chained=True, within=directory((262, 3, 1, 2))),
        preview((271, 2, 4, int.from_bytes(b"NIK\0", "little"))),
    ],
    ids=["plain", "big-endian", "with a pyramid", "of two pages", "of a camera"],
)
def test_a_tiff_that_is_no_raw_data_is_still_read(data):
    assert (seen(data) == 0).all()


def test_directories_that_follow_each_other_in_a_circle_come_to_an_end():
    data = preview(chained=True, within=b"")
    back = data[:4] + struct.pack("<I", 8)
    round_and_round = back + data[8:]
    at = 8 + 2 + 12 * 10
    circle = round_and_round[:at] + struct.pack("<I", 8) + round_and_round[at + 4 :]
    assert foreign.raw(circle) is None


def page(*fields) -> bytes:
    return tiff((256, 3, 1, 8), (257, 3, 1, 8), *fields)


REFUSED = {
    "DICOM": (bytes(128) + b"DICM" + bytes(64), "DICOM; convert to 8-bit PNG"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing without pixels"),
    "SVG with a head": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg>', "a drawing"),
    "SVG in UTF-16": ('<?xml version="1.0"?><svg>'.encode("utf-16"), "a drawing"),
    "PSD": (b"8BPS\0\1" + bytes(64), "layers of a drawing program; export as PNG"),
    "XCF": (b"gimp xcf file\0", "layers of a drawing program"),
    "JPEG XL": (b"\xff\x0a" + bytes(64), "JPEG XL; convert to JPEG"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "JPEG XL"),
    "EXR": (b"\x76\x2f\x31\x01" + bytes(64), "light without an agreed white; tone-map"),
    "PDF": (b"%PDF-1.7\n", "a page of PDF or EPS"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0", "a page of PDF or EPS"),
    "EPS of DOS": (b"\xc5\xd0\xd3\xc6" + bytes(64), "a page of PDF or EPS"),
    "FITS": (b"SIMPLE  =                    T", "FITS; scale to 8 or 16 bits"),
    "NumPy": (b"\x93NUMPY\1\0", "arrays; in Python"),
    "zip": (b"PK\3\4" + bytes(64), "an archive; unpack the archive there, or give it alone"),
    "parquet": (b"PAR1" + bytes(64), "a parquet file; give the parquet file alone"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    **{
        f"film {brand!r}": (box(b"ftyp", brand + bytes(4)) + bytes(64), "a film; cut frames out")
        for brand in (b"mp42", b"isom", b"qt  ", b"M4V ", b"3gp4")
    },
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(64), "a film"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", "a film"),
    "float TIFF": (page((258, 3, 1, 32), (339, 3, 1, 3), (262, 3, 1, 1)), "no agreed white"),
    "TIFF of 64 bits": (page((258, 3, 1, 64), (262, 3, 1, 1)), "no agreed white"),
    "TIFF of 12 bands": (page((258, 3, 1, 16), (277, 3, 1, 12), (262, 3, 1, 1)), "of 12 bands"),
    "TIFF of odd colours": (page((258, 3, 1, 8), (262, 3, 1, 32845)), "of kind 32845"),
    "web page": (b"<!DOCTYPE html>", "not an image in one of the formats"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_decoded_is_refused_with_what_to_do(name):
    data, reason = REFUSED[name]
    with pytest.raises(Undecodable, match=reason) as refused:
        decode(data, 32)
    assert len(str(refused.value).splitlines()) == 1


def test_a_raw_file_is_the_same_words_by_its_suffix_and_by_its_content():
    assert foreign.raw(RAW["DNG"]) == foreign.ADVICE[".dng"] == foreign.ADVICE[".cr3"]
    assert foreign.reason(REFUSED["PSD"][0]) == foreign.ADVICE[".psd"]


def test_what_is_decoded_is_known_by_its_first_32_bytes():
    for format in FORMATS:
        if format != "HEIF":  # Pillow writes none
            buffer = io.BytesIO()
            Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, format)
            assert foreign.is_image(buffer.getvalue()[:32]) == (format != "BMP"), format
    for name, (data, _) in REFUSED.items():
        if "TIFF" not in name:
            assert not foreign.is_image(data[:32]), name
    assert not foreign.is_image(zlib.compress(b"text"))
