"""The formats that are decoded: their suffixes, how each is told, and how it is opened."""

import importlib.util
import io
from collections.abc import Callable
from typing import Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from ...features.errors import install_command
from ...features.records import AGAIN

_AT_HAND: Final = {
    JpegImagePlugin.JpegImageFile.format: (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    PngImagePlugin.PngImageFile.format: (".png",),
    GifImagePlugin.GifImageFile.format: (".gif",),
    BmpImagePlugin.BmpImageFile.format: (".bmp",),
    WebPImagePlugin.WebPImageFile.format: (".webp",),
    TiffImagePlugin.TiffImageFile.format: (".tif", ".tiff"),
}
_ORIENTATION: Final = 0x0112
AVIF, HEIF, JPEG_2000 = "AVIF", "HEIF", "JPEG2000"
LATER: Final = {
    AVIF: (".avif", ".avifs"),
    JPEG_2000: (".jp2", ".j2k", ".jpc", ".j2c", ".jpf", ".jpx"),
    HEIF: (".heic", ".heics", ".heif", ".heifs", ".hif"),
}
"""Those whose decoders are loaded when the first such image is met, and need not be there."""


def _is_there(name: str) -> bool:
    """Whether a decoder is installed, found out without loading it (1.9 ms for AVIF's alone)."""
    if name == JPEG_2000:
        return features.check_codec("jpg_2000")
    try:
        return importlib.util.find_spec("PIL._avif" if name == AVIF else "pillow_heif") is not None
    except (ImportError, ValueError):
        return False


FORMATS: Final = {
    **_AT_HAND,
    **{name: suffixes for name, suffixes in LATER.items() if _is_there(name)},
}
"""Name of each format that may be decoded here, and its file suffixes.

Each decoder is native code that strangers' bytes reach, so the list is short on purpose. Importing
the plugins here spares Pillow from loading every one it has.
"""

SUFFIXES: Final = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

_UPGRADE: Final = "this Pillow cannot read it: python3 -m pip install -U pillow"
NOT_HERE: Final = {
    AVIF: ("AVIF", _UPGRADE),
    JPEG_2000: ("JPEG 2000", _UPGRADE),
    HEIF: ("HEIC", f"install what decodes it: {install_command('heif')}"),
}
"""What an image is whose format may be decoded and is not, and what to do about it."""

HEIF_BRANDS: Final = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF_BRANDS: Final = frozenset((b"avif", b"avis"))
STARTS_OF_JPEG_2000: Final = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")


def brands(data: bytes) -> list[bytes]:
    """The brands of a file in boxes, its own first; nothing if it is none."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]


def later(data: bytes) -> str | None:
    """Which of `LATER` a file is, by its first bytes."""
    if data.startswith(STARTS_OF_JPEG_2000):
        return JPEG_2000
    said = brands(data)
    if not said:
        return None
    # HEIC has the general brands as well, and so may AVIF: whichever is named is meant.
    own = _AVIF_BRANDS if said[0] in _AVIF_BRANDS else HEIF_BRANDS - {b"mif1", b"msf1"}
    if said[0] in own:
        return AVIF if own is _AVIF_BRANDS else HEIF
    if said[0] in HEIF_BRANDS:
        return AVIF if _AVIF_BRANDS.intersection(said) else HEIF
    return None


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes (32 are enough) is of a format decoded here."""
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    return later(head) in FORMATS


class Undecodable(Exception):
    """Why an image cannot be used; the message is the ledger's reason."""


class Missing(Undecodable):
    """The decoder of a format is not installed, and may be when the next run tries it."""

    def __init__(self, name: str, error: ImportError | None = None) -> None:
        why = f" ({error})" if error else ""
        super().__init__(f"{'; '.join(NOT_HERE[name])}{why}; {AGAIN}")


def opened(data: bytes) -> ImageFile.ImageFile:
    """Open an image file of any of the formats, without decoding its pixels."""
    file = io.BytesIO(data)
    name = later(data)
    if name is None:
        return Image.open(file, formats=list(_AT_HAND))
    if name not in FORMATS:
        raise Missing(name)
    try:
        if name == HEIF:
            from pillow_heif import HeifImageFile

            # Not the plugin that Pillow would use from then on, in the whole process.
            plugin: Callable[[io.BytesIO], ImageFile.ImageFile] = HeifImageFile
            return plugin(file)
        if name == AVIF:
            from PIL import AvifImagePlugin  # noqa: F401
        else:
            from PIL import Jpeg2KImagePlugin  # noqa: F401
    except ImportError as error:
        raise Missing(name, error) from error
    return Image.open(file, formats=[name])


def turn(image: ImageFile.ImageFile) -> int | None:
    """How the boxes of an AVIF say that it is to be turned, as EXIF counts; None for others.

    Pillow gives it in place of what EXIF said; its pixels are as they are stored.
    """
    if image.format != AVIF:
        return None
    said = image.getexif().get(_ORIENTATION, 1)
    return said if said in range(1, 9) else 1
