"""Verification: every checksum, digest and rule of a feature file; what is wrong, and where."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import layout, rules
from .digest import ArrayDigest, blocks
from .errors import first_line
from .opening import opened, why_unreadable
from .provenance import Provenance
from .provenance.augmentation import ALL, NO_AUGMENTATION, Augmentation
from .store import FeatureStore


def verify(path: Path) -> list[str]:
    """Check a feature file against everything that FORMAT.md promises.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    list of str
        A line for each broken rule, naming the dataset; empty if the file is sound.

    Raises
    ------
    FeatureFileError
        If it is missing, or not a feature file at all.
    """
    store = FeatureStore(path)
    with opened(store.path, layout.FORMAT) as file:
        found = list(_unreadable(file))
        if found:
            return found  # the rules below would only fail again on the same bytes

        def read(name: str) -> NDArray[Any]:
            array: NDArray[Any] = file[name][()]
            return array

        for name in layout.SCHEMAS[layout.FORMAT]:
            found += [f"{name}: {fault}" for fault in rules.broken(name, read)]
        found += rules.broken_as_a_whole(read)
        if not all(np.isfinite(block).all() for block in blocks(file[layout.FEATURES])):
            found.append(f"{layout.FEATURES}: holds values that are not finite")
        if read(layout.VIEWS).max(initial=0) >= store.augmentation.views:
            found.append(f"{layout.VIEWS}: more than `{layout.AUGMENTATION_ATTRIBUTE}` has")
        tested = read(layout.SPLITS) == layout.TEST
        if store.augmentation.of != ALL and read(layout.VIEWS)[tested].any():
            found.append(f"{layout.VIEWS}: images of the test split have some")
        if content_digest(file, store.provenance, store.augmentation) != store.content_digest:
            found.append("content digest: provenance or rows are not those that were sealed")
    return found


def content_digest(
    file: h5py.File, provenance: Provenance, augmentation: Augmentation = NO_AUGMENTATION
) -> str:
    """SHA-256 over what made the rows, and the rows (hexadecimal): equal for equal runs.

    Times, the environment, the ledger and the canary are left out: they may differ between two
    such runs.
    """
    digest = ArrayDigest()
    digest.text(provenance.to_json())
    if augmentation.recipe:
        digest.text(augmentation.to_json())
    names = (name for _, name in layout.NAMED)
    for name in (*(one for one in layout.PER_ROW if one != layout.STATS), *names):
        digest.array(name, file[name])
    stats = file[layout.STATS][()]
    for field in ("size", "width", "height"):
        digest.array(field, stats[field])
    return digest.hexdigest()


def _unreadable(file: h5py.File) -> Iterator[str]:
    for name in layout.SCHEMAS[layout.FORMAT]:
        try:
            for _ in blocks(file[name]):
                pass
        except (OSError, RuntimeError) as error:
            if why_unreadable(error):
                raise  # of the disk, not of the file
            yield f"{name}: cannot be read: {first_line(error)}"
