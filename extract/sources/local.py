"""A folder, a CSV manifest or image files on this machine -> references to images."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...features.errors import SourceError
from ..images.decode import SUFFIXES
from .image import (
    NO_SPLIT,
    SPLIT_WORDS,
    ImageReference,
    Source,
    has_image_name,
    is_image,
    tidy,
)


def files(sources: Sequence[Source]) -> list[ImageReference]:
    """Image files, in the order in which they are given."""
    images: dict[bytes, ImageReference] = {}
    for file in map(os.fsencode, sources):
        if not os.path.lexists(file):
            raise SourceError(f"{os.fsdecode(file)}: no such file")
        if not is_image(file):
            raise SourceError(
                f"{os.fsdecode(file)}: not an image by its name "
                f"({' '.join(sorted(SUFFIXES))}); only images can be given several at a time"
            )
        path = tidy(file)
        if path in images:
            raise SourceError(f"{os.fsdecode(file)}: is given twice")
        images[path] = ImageReference(path, file)
    if not images:
        raise SourceError("no images: the list of files is empty")
    return list(images.values())


def folder(root: bytes) -> Iterator[ImageReference]:
    """All images below a folder, in no order."""
    # The walk does not follow links to folders, which can form loops.
    for parent, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(b".")]
        relative = os.path.relpath(parent, root)
        parts = [] if relative == b"." else relative.split(os.fsencode(os.sep))
        split = SPLIT_WORDS.get(os.fsdecode(parts[0]).casefold(), NO_SPLIT) if parts else NO_SPLIT
        inside = parts[1:] if split != NO_SPLIT else parts
        label = os.fsdecode(inside[-1]) if inside else None
        for name in names:
            if not name.startswith(b".") and has_image_name(name):
                path = b"/".join([*parts, name])
                yield ImageReference(path, os.path.join(parent, name), label, split)


def _refuse(error: OSError) -> None:
    raise SourceError(
        f"{os.fsdecode(error.filename)}: this folder cannot be listed: {error.strerror}"
    )


def manifest(file: bytes) -> list[ImageReference]:
    """The images that a CSV file lists, in its order."""
    name = os.fsdecode(file)
    try:
        # utf-8-sig drops the mark that spreadsheets put first; surrogateescape keeps file names
        # that are not UTF-8, byte for byte.
        text = Path(os.fsdecode(file)).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SourceError(f"{name}: the manifest cannot be read: {error.strerror}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        if "path" not in columns:
            raise SourceError(
                f"{name}: a manifest needs the column 'path' (and may have 'label' and 'split'); "
                f"its columns are {', '.join(map(repr, columns)) or 'none'}"
            )
        parent = os.path.dirname(file)
        images: dict[bytes, ImageReference] = {}
        for row in reader:
            image = _manifest_row(row, parent, f"{name}, line {reader.line_num}")
            if image.path in images:
                raise SourceError(f"{name}, line {reader.line_num}: {row['path']} is listed twice")
            images[image.path] = image
    except csv.Error as error:
        raise SourceError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from error
    if not images:
        raise SourceError(f"{name}: the manifest lists no images")
    missing = [image for image in images.values() if not os.path.lexists(image.location)]
    if missing:
        raise SourceError(
            f"{name}: {len(missing)} of {len(images)} images listed are not there, first "
            f"{os.fsdecode(missing[0].location)}; paths are relative to the manifest's folder"
        )
    return list(images.values())


def _manifest_row(row: dict[str, str | None], parent: bytes, where: str) -> ImageReference:
    path = row["path"] or ""
    if not path or any("\0" in (value or "") for value in (path, row.get("label"))):
        raise SourceError(f"{where}: the path is empty, or there is a NUL in the line")
    word = (row.get("split") or "").strip().casefold()
    if word not in SPLIT_WORDS and word not in ("", NO_SPLIT):
        raise SourceError(
            f"{where}: unknown split {word!r}; use {', '.join(SPLIT_WORDS)} or leave it empty"
        )
    given = path.encode("utf-8", "surrogateescape")
    raw = tidy(given, parent)
    if os.path.isabs(raw) and raw == os.path.normpath(raw):
        inside = os.path.relpath(raw, os.path.abspath(parent))
        raw = raw if inside.startswith(b"..") else inside
    return ImageReference(
        path=raw,
        location=os.path.join(parent, given),
        label=(row.get("label") or "").strip() or None,
        split=SPLIT_WORDS.get(word, NO_SPLIT),
    )
