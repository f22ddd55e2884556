"""Whatever a user names -> references to its images, with their labels, splits and groups."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ...features.durable.remote.url import is_remote
from ...features.errors import SourceError, WrongUsage
from ..images.decode import SUFFIXES
from . import archives, local, passed
from .image import absolute, is_image
from .listing import Listing, Source
from .lists import manifest
from .place import LocalPlace

LABEL_RULES: Final = ("folder", "none")

_HINTS: Final = {
    ".txt": "; if it lists paths, give it as standard input: headstart scan - < LIST.txt",
    ".xlsx": "; save it as CSV UTF-8",
    ".xls": "; save it as CSV UTF-8",
}

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
        or numbers of the images there, and optionally labels, splits and groups (of images that
        folds keep together); a pandas or polars data frame with such columns; ``"-"`` for paths on
        standard input, a line each.
        Or an archive (``.zip``, ``.tar``, ``.tar.gz`` ...), several of them, or WebDataset shards
        (``"shard-{000..123}.tar"``); a data set by name (``"tfds:NAME[SPLITS]"``, ``"hf:NAME"``)
        or as parquet; a URL that fsspec opens, of any of these.
        Or an image file, or a sequence of image files, which have neither label nor split; or a
        `Listing`, which is returned.
        docs/sources.md shows what is understood, layout by layout.
    labels : {"folder", "none"}, default="folder"
        ``"none"`` ignores whatever labels and groups there are, and of lists whatever splits.
    columns : mapping, optional
        The columns of a list that have no usual names, such as
        ``{"path": "slide", "label": "tissue", "split": "cohort", "group": "patient"}``.

    Raises
    ------
    WrongUsage
        If `labels` is neither; if `columns` names anything else, or the source is no list.
    SourceError
        If the source is not there or holds no image, an image is listed twice, or a list is not as
        described.
    MissingExtra
        If it takes a library that is not installed.
    """
    if labels not in LABEL_RULES:
        raise WrongUsage(f"labels {labels!r}: use one of {', '.join(LABEL_RULES)}")
    listing = _listed(source, manifest.checked(columns), labels=labels != "none")
    return listing.without_labels() if labels == "none" else listing


def _listed(source: Named, columns: Mapping[str, str], *, labels: bool) -> Listing:
    if isinstance(source, str | os.PathLike):
        return _called(os.fsdecode(source), columns, labels=labels)
    if manifest.is_frame(source):
        return manifest.of_frame(source, columns, labels=labels)
    if isinstance(source, Listing):
        _require_none(columns)
        return source
    several = list(source) if isinstance(source, Iterable) else [source]
    odd = [type(one).__name__ for one in several if not isinstance(one, str | os.PathLike)]
    if odd or isinstance(source, bytes | Mapping):
        raise WrongUsage(
            f"source: a path, several paths, a data frame or a Listing is expected; received "
            f"{type(source).__name__}" + (f" with {odd[0]}" if odd else "")
        )
    if len(several) == 1:
        return _called(os.fsdecode(several[0]), columns, labels=labels)
    return _several(list(map(os.fsdecode, several)), columns)


def _called(name: str, columns: Mapping[str, str], *, labels: bool) -> Listing:
    """The images of a source that has a name."""
    name = name.removeprefix("file://")
    # What most sources have no use for is imported when it is met.
    if is_remote(name):
        from .remote import scan as remote

        return remote.listed(name, columns)
    kind = "" if os.path.lexists(name) else name.partition(":")[0]
    if kind == "tfds":
        from .datasets import tfds

        return tfds.listed(name, columns)
    if kind == "hf":
        from .datasets import huggingface

        return huggingface.listed(name, columns)
    if name != "-" and not archives.is_archive(name) and not os.path.exists(name):
        raise SourceError(
            f"{name}: no such folder or file; give a folder of images, a list of them (.csv), an "
            f"archive, a data set, a URL or an image"
        )
    if manifest.is_list(os.fsencode(name)):
        return manifest.of_file(os.fsencode(name), columns, labels=labels)
    if name.lower().endswith(passed.PARQUET) and os.path.isfile(name):
        return _parquet([name], name, columns)
    try:
        listing = _local(name)
    except local.NoImages as error:
        if not error.parquet:
            raise
        return _parquet(error.parquet, name, columns)
    _require_none(columns)
    return listing


def _local(name: str) -> Listing:
    root = os.fsencode(name)
    if name == "-":
        return manifest.of_input()
    if archives.is_archive(name):
        places = [LocalPlace(absolute(os.fsencode(one))) for one in archives.names(name)]
        return archives.listed(os.fsdecode(absolute(root)), places)
    if os.path.isdir(root):
        return local.folder(root)
    if is_image(root):
        return local.files([name])
    hint = _HINTS.get(os.path.splitext(name)[1].casefold(), "")
    raise SourceError(
        f"{name}: neither a folder of images nor a list of them (.csv, .tsv), an archive (.zip, "
        f".tar, .tar.gz ...) or an image ({' '.join(sorted(SUFFIXES))}){hint}"
    )


def _several(names: Sequence[str], columns: Mapping[str, str]) -> Listing:
    """The images of sources that are given one by one: all are of one kind."""
    if names and all(name.lower().endswith(passed.PARQUET) for name in names):
        return _parquet(names, os.path.commonpath(list(map(os.path.abspath, names))), columns)
    _require_none(columns)
    if names and all(map(is_remote, names)):
        from .remote import scan as remote

        return remote.files(names)
    if len(names) > 1 and all(map(archives.is_archive, names)):
        paths = [os.path.abspath(one) for name in names for one in archives.names(name)]
        places = [LocalPlace(os.fsencode(path)) for path in paths]
        return archives.listed(os.path.commonpath(paths), places)
    return local.files(names)


def _parquet(files: Sequence[str], name: str, columns: Mapping[str, str]) -> Listing:
    from .datasets import huggingface

    return huggingface.of_parquet(files, os.path.abspath(name), columns)


def _require_none(columns: Mapping[str, str]) -> None:
    if columns:
        raise WrongUsage(
            f"columns {', '.join(columns.values())}: only lists and data sets have columns"
        )


def is_source(file: str | os.PathLike[str], source: object) -> bool:
    """Whether a file is a source, or one of those in it that are given one by one."""
    if isinstance(source, Listing):
        named: list[object] = [source.name]
        named += [image.location for image in source if source.by_name]
    else:
        named = list(source) if isinstance(source, list | tuple) else [source]
    if not os.path.exists(file):
        return False
    paths = [one for one in named if isinstance(one, str | bytes | os.PathLike)]
    return any(os.path.exists(path) and os.path.samefile(file, path) for path in paths)
