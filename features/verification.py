"""Verification: every checksum, digest and rule of a feature file; what is wrong, and where."""

import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import layout, rules
from .digest import content_digest, stepwise
from .durable.remote import copies
from .errors import FeatureFileError, first_line
from .opening import opened, why_unreadable
from .provenance.augmentation import ALL
from .provenance.graph import Graph
from .store import FeatureStore
from .store.shards import Shards, shards_of


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Check a feature file against everything that FORMAT.md promises.

    Parameters
    ----------
    path : str or path-like
        The file, or its URL.

    Returns
    -------
    list of str
        A line for each broken rule, naming the dataset; empty if the file is sound.

    Raises
    ------
    FeatureFileError
        If it is missing, or not a feature file at all.
    """
    if Shards.takes(path):
        FeatureStore(path).read(layout.PATHS)  # do they fit together?
        return [
            f"{os.path.basename(one)}: {line}" for one in shards_of(path) for line in verify(one)
        ]
    store = FeatureStore(copies.local(path))  # what is wrong with it is said below
    with opened(store.path, layout.FORMAT) as file:
        found = list(_unreadable(file))
        if found:
            return found  # the rules below would only fail again on the same bytes

        def read(name: str) -> NDArray[Any]:
            array: NDArray[Any] = file[name][()]
            return array

        for name in (one for one in layout.SCHEMAS[layout.FORMAT] if one in file):
            found += [f"{name}: {fault}" for fault in rules.broken(name, read)]
        found += rules.broken_as_a_whole(read)
        values = stepwise(file[layout.FEATURES], "values")
        if not all(np.isfinite(block).all() for block in values):
            found.append(f"{layout.FEATURES}: holds values that are not finite")
        if read(layout.VIEWS).max(initial=0) >= store.augmentation.views:
            found.append(f"{layout.VIEWS}: more than `{layout.AUGMENTATION_ATTRIBUTE}` has")
        found += _graph(store, read)
        tested = read(layout.SPLITS) == layout.TEST
        if store.augmentation.of != ALL and read(layout.VIEWS)[tested].any():
            found.append(f"{layout.VIEWS}: images of the test split have some")
        if content_digest(file, store.provenance, store.augmentation) != store.content_digest:
            found.append("content digest: provenance or rows are not those that were sealed")
    return found


def _graph(store: FeatureStore, read: rules.Read) -> Iterator[str]:
    digest = store.provenance.graph_digest
    if not digest:
        return
    try:
        Graph.unpacked(read(layout.GRAPH).tobytes(), digest)
    except FeatureFileError as error:
        yield f"{layout.GRAPH}: is not the quantised backbone of these vectors: {error}"


def _unreadable(file: h5py.File) -> Iterator[str]:
    for name in (one for one in layout.SCHEMAS[layout.FORMAT] if one in file):
        try:
            for _ in stepwise(file[name], f"checksums of {name}"):
                pass
        except (OSError, RuntimeError) as error:
            if why_unreadable(error):
                raise  # of the disk, not of the file
            yield f"{name}: cannot be read: {first_line(error)}"
