"""A folder of images, or image files, on this machine -> references to images."""

import collections
import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ...features.errors import SourceError
from . import passed, tree
from .image import ImageReference, absolute, is_image, tidy
from .listing import Listing, Source

_MOST_LINKS: Final = 32
"""Ways through links to one folder: a few that lead to each other make any number."""


class NoImages(SourceError):
    """A folder without image files; it may have files that hold images."""

    def __init__(self, message: str, parquet: Sequence[str]) -> None:
        super().__init__(message)
        self.parquet = parquet


def files(sources: Sequence[Source]) -> Listing:
    """Image files, in the order in which they are given."""
    images: dict[bytes, ImageReference] = {}
    for file in map(os.fsencode, sources):
        if not os.path.lexists(file):
            raise SourceError(f"{os.fsdecode(file)}: no such file")
        if not is_image(file):
            what = "a folder" if os.path.isdir(file) else "not an image by its name"
            raise SourceError(
                f"{os.fsdecode(file)}: {what}; of images, archives or URLs several can be given at "
                f"a time, of other sources one"
            )
        path = tidy(file)
        if path in images:
            raise SourceError(f"{os.fsdecode(file)}: is given twice")
        images[path] = ImageReference(path, file)
    if not images:
        raise SourceError("no images: the list of files is empty")
    return Listing(working_folder(), list(images.values()), by_name=True)


def working_folder() -> str:
    """The folder that relative paths are relative to."""
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted: only absolute paths lead anywhere
        return os.sep


class _Folder(NamedTuple):
    location: bytes
    parts: tuple[bytes, ...]
    passed: tuple[str, ...]
    """Real paths of the folders that the links on the way to it lie in."""
    real: str
    """Its own, or of the folder above it that a link leads to."""
    below: int
    """How many of its parts are below that."""


def folder(root: bytes) -> Listing:
    """All images below a folder, by path."""
    found: list[tuple[tuple[bytes, ...], list[tuple[bytes, bytes]]]] = []
    over = passed.Over()
    unlisted: list[bytes] = []
    for here, entries in _walk(root, over, unlisted):
        found.append((here.parts, entries))
    counts: dict[tree.Parts, int] = collections.Counter()
    for parts, entries in found:
        counts[tuple(map(os.fsdecode, parts))] += len(entries)
    meanings, notes = tree.understand(counts)
    images = []
    for parts, entries in found:
        if entries:
            label, split = meanings[tuple(map(os.fsdecode, parts))]
            above = b"".join(part + b"/" for part in parts)
            images += [ImageReference(above + name, path, label, split) for name, path in entries]
    name = os.fsdecode(root)
    if not images:
        raise NoImages(
            f"{name}: no images in this folder or below it{over.instead()}",
            sorted(over.parquet),
        )
    if over.lists and len({image.label for image in images}) == 1:
        notes.append(f"to take labels from {min(over.lists, key=len)}, give that as the source")
    images.sort(key=lambda image: image.path)
    return Listing(
        os.fsdecode(absolute(root)),
        images,
        notes=over.notes(),
        label_notes=notes,
        passed_over=dict(sorted(over.counts.items())),
        unlisted=unlisted,
    )


def _walk(
    root: bytes, over: passed.Over, unlisted: list[bytes]
) -> Iterator[tuple[_Folder, list[tuple[bytes, bytes]]]]:
    """Every folder, and name and location of each image directly in it."""
    unseen = [_Folder(root, (), (), os.path.realpath(os.fsdecode(root)), 0)]
    reached: collections.Counter[str] = collections.Counter()
    while unseen:
        here = unseen.pop()
        images: list[tuple[bytes, bytes]] = []
        empty = True
        try:
            with os.scandir(here.location) as entries:
                for entry in entries:
                    name, empty = os.fsdecode(entry.name), False
                    if tree.is_others(name):
                        over.others()
                    elif _is_folder(entry):
                        below = _below(here, entry)
                        if below is None:
                            over.loop(entry.path)
                            continue
                        reached[below.real] += not below.below
                        if reached[below.real] > _MOST_LINKS:
                            raise SourceError(
                                f"{os.fsdecode(entry.path)}: more than {_MOST_LINKS} ways lead to "
                                f"{below.real} through links; do they lead to each other?"
                            )
                        unseen.append(below)
                    elif tree.is_image_name(name):
                        images.append((entry.name, entry.path))
                    elif _leads_nowhere(entry):
                        unlisted.append(b"/".join([*here.parts, entry.name]))
                        over.dangling(entry.path)
                    else:
                        over.file(name, entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG and here.parts:
                # Nothing can be opened under so long a path, and so nothing is known of it. The
                # folder is listed itself: reading it will say why there is nothing from it.
                yield here._replace(parts=here.parts[:-1]), [(here.parts[-1], here.location)]
                continue
            raise SourceError(
                f"{os.fsdecode(here.location)}: this folder cannot be listed: {error.strerror}; if "
                f"it were passed over, its images would be taken for deleted. Make it readable, or "
                f"list the images to use in a CSV file"
            ) from error
        if empty and here.parts and not here.below:
            # Of a link to a disk that is not there its empty mount point is left.
            unlisted.append(b"/".join(here.parts))
        yield here, images


def _below(here: _Folder, entry: os.DirEntry[bytes]) -> _Folder | None:
    """A folder in a folder; None for a link to one that it lies in itself."""
    parts = (*here.parts, entry.name)
    if not entry.is_symlink():
        return _Folder(entry.path, parts, here.passed, here.real, here.below + 1)
    target = os.path.realpath(os.fsdecode(entry.path))
    # From the last link on, or from the root, the way to here is of real folders.
    inner = [os.fsdecode(part) for part in here.parts[len(here.parts) - here.below :]]
    this = os.path.join(here.real, *inner)
    passed_ = (*here.passed, this)
    if any(_inside(one, target) for one in passed_):
        return None
    return _Folder(entry.path, parts, passed_, target, 0)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: reading it will say so
        return False


def _leads_nowhere(entry: os.DirEntry[bytes]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)
