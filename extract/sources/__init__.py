"""Whatever a user names -> references to its images, with their labels and splits."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Final

from ...features.errors import SourceError, WrongUsage
from ..images.decode import SUFFIXES
from . import local
from .image import ImageReference, Source, absolute, is_image

LABEL_RULES: Final = ("folder", "none")


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
        If the source is not there or holds no image, an image is listed twice, or a manifest is
        not as described.
    """
    if labels not in LABEL_RULES:
        raise WrongUsage(f"labels {labels!r}: use one of {', '.join(LABEL_RULES)}")
    if not isinstance(source, str | os.PathLike):
        return local.files(source)
    root, name = os.fsencode(source), os.fsdecode(source)
    if os.path.isdir(root):
        images = sorted(local.folder(root), key=lambda image: image.path)
        if not images:
            raise SourceError(
                f"{name}: no images in this folder or below it; looked for the suffixes "
                f"{' '.join(sorted(SUFFIXES))} (links to folders are not followed)"
            )
    elif not os.path.exists(root):
        raise SourceError(
            f"{name}: no such folder or file; give a folder of images, a CSV manifest or an image"
        )
    elif root.lower().endswith(b".csv"):
        images = local.manifest(root)
    elif is_image(root):
        images = local.files([source])
    else:
        raise SourceError(
            f"{name}: neither a folder of images nor a CSV manifest (a file ending in "
            f".csv) nor an image ({' '.join(sorted(SUFFIXES))})"
        )
    if labels == "none":
        images = [dataclasses.replace(image, label=None) for image in images]
    return images


def name_of(source: Source | Sequence[Source]) -> str:
    """The absolute path that the paths of a source are relative to, as feature files record it."""
    if isinstance(source, str | os.PathLike) and not is_list(source):
        return os.fsdecode(absolute(os.fsencode(source)))
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted: only absolute paths lead anywhere
        return os.sep


def is_list(source: Source | Sequence[Source]) -> bool:
    """Whether a source is no more than the images that it names one by one."""
    return not isinstance(source, str | os.PathLike) or is_image(os.fsencode(source))
