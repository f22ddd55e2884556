"""Whatever a user names -> references to its images, with their labels and splits."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...features.errors import SourceError, WrongUsage
from ..images.decode import SUFFIXES
from . import archives, local, tree
from .image import absolute, is_image
from .listing import Listing, Source
from .lists import manifest
from .place import LocalPlace
from .remote.url import is_remote

LABEL_RULES: Final = ("folder", "none")

Named = Source | Sequence[Source] | Listing | Any
"""What names images: see `scan`. (Any: a data frame, whose library need not be installed.)"""


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
    if isinstance(source, str | os.PathLike):
        return _called(os.fsdecode(source), columns)
    if manifest.is_frame(source):
        return manifest.of_frame(source, columns)
    _require_none(columns)
    return source if isinstance(source, Listing) else _several(source)


def _called(name: str, columns: Mapping[str, str]) -> Listing:
    """The images of a source that has a name."""
    # What most sources have no use for is imported when it is met.
    if is_remote(name):
        from .remote import scan as remote

        return remote.listed(name, columns)
    kind = "" if os.path.lexists(name) else name.partition(":")[0]
    if kind == "tfds":
        from .datasets import tfds

        return tfds.listed(name, columns)
    parquet = _parquet(name)
    if kind == "hf" or parquet:
        from .datasets import huggingface

        if not parquet:
            return huggingface.listed(name, columns)
        return huggingface.of_parquet(parquet, os.path.abspath(name), columns)
    if manifest.is_list(os.fsencode(name)):
        return manifest.of_file(os.fsencode(name), columns)
    _require_none(columns)
    return _local(name)


def _require_none(columns: Mapping[str, str]) -> None:
    if columns:
        raise WrongUsage(
            f"columns {', '.join(columns.values())}: only lists and data sets have columns"
        )


def _local(name: str) -> Listing:
    root = os.fsencode(name)
    if name == "-":
        return manifest.of_input()
    if archives.is_archive(name):
        places = [LocalPlace(absolute(os.fsencode(one))) for one in archives.names(name)]
        return archives.listed(os.fsdecode(absolute(root)), places)
    if os.path.isdir(root):
        return local.folder(root)
    if not os.path.exists(root):
        raise SourceError(
            f"{name}: no such folder or file; give a folder of images, a list of them (.csv), an "
            f"archive or an image"
        )
    if is_image(root):
        return local.files([name])
    raise SourceError(
        f"{name}: neither a folder of images nor a list of them (a file ending in .csv or .tsv), "
        f"an archive (.zip, .tar, .tar.gz ...) or an image ({' '.join(sorted(SUFFIXES))})"
    )


def _several(sources: Sequence[Source]) -> Listing:
    names = list(map(os.fsdecode, sources))
    if len(names) > 1 and all(map(archives.is_archive, names)):
        paths = [os.path.abspath(one) for name in names for one in archives.names(name)]
        places = [LocalPlace(os.fsencode(path)) for path in paths]
        return archives.listed(os.path.commonpath(paths), places)
    if names and all(map(is_remote, names)):
        from .remote import scan as remote

        return remote.files(names)
    return local.files(names)


def _parquet(name: str) -> list[str]:
    """The parquet files of a source: itself, or those of a folder that has nothing else."""
    if name.lower().endswith(".parquet") and os.path.isfile(name):
        return [name]
    if not os.path.isdir(name):
        return []
    try:
        found = sorted(entry for entry in os.listdir(name) if not tree.is_others(entry))
    except OSError:  # listing it will say why
        return []
    files = [os.path.join(name, entry) for entry in found if entry.lower().endswith(".parquet")]
    return files if len(files) == len(found) else []


def is_source(file: str | os.PathLike[str], source: object) -> bool:
    """Whether a file is a source, or one of those in it that are given one by one."""
    named = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(named, list | tuple) or not os.path.exists(file):
        return False
    paths = [one for one in named if isinstance(one, str | os.PathLike) and os.path.exists(one)]
    return any(os.path.samefile(file, path) for path in paths)
