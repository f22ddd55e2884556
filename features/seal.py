"""Sealing: what the source holds now + what is known -> one verified feature file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from . import layout, units
from .store import FeatureStore
from .writer import write_in_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .known import FileStat, Known
    from .units import SeenFile


@dataclasses.dataclass(frozen=True)
class Listed:
    """One image that the source lists now.

    Attributes
    ----------
    stat : FileStat
        Its path in the source, size and modification time.
    label : str or None
        Its class, if it has one.
    split : str
        One of `layout.SPLIT_NAMES`.
    """

    stat: FileStat
    label: str | None
    split: str


def seal(known: Known, listing: Sequence[Listed]) -> FeatureStore:
    """Write ``known.out`` anew from everything known about the images listed, and drop the units.

    Images that `known` has no word of are left out, so a caller embeds them first. If the file
    would hold what it holds already, it is left alone.

    Parameters
    ----------
    known : Known
        Sealed file and units; at least one image must be known.
    listing : sequence of Listed
        The source, in any order.

    Returns
    -------
    FeatureStore
        The sealed file, opened.

    Raises
    ------
    FeatureFileError
        If the disk is full or the folder cannot be written, if what was written does not read
        back equal, or if another process replaced the old file meanwhile. The old file is
        untouched and the units are kept.
    """
    arrays, digests = _arrays(known, sorted(listing, key=lambda image: image.stat.path))
    if known.store is None or not _holds(known, known.store, arrays):
        write_in_child(known, arrays, digests)
    units.discard(units.folder_of(known.out), known.units)
    return FeatureStore(known.out)


def _arrays(known: Known, listing: Sequence[Listed]) -> tuple[dict[str, NDArray[Any]], list[bytes]]:
    """Every dataset but `features` and `canary`, and the digest of each row."""
    rows: list[tuple[Listed, SeenFile]] = []
    skipped: list[SeenFile] = []
    for image in listing:
        seen = known.seen(image.stat)
        if seen is not None and seen.reason:
            skipped.append(seen)
        elif seen is not None:
            rows.append((image, seen))
    names = sorted({_bytes(image.label) for image, _ in rows if image.label is not None})
    codes = {name: code for code, name in enumerate(names)}
    arrays: dict[str, NDArray[Any]] = {
        layout.PATHS: _fixed([seen.path for _, seen in rows]),
        layout.LABELS: np.array(
            [
                layout.NO_LABEL if image.label is None else codes[_bytes(image.label)]
                for image, _ in rows
            ],
            np.int32,
        ),
        layout.LABEL_NAMES: _fixed(names),
        layout.SPLITS: np.array(
            [layout.SPLIT_NAMES.index(image.split) for image, _ in rows], np.int8
        ),
        layout.VIEWS: np.zeros(len(rows), np.int16),
        layout.DIGESTS: np.frombuffer(b"".join(seen.digest for _, seen in rows), np.uint8).reshape(
            -1, layout.DIGEST_BYTES
        ),
        layout.STATS: np.array(
            [(seen.size, seen.mtime_ns, seen.width, seen.height) for _, seen in rows],
            layout.STATS_DTYPE,
        ),
        layout.SKIPPED: units.table(skipped),
    }
    return arrays, [seen.digest for _, seen in rows]


def _holds(known: Known, store: FeatureStore, arrays: dict[str, NDArray[Any]]) -> bool:
    if store.environment.get("source", "") != known.source:
        return False
    stored = {name: store.read(name) for name in arrays}
    return all(
        stored[name].dtype == array.dtype and np.array_equal(stored[name], array)
        for name, array in arrays.items()
    )


def _fixed(values: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.array(values, dtype=f"S{max(map(len, values), default=1) or 1}")


def _bytes(label: str) -> bytes:
    return label.encode("utf-8", "surrogateescape")
