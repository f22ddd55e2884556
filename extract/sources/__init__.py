"""Whatever a user names -> references to its images, with their labels and splits."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ...features.errors import SourceError, WrongUsage
from ..images.decode import SUFFIXES
from . import local, manifest
from .image import is_image
from .listing import Listing, Source

LABEL_RULES: Final = ("folder", "none")

Named = Source | Sequence[Source] | Listing | Any
"""What names images: see `scan`. (Any: a data frame, whose library need not be installed.)"""

_BY_PREFIX: Final[Mapping[str, Callable[[str], Listing]]] = {}
"""Sources that are no files on this machine, by what stands before their first colon."""


def scan(
    source: Named, labels: str = "folder", *, columns: Mapping[str, str] | None = None
) -> Listing:
    """List the images of a source, in its order.

    Parameters
    ----------
    source : str or path-like, a sequence of them, or a data frame
        A folder, searched recursively through links too, sorted by path: the label of an image is
        the name of the folder that it lies in. If every image has a folder such as train, val or
        test on its path that is its split, and no label.
        Or a list: a CSV or TSV file with a column of paths, relative to its own folder, or of names
        or numbers of the images there, and optionally labels and splits; a pandas or polars data
        frame with such columns; ``"-"`` for paths on standard input, a line each.
        Or an image file, or a sequence of image files, which have neither.
        docs/sources.md shows what is understood, layout by layout.
    labels : {"folder", "none"}, default="folder"
        ``"none"`` ignores whatever labels there are.
    columns : mapping, optional
        The columns of a list that have no usual names, such as
        ``{"path": "slide", "label": "tissue", "split": "cohort"}``.

    Raises
    ------
    WrongUsage
        If `labels` is neither; if `columns` names anything else, or the source is no list.
    SourceError
        If the source is not there or holds no image, an image is listed twice, or a list is not as
        described.
    """
    if labels not in LABEL_RULES:
        raise WrongUsage(f"labels {labels!r}: use one of {', '.join(LABEL_RULES)}")
    listing = _listed(source, manifest.checked(columns))
    return listing.without_labels() if labels == "none" else listing


def _listed(source: Named, columns: Mapping[str, str]) -> Listing:
    if manifest.is_frame(source):
        return manifest.of_frame(source, columns)
    if isinstance(source, str | os.PathLike):
        name, root = os.fsdecode(source), os.fsencode(source)
        if name == "-" and not columns:
            return manifest.of_input()
        if manifest.is_list(root):
            return manifest.of_file(root, columns)
    if columns:
        raise WrongUsage(
            f"columns {', '.join(columns.values())}: only lists have columns (.csv, .tsv, .txt)"
        )
    if isinstance(source, Listing):
        return source
    if not isinstance(source, str | os.PathLike):
        return local.files(source)
    by_prefix = _BY_PREFIX.get(name.partition(":")[0])
    if by_prefix is not None:
        return by_prefix(name)
    if os.path.isdir(root):
        return local.folder(root)
    if not os.path.exists(root):
        raise SourceError(
            f"{name}: no such folder or file; give a folder of images, a CSV manifest or an image"
        )
    if is_image(root):
        return local.files([source])
    raise SourceError(
        f"{name}: neither a folder of images nor a CSV manifest (a file ending in "
        f".csv) nor an image ({' '.join(sorted(SUFFIXES))})"
    )


def is_source(file: str | os.PathLike[str], source: object) -> bool:
    """Whether a file is a source, or one of those in it that are given one by one."""
    named = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(named, list | tuple) or not os.path.exists(file):
        return False
    paths = [one for one in named if isinstance(one, str | os.PathLike) and os.path.exists(one)]
    return any(os.path.samefile(file, path) for path in paths)
