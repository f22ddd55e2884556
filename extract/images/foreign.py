"""Image formats that are not decoded, and what to do about each: for a suffix, and for a file."""

from typing import Final, NamedTuple

from . import exif, formats


class Kind(NamedTuple):
    """Files that are images, or hold some, and are not taken."""

    advice: str
    """What they are and what to do, as a part of a sentence about one of them or many."""
    suffixes: str = ""
    starts: tuple[bytes, ...] = ()
    """How such files begin."""
    brands: tuple[bytes, ...] = ()
    """How such files of boxes call themselves."""
    what: str = ""
    """What a file is, where its suffix says so already."""

    @property
    def reason(self) -> str:
        """Why one file cannot be used."""
        return f"{self.what}; {self.advice}" if self.what else self.advice


_RAW: Final = Kind(
    "raw data of a camera; develop to JPEG or 16-bit TIFF",
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf "
    ".pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
    (
        b"FUJIFILMCCD-RAW",
        b"FOVb",  # Sigma
        b"\0MRM",  # Minolta
        b"II\x1a\0\0\0HEAPCCDR",  # Canon's CRW
        *(b"IIRO", b"IIRS", b"MMOR"),  # Olympus
        b"IIU\0",  # Panasonic
    ),
    (b"crx ",),
)
_DICOM: Final = Kind("DICOM; convert to 8-bit PNG, window and all", ".dcm .dicom .ima")
_DRAWING: Final = Kind("a drawing without pixels; draw as PNG", ".svg .svgz")
_FILM: Final = Kind(
    "a film; cut frames out as JPEG",
    ".mp4 .m4v .mov .3gp .avi .mkv .webm .flv .mpg .mpeg .wmv .ts",
    (
        b"\x1a\x45\xdf\xa3",  # Matroska
        *(b"FLV\1", b"\0\0\1\xba", b"\0\0\1\xb3"),
        b"0&\xb2u\x8ef\xcf\x11",  # ASF
    ),
    (
        b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso8", b"mp41", b"mp42", b"mp71",
        b"avc1", b"hvc1", b"qt  ", b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"3gp4", b"3gp5", b"3gp6",
        b"3g2a", b"dash", b"cmfc", b"F4V ", b"XAVC",
    ),
)  # fmt: skip
NO_WHITE: Final = "32-bit pixels have no agreed white: save it with 8 or 16 bits"

_KINDS: Final = (
    *(
        Kind(formats.NOT_HERE[name][1], " ".join(suffixes), what=formats.NOT_HERE[name][0])
        for name, suffixes in formats.LATER.items()
        if name not in formats.FORMATS
    ),
    _RAW,
    _DICOM,
    _DRAWING,
    _FILM,
    Kind(
        "layers of a drawing program; export as PNG",
        ".psd .psb .xcf .kra .afphoto",
        (b"8BPS", b"gimp xcf"),
    ),
    Kind(
        "light without an agreed white; tone-map to PNG",
        ".exr .hdr",
        (b"\x76\x2f\x31\x01", b"#?RADIANCE", b"#?RGBE"),
    ),
    Kind("FITS; scale to 8 or 16 bits and save as PNG", ".fits .fit .fts", (b"SIMPLE  =",)),
    Kind("JPEG XL; convert to JPEG (djxl)", ".jxl", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    Kind(
        "a page of PDF or EPS; draw as PNG",
        ".pdf .eps .ps .ai",
        (b"%PDF-", b"%!PS", b"\xc5\xd0\xd3\xc6"),
    ),
    Kind(
        "volumes or slides; cut into PNG or TIFF images",
        ".nii .mha .nrrd .czi .lif .nd2 .svs .ndpi",
        (b"NRRD000",),
    ),
    Kind(
        "arrays; in Python ImageEmbedder takes them, or save as PNG",
        ".npy .npz",
        (b"\x93NUMPY",),
    ),
    Kind(
        "a format that is not decoded; convert to PNG",
        ".pgm .ppm .pbm .pnm .tga .ico .pcx .dds .bpg .wmf .emf .jxr .jpm .mj2",
        (b"DDS ", b"BPG\xfb", b"II\xbc\x01"),
    ),
    Kind(
        "unpack the archive there, or give it alone as the source",
        ".zip .tar .tgz",
        (b"PK\3\4", b"\x1f\x8b"),
        what="an archive",
    ),
    Kind(
        "give the parquet file alone as the source",
        ".parquet",
        (b"PAR1",),
        what="a parquet file",
    ),
    Kind(
        "a pointer of Git LFS in place of the image; git lfs pull",
        starts=(b"version https://git-lfs",),
    ),
)

ADVICE: Final = {suffix: kind.advice for kind in _KINDS for suffix in kind.suffixes.split()}
"""What to do about files of a suffix that are images, or hold some, and are not taken."""

KNOWN: Final = frozenset(ADVICE) | frozenset(
    (
        ".txt .csv .tsv .xml .json .jsonl .md .html .htm .py .ipynb .yaml .yml .mat .pkl .pt .h5 "
        ".hdf5 .log .ini .db .docx .xlsx .rtf .sh .joblib .keras .onnx"
    ).split()
)
"""Suffixes whose files need not be opened to know that they are no images that are decoded."""

MAY_BE_RAW: Final = (b"II*\0", b"MM\0*")

_CFA, _LINEAR_RAW, _DNG = 32_803, 34_892, 50_706
_BITS, _COLOURS, _SAMPLES, _FORMAT, _FLOAT = 258, 262, 277, 339, 3
_MOST_DIRECTORIES: Final = 32


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an image of a kind that is decoded."""
    return formats.is_image(head)


def raw(data: bytes) -> str | None:
    """What to do about a TIFF that is the raw data of a camera; None if it is not.

    Its first picture is often a preview that any program can read.
    """
    if data.startswith((b"CR", b"IIII", b"MMMM"), 8):  # Canon's CR2; Phase One
        return _RAW.advice
    for directory in exif.directories(data, _MOST_DIRECTORIES):
        tags = directory.by_tag()
        colours = directory.integer(tags[_COLOURS]) if _COLOURS in tags else None
        if _DNG in tags or colours in (_CFA, _LINEAR_RAW):
            return _RAW.advice
    return None


def reason(data: bytes) -> str | None:
    """Why a file that no decoder opens cannot be used; None if its content does not say."""
    for kind in _KINDS:
        if kind.starts and data.startswith(kind.starts):
            return kind.reason
    if data.startswith(b"DICM", 128):
        return _DICOM.advice
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _FILM.advice
    if data.startswith(MAY_BE_RAW):
        return _of_tiff(data)
    if _is_drawing(data[:4096]):
        return _DRAWING.advice
    said = formats.brands(data)
    for kind in (_RAW, _FILM):
        if said and said[0] in kind.brands:
            return kind.reason
    return None


def _is_drawing(start: bytes) -> bool:
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    text = text.lstrip("\ufeff \t\r\n")
    return text.startswith("<svg") or (text.startswith(("<?xml", "<!")) and "<svg" in text)


def _of_tiff(data: bytes) -> str | None:
    directory = exif.first_directory(data)
    if directory is None or not directory.whole:
        return None
    tags = directory.by_tag()
    bits = directory.integers(tags[_BITS], data) if _BITS in tags else (1,)
    kinds = directory.integers(tags[_FORMAT], data) if _FORMAT in tags else (1,)
    count = directory.integer(tags[_SAMPLES]) if _SAMPLES in tags else 1
    colours = directory.integer(tags[_COLOURS]) if _COLOURS in tags else -1
    if max(bits, default=1) > 16 or max(kinds, default=1) >= _FLOAT:
        return NO_WHITE
    if count > 4 or (count > 2 and colours < 2):
        return (
            f"a TIFF of {count:,} bands: which are red, green and blue is not known; save three of "
            f"them as an RGB image"
        )
    return (
        f"a TIFF of {count} x {max(bits, default=1)} bits and colours of kind {colours}, which "
        f"is not read; save it as RGB"
    )
