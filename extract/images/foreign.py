"""Image formats that are not decoded, and what to do about each."""

from collections.abc import Mapping
from typing import Final

from ...features.errors import install_command
from . import decode

_RAW: Final = [
    ".3fr",
    ".arw",
    ".cr2",
    ".cr3",
    ".crw",
    ".dcr",
    ".dng",
    ".erf",
    ".iiq",
    ".kdc",
    ".mef",
    ".mos",
    ".mrw",
    ".nef",
    ".nrw",
    ".orf",
    ".pef",
    ".raf",
    ".raw",
    ".rw2",
    ".rwl",
    ".sr2",
    ".srf",
    ".srw",
    ".x3f",
]


def _advice() -> Mapping[str, str]:
    found = {
        **dict.fromkeys((".heic", ".heif", ".hif"), f"install {install_command('heif')}"),
        ".avif": "this Pillow has no AVIF; upgrade it: python3 -m pip install -U pillow",
        **dict.fromkeys(
            (".jp2", ".j2k", ".jpf", ".jpx"), "this Pillow has no JPEG 2000; convert them to PNG"
        ),
        **dict.fromkeys(_RAW, "raw data of a camera; develop them to JPEG or 16-bit TIFF"),
        **dict.fromkeys((".svg", ".svgz"), "drawings have no pixels; draw them as PNG"),
        **dict.fromkeys(
            (".psd", ".psb", ".xcf", ".kra"), "layers of a drawing program; export PNG"
        ),
        **dict.fromkeys(
            (".dcm", ".dicom", ".ima"), "DICOM; convert them to 8-bit PNG, window and all"
        ),
        **dict.fromkeys(
            (".nii", ".mha", ".nrrd", ".czi", ".lif", ".nd2", ".svs", ".ndpi"),
            "volumes and slides; cut them into PNG or TIFF images",
        ),
        **dict.fromkeys((".exr", ".hdr"), "light has no agreed white; tone-map them to PNG"),
        **dict.fromkeys((".jxl",), "convert them to JPEG (djxl)"),
        **dict.fromkeys(
            (".pgm", ".ppm", ".pbm", ".pnm", ".tga", ".ico", ".pcx", ".eps"), "convert them to PNG"
        ),
        **dict.fromkeys((".pdf",), "pages; draw them as PNG"),
        **dict.fromkeys(
            (".npy", ".npz"), "arrays; in Python ImageEmbedder takes them, or save them as PNG"
        ),
        **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "films; cut frames out as JPEG"),
        **dict.fromkeys(
            (".zip", ".tar", ".tgz", ".parquet"), "give them as the source themselves, or unpack"
        ),
    }
    return {suffix: advice for suffix, advice in found.items() if suffix not in decode.SUFFIXES}


ADVICE: Final = _advice()
"""What to do about files of a suffix that are images, or hold some, and are not taken."""

KNOWN: Final = frozenset(ADVICE) | frozenset(
    [
        ".txt",
        ".csv",
        ".tsv",
        ".xml",
        ".json",
        ".jsonl",
        ".md",
        ".html",
        ".htm",
        ".py",
        ".ipynb",
        ".yaml",
        ".yml",
        ".mat",
        ".pkl",
        ".pt",
        ".h5",
        ".hdf5",
        ".log",
        ".ini",
        ".db",
        ".docx",
        ".xlsx",
        ".rtf",
        ".sh",
        ".joblib",
        ".keras",
        ".onnx",
    ]
)
"""Suffixes whose files need not be opened to know that they are no images that are decoded."""

_MAGIC: Final = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ",
)  # fmt: skip


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an image of a kind that is decoded."""
    return (
        head.startswith(_MAGIC)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"heic", b"heix", b"mif1"))
    )
