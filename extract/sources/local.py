"""A folder, a CSV manifest or image files on this machine -> references to images."""

import csv
import errno
import io
import os
from collections.abc import Iterator, Sequence
from typing import Final

from ...features.errors import SourceError
from ..images.decode import SUFFIXES
from .image import (
    NO_SPLIT,
    SPLIT_WORDS,
    ImageReference,
    Source,
    Unreadable,
    has_image_name,
    is_image,
    read,
    tidy,
)

_COLUMNS: Final = ("path", "label", "split")

_MOST_SHOWN: Final = 500  # characters of a cell, in a message

_LONGEST_LINE: Final = 1 << 20
"""Characters; csv itself takes 131,072 a column. A longer line is no manifest's, and could have as
many columns as there is memory for."""


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
    unseen: list[tuple[bytes, list[bytes]]] = [(root, [])]
    while unseen:
        parent, parts = unseen.pop()
        split = SPLIT_WORDS.get(os.fsdecode(parts[0]).casefold(), NO_SPLIT) if parts else NO_SPLIT
        inside = parts[1:] if split != NO_SPLIT else parts
        label = os.fsdecode(inside[-1]) if inside else None
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if _is_folder(entry):
                        if not entry.is_symlink():  # links to folders can form loops
                            unseen.append((entry.path, [*parts, entry.name]))
                    elif has_image_name(entry.name):
                        path = b"/".join([*parts, entry.name])
                        yield ImageReference(path, entry.path, label, split)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG and parts:
                # Nothing can be opened under so long a path, and so nothing is known of it. The
                # folder is listed itself: reading it will say why there is nothing from it.
                yield ImageReference(b"/".join(parts), parent, label, split)
                continue
            raise SourceError(
                f"{os.fsdecode(parent)}: this folder cannot be listed: {error.strerror}; if "
                f"it were passed over, its images would be taken for deleted. Make it readable, or "
                f"list the images to use in a CSV manifest"
            ) from error


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: reading it will say so
        return False


def manifest(file: bytes) -> list[ImageReference]:
    """The images that a CSV file lists, in its order."""
    name = os.fsdecode(file)
    try:
        data, _ = read(file)
    except Unreadable as error:
        raise SourceError(f"{name}: this manifest cannot be used: {error}") from error
    # utf-8-sig drops the mark that spreadsheets put first; surrogateescape keeps file names that
    # are not UTF-8, byte for byte.
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
    reader = csv.DictReader(_lines(text), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        if "path" not in columns:
            raise SourceError(
                f"{name}: a manifest needs the column 'path' (and may have 'label' and 'split'); "
                f"its columns are {_few(columns)}"
            )
        twice = [column for column in _COLUMNS if columns.count(column) > 1]
        if twice:
            raise SourceError(
                f"{name}: two columns are called {twice[0]!r}, and nothing says which counts; "
                f"rename or remove one"
            )
        parent = os.path.dirname(file)
        images: dict[bytes, ImageReference] = {}
        for row in reader:
            image = _manifest_row(row, parent, f"{name}, line {reader.line_num}")
            if image.path in images:
                raise SourceError(
                    f"{name}, line {reader.line_num}: {_shown(row['path'])} is listed twice"
                )
            images[image.path] = image
    except csv.Error as error:
        raise SourceError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from error
    if not images:
        raise SourceError(f"{name}: the manifest lists no images")
    missing = [image for image in images.values() if not os.path.lexists(image.location)]
    if missing:
        raise SourceError(
            f"{name}: {len(missing)} of {len(images)} images listed are not there, first "
            f"{_shown(os.fsdecode(missing[0].location))}; paths are relative to the manifest's "
            f"folder"
        )
    return list(images.values())


def _few(columns: Sequence[str]) -> str:
    """Names of columns, for a message of one line whatever the file is."""
    named = ", ".join(repr(column[:40]) for column in columns[:8]) or "none"
    return f"{named} and {len(columns) - 8} more" if len(columns) > 8 else named


def _shown(cell: str) -> str:
    """A cell, for a message that can be read at a glance whatever the cell holds."""
    return cell if len(cell) <= _MOST_SHOWN else cell[: _MOST_SHOWN - 3] + "..."


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise csv.Error(f"a line of {_LONGEST_LINE:,} characters or more")
        yield line


def _manifest_row(row: dict[str, str | None], parent: bytes, where: str) -> ImageReference:
    path = row["path"] or ""
    if not path or any("\0" in (value or "") for value in (path, row.get("label"))):
        raise SourceError(f"{where}: the path is empty, or there is a NUL in the line")
    word = (row.get("split") or "").strip().casefold()
    if word not in SPLIT_WORDS and word not in ("", NO_SPLIT):
        raise SourceError(
            f"{where}: unknown split {_shown(word)!r}; use {', '.join(SPLIT_WORDS)} or leave it "
            f"empty"
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
