"""The library datasets: imported when it is needed, and what it keeps and says."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ....features.errors import MissingExtra, SourceError, first_line, install_command
from .. import tree
from ..image import ImageReference
from ..notes import about_groups
from . import rows
from .arrow import table
from .file import File

_MOST_SAID: Final = 400  # characters of what the library says


def library() -> Any:
    """The module; a `MissingExtra` has the command that installs it."""
    try:
        import datasets
    except Exception as error:  # of the libraries that it imports, too
        raise MissingExtra(
            f"hf: sources and parquet files need the library datasets, which cannot be imported "
            f"({first_line(error)}); install it with: {install_command('hf')}"
        ) from error
    return datasets


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Say in one line what failed, whatever it is: readers of data sets fail in their own ways."""
    try:
        yield
    except (SourceError, MissingExtra):
        raise
    except Exception as error:
        cause = error.__cause__ or error  # "An error occurred while generating the dataset"
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        said = " ".join(lines[:2])[:_MOST_SAID] or type(cause).__name__
        raise SourceError(f"{what}: {said.rstrip('.:')}") from error


def cached(datasets: Any, files: Iterable[File]) -> str:
    """A folder of the library's cache for files as they are now.

    The library itself looks at nothing but their time, which whoever packs data sets may set.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(repr(file).encode())
    cache = os.fspath(datasets.config.HF_DATASETS_CACHE)
    return os.path.join(cache, "headstart", digest.hexdigest())


def tables_of(source: str, data: Any) -> list[tuple[Any, File]]:
    """The tables that the rows of a data set are in, one after the other."""
    files = [File.at(one["filename"], source) for one in data.cache_files]
    with told(f"{source}: the cache of the library datasets cannot be read"):
        tables = [(table(file), file) for file in files]
    if sum(one.num_rows for one, _ in tables) != len(data):
        raise SourceError(
            f"{source}: the library datasets keeps it in memory, or in another order; unset "
            f"HF_DATASETS_IN_MEMORY_MAX_SIZE, or save it as parquet"
        )
    return tables


def about_labels(
    labelled: Mapping[str, Sequence[ImageReference]],
    images: Sequence[ImageReference],
    group: str | None,
) -> list[str]:
    """Notes on labels, by the columns that they are from; and on groups, by theirs."""
    notes = [rows.about_unlabelled(several, label) for label, several in labelled.items()]
    every = (image.label for several in labelled.values() for image in several)
    said = about_groups(group, ((image.group, image.split) for image in images))
    return [*itertools.chain(*notes), *tree.about_labels(every), *said]
