"""Verification: every checksum, digest and rule of a feature file; what is wrong, and where."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from . import layout
from .digest import ArrayDigest, blocks
from .opening import opened
from .provenance import Provenance
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
    found = list(_broken_rules(store))
    with opened(store.path, layout.FORMAT) as file:
        if {file[name].dtype for name in (layout.FEATURES, layout.CANARY)} != {
            np.dtype(store.provenance.dtype)
        }:
            found.append(f"{layout.FEATURES}: stored as another type than the provenance says")
        if not all(np.isfinite(block).all() for block in blocks(file[layout.FEATURES])):
            found.append(f"{layout.FEATURES}: holds values that are not finite")
        if content_digest(file, store.provenance) != store.content_digest:
            found.append("content digest: provenance or rows are not those that were sealed")
    return found


def content_digest(file: h5py.File, provenance: Provenance) -> str:
    """SHA-256 over provenance and rows (hexadecimal): equal for runs that computed the same.

    Times, the environment, the ledger and the canary are left out: they may differ between two
    such runs.
    """
    digest = ArrayDigest()
    digest.text(provenance.to_json())
    for name in (*(n for n in layout.PER_ROW if n != layout.STATS), layout.LABEL_NAMES):
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
            yield f"{name}: cannot be read: {error}"


def _broken_rules(store: FeatureStore) -> Iterator[str]:
    order = list(zip(store.raw_paths, store.views.tolist(), strict=True))
    if any(one >= other for one, other in itertools.pairwise(order)):
        yield f"{layout.PATHS}: rows are not sorted, or one occurs twice"
    names = store.read(layout.LABEL_NAMES).tolist()
    if names != sorted(set(names)):
        yield f"{layout.LABEL_NAMES}: not sorted, or one occurs twice"
    labels = store.labels
    if ((labels < layout.NO_LABEL) | (labels >= len(names))).any():
        yield f"{layout.LABELS}: points outside {layout.LABEL_NAMES}"
    elif len(np.unique(labels[labels != layout.NO_LABEL])) < len(names):
        yield f"{layout.LABEL_NAMES}: holds a name that no row has"
    if ((store.splits < 0) | (store.splits >= len(layout.SPLIT_NAMES))).any():
        yield f"{layout.SPLITS}: holds a number that is no split"
    if (store.views < 0).any():
        yield f"{layout.VIEWS}: holds a negative number"
    ledger = [file.path for file in store.skipped_files]
    if ledger != sorted(set(ledger)) or set(ledger) & set(store.raw_paths):
        yield f"{layout.SKIPPED}: not sorted, or a path is there twice or has a row too"
    if any(not file.reason for file in store.skipped_files):
        yield f"{layout.SKIPPED}: an image is skipped without a reason"
    if not len(store.canary) or not np.isfinite(store.canary).all():
        yield f"{layout.CANARY}: empty, or not finite"
