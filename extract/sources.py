"""A folder, a CSV manifest or image files -> the images, with their labels and splits."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..features.errors import SourceError, WrongUsage
from ..features.known import FileStat
from ..features.layout import SPLIT_NAMES
from .decode import SUFFIXES
from .reading import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Source = str | os.PathLike[str]

NO_SPLIT, TRAIN, VALIDATION, TEST = SPLIT_NAMES
SPLIT_WORDS: Final = {
    "train": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
LABEL_RULES: Final = ("folder", "none")


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """An image that the source lists.

    Attributes
    ----------
    path : bytes
        Relative to the source; the name of the image in the feature file.
    location : bytes
        Where to open it.
    label : str or None
        Its class.
    split : str
        ``"none"``, ``"train"``, ``"validation"`` or ``"test"``.
    """

    path: bytes
    location: bytes
    label: str | None = None
    split: str = NO_SPLIT

    def stat(self) -> FileStat:
        """Size and time of the file as it is now; both 0 if it cannot be had."""
        try:
            status = os.stat(self.location)
        except OSError:
            return FileStat(self.path, 0, 0)  # reading it will say why
        return FileStat(self.path, status.st_size, status.st_mtime_ns)

    def read(self) -> tuple[bytes, FileStat]:
        """The bytes of the file, and its size and time when they were read.

        Raises
        ------
        Unreadable
            See `reading.read`.
        """
        data, status = read(self.location)
        return data, FileStat(self.path, status.st_size, status.st_mtime_ns)


def scan(source: Source | Sequence[Source], labels: str = "folder") -> list[ImageReference]:
    """List the images of a source, in its order.

    Parameters
    ----------
    source : str or path-like, or a sequence of them
        A folder, searched recursively, sorted by path: the label of an image is the name of its
        parent folder, an image directly in `source` has none; a first folder named train, val,
        valid, validation or test is a split and no label. Hidden files, and links to folders, are
        passed over.
        Or a CSV file with the columns ``path`` (relative to the file's folder, or absolute), and
        optionally ``label`` and ``split``.
        Or an image file, or a sequence of image files, which have neither.
    labels : {"folder", "none"}, default="folder"
        ``"none"`` ignores whatever labels there are.

    Raises
    ------
    WrongUsage
        If `labels` is neither.
    SourceError
        If there is no such source, no image in it, an image is listed twice, or a manifest is not
        as described.
    """
    if labels not in LABEL_RULES:
        raise WrongUsage(f"labels {labels!r}: use one of {', '.join(LABEL_RULES)}")
    if not isinstance(source, str | os.PathLike):
        return _files(source)
    root = os.fsencode(source)
    if os.path.isdir(root):
        images = sorted(_folder(root), key=lambda image: image.path)
        if not images:
            raise SourceError(
                f"{_shown(root)}: no images in this folder or below it; looked for the suffixes "
                f"{' '.join(sorted(SUFFIXES))} (links to folders are not followed)"
            )
    elif not os.path.exists(root):
        raise SourceError(
            f"{_shown(root)}: no such folder or file; give a folder of images, a CSV manifest or "
            f"an image"
        )
    elif root.lower().endswith(b".csv"):
        images = _manifest(root)
    elif _is_image(root):
        images = _files([source])
    else:
        raise SourceError(
            f"{_shown(root)}: neither a folder of images nor a CSV manifest (a file ending in "
            f".csv) nor an image ({' '.join(sorted(SUFFIXES))})"
        )
    if labels == "none":
        images = [dataclasses.replace(image, label=None) for image in images]
    return images


def name_of(source: Source | Sequence[Source]) -> str:
    """What the paths of a source are relative to, as feature files record it: an absolute path."""
    if isinstance(source, str | os.PathLike) and not _is_image(os.fsencode(source)):
        return os.fsdecode(absolute(os.fsencode(source)))
    return os.getcwd()


def absolute(path: bytes) -> bytes:
    """As `os.path.abspath`, unless that would be another file: see `_name`."""
    return _name(path if os.path.isabs(path) else os.path.join(os.getcwdb(), path))


def _is_image(file: bytes) -> bool:
    return _has_image_name(file) and not os.path.isdir(file)


def _has_image_name(file: bytes) -> bool:
    return os.fsdecode(os.path.splitext(file)[1]).casefold() in SUFFIXES


def _files(sources: Sequence[Source]) -> list[ImageReference]:
    images: dict[bytes, ImageReference] = {}
    for file in map(os.fsencode, sources):
        if not os.path.lexists(file):
            raise SourceError(f"{_shown(file)}: no such file")
        if not _is_image(file):
            raise SourceError(
                f"{_shown(file)}: not an image by its name ({' '.join(sorted(SUFFIXES))}); only "
                f"images can be given several at a time"
            )
        path = _name(file)
        if path in images:
            raise SourceError(f"{_shown(file)}: is given twice")
        images[path] = ImageReference(path, file)
    return list(images.values())


def _folder(root: bytes) -> Iterator[ImageReference]:
    # The walk does not follow links to folders, which can form loops.
    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(b".")]
        relative = os.path.relpath(folder, root)
        parts = [] if relative == b"." else relative.split(os.fsencode(os.sep))
        split = SPLIT_WORDS.get(os.fsdecode(parts[0]).casefold(), NO_SPLIT) if parts else NO_SPLIT
        inside = parts[1:] if split != NO_SPLIT else parts
        label = os.fsdecode(inside[-1]) if inside else None
        for name in names:
            if not name.startswith(b".") and _has_image_name(name):
                path = b"/".join([*parts, name])
                yield ImageReference(path, os.path.join(folder, name), label, split)


def _refuse(error: OSError) -> None:
    raise SourceError(f"{_shown(error.filename)}: this folder cannot be listed: {error.strerror}")


def _manifest(file: bytes) -> list[ImageReference]:
    shown = _shown(file)
    try:
        # utf-8-sig drops the mark that spreadsheets put first; surrogateescape keeps file names
        # that are not UTF-8, byte for byte.
        text = Path(os.fsdecode(file)).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SourceError(f"{shown}: the manifest cannot be read: {error.strerror}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        if "path" not in columns:
            raise SourceError(
                f"{shown}: a manifest needs the column 'path' (and may have 'label' and 'split'); "
                f"its columns are {', '.join(map(repr, columns)) or 'none'}"
            )
        folder = os.path.dirname(file)
        images: dict[bytes, ImageReference] = {}
        for row in reader:
            image = _manifest_row(row, folder, f"{shown}, line {reader.line_num}")
            if image.path in images:
                raise SourceError(f"{shown}, line {reader.line_num}: {row['path']} is listed twice")
            images[image.path] = image
    except csv.Error as error:
        raise SourceError(f"{shown}, line {reader.line_num}: not valid CSV: {error}") from error
    if not images:
        raise SourceError(f"{shown}: the manifest lists no images")
    missing = [image for image in images.values() if not os.path.lexists(image.location)]
    if missing:
        raise SourceError(
            f"{shown}: {len(missing)} of {len(images)} images listed are not there, first "
            f"{_shown(missing[0].location)}; paths are relative to the manifest's folder"
        )
    return list(images.values())


def _manifest_row(row: dict[str, str | None], folder: bytes, where: str) -> ImageReference:
    path = row["path"] or ""
    if not path or any("\0" in (value or "") for value in (path, row.get("label"))):
        raise SourceError(f"{where}: the path is empty, or there is a NUL in the line")
    word = (row.get("split") or "").strip().casefold()
    if word not in SPLIT_WORDS and word not in ("", NO_SPLIT):
        raise SourceError(
            f"{where}: unknown split {word!r}; use {', '.join(SPLIT_WORDS)} or leave it empty"
        )
    given = path.encode("utf-8", "surrogateescape")
    raw = _name(given, folder)
    if os.path.isabs(raw) and raw == os.path.normpath(raw):
        inside = os.path.relpath(raw, os.path.abspath(folder))
        raw = raw if inside.startswith(b"..") else inside
    return ImageReference(
        path=raw,
        location=os.path.join(folder, given),
        label=(row.get("label") or "").strip() or None,
        split=SPLIT_WORDS.get(word, NO_SPLIT),
    )


def _name(path: bytes, folder: bytes = b"") -> bytes:
    """One name for an image, however its path is spelt, unless it climbs out of a link."""
    tidy = os.path.normpath(path)
    if b".." not in path.split(os.fsencode(os.sep)):
        return tidy
    # Where link is one to a folder, link/.. is not what normpath takes it for.
    given, meant = os.path.join(folder, path), os.path.join(folder, tidy)
    try:
        same = os.path.samefile(given, meant)
    except OSError:
        same = not os.path.lexists(given)
    return tidy if same else path


def _shown(path: bytes | str) -> str:
    return os.fsdecode(path)
