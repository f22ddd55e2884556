"""Sealing: what the source holds now + what is known -> one verified feature file."""

import dataclasses
import datetime
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import child, durable, layout
from ..digest import content_digest
from ..errors import FeatureFileError
from ..opening import opened
from ..provenance.augmentation import NO_AUGMENTATION, Augmentation
from ..records import Key, Listed, SeenFile, keys, table
from ..store import FeatureStore
from ..verification import verify
from . import graphs, shards, units
from .known import Known
from .outputs import Output
from .progress import step

_MORE: Final = "…".encode()


@dataclasses.dataclass(frozen=True)
class _Rows:
    """All that the child is sent: it finds the vectors itself."""

    out: Path
    source: str
    fresh: bool
    without: Collection[str]
    augmentation: Augmentation
    arrays: Mapping[str, NDArray[Any]]
    """Every dataset but `features`, `canary` and `graph`, by name; `texts` if there are some."""

    @property
    def keys(self) -> list[Key]:
        """Of the vector of each row."""
        return keys(self.arrays[layout.DIGESTS], self.arrays[layout.VIEWS])


def prepare() -> None:
    """Start the process that will write the file; `seal` need not wait for that later."""
    child.prepare(_write)


def seal(
    known: Known, listing: Sequence[Listed], augmentation: Augmentation = NO_AUGMENTATION
) -> FeatureStore:
    """Write ``known.out`` anew from everything known about the images listed, and drop the units.

    Images of which nothing is known are left out, so a caller embeds them first; those that cannot
    be read now keep the row that they had. If the file would hold what it holds already, it is left
    alone. Of each image the views of `augmentation` are kept that are known, and no others. At
    least one image must be known. The file goes to the URL that `known.out` is worked on for. On
    any error the old file is untouched and the units are kept.
    """
    rows = _rows(known, sorted(listing, key=lambda image: image.stat.path), augmentation)
    store = known.store
    if store is None or not _holds(store, rows):
        _write_in_child(known, rows)
        store = FeatureStore(known.out)
    output = Output.at(known.out)
    output.upload()
    made = [*known.units, *known.superseded]
    settled = output.settled(made, {*rows.keys})
    dropped = units.discard(units.folder_of(known.out), settled)
    if len(settled) == len(made):
        dropped += graphs.discard(known.out)
    output.drop(dropped)
    shards.discard(known.out)
    return store


def _rows(known: Known, listing: Sequence[Listed], augmentation: Augmentation) -> _Rows:
    found: list[tuple[Listed, SeenFile, int]] = []
    skipped: list[SeenFile] = []
    for image in listing:
        seen = known.found(image.stat)
        if seen is not None and seen.reason:
            skipped.append(seen)
        elif seen is not None:
            wanted = range(augmentation.of_split(image.split))
            lacking = known.lacking(seen.digest, len(wanted))
            found += [(image, seen, view) for view in wanted if view not in lacking]
    labels, label_names = coded([image.label for image, _, _ in found])
    groups, group_names = coded([image.group for image, _, _ in found])
    digests = b"".join(seen.digest for _, seen, _ in found)
    arrays: dict[str, NDArray[Any]] = {
        layout.PATHS: fixed([seen.path for _, seen, _ in found]),
        layout.LABELS: labels,
        layout.LABEL_NAMES: label_names,
        layout.SPLITS: np.array(
            [layout.SPLIT_NAMES.index(image.split) for image, _, _ in found], np.int8
        ),
        layout.GROUPS: groups,
        layout.GROUP_NAMES: group_names,
        layout.VIEWS: np.array([view for _, _, view in found], np.int16),
        layout.DIGESTS: np.frombuffer(digests, np.uint8).reshape(-1, layout.DIGEST_BYTES),
        layout.STATS: np.array(
            [(*seen.stat[1:], seen.width, seen.height) for _, seen, _ in found],
            layout.STATS_DTYPE,
        ),
        layout.SKIPPED: table(skipped),
    }
    if any(image.text for image, _, _ in found):
        arrays[layout.TEXTS] = fixed([shortened(image.text or "") for image, _, _ in found])
    return _Rows(known.out, known.source, known.fresh, known.without, augmentation, arrays)


def _holds(store: FeatureStore, rows: _Rows) -> bool:
    if store.environment.get("source", "") != rows.source:
        return False
    if store.augmentation != rows.augmentation:
        return False
    if store.has_texts != (layout.TEXTS in rows.arrays):
        return False
    stored = {name: store.read(name) for name in rows.arrays}
    return all(
        stored[name].dtype == array.dtype and np.array_equal(stored[name], array)
        for name, array in rows.arrays.items()
    )


def coded(values: Sequence[str | None]) -> tuple[NDArray[np.int32], NDArray[np.bytes_]]:
    """The number of the name that each value is, and the names, sorted by bytes."""
    given = [None if value is None else _bytes(value) for value in values]
    names = sorted({value for value in given if value is not None})
    codes: dict[bytes | None, int] = {name: code for code, name in enumerate(names)}
    return np.array([codes.get(one, layout.NO_NAME) for one in given], np.int32), fixed(names)


def fixed(values: Sequence[bytes]) -> NDArray[np.bytes_]:
    """Bytes in an array, each with the room that the longest takes."""
    return np.array(values, dtype=f"S{max(map(len, values), default=1) or 1}")


def shortened(text: str) -> bytes:
    """A text as it is kept: UTF-8, whole characters of it up to `layout.MOST_TEXT` bytes."""
    data = text.replace("\0", "").encode("utf-8", "replace")
    if len(data) <= layout.MOST_TEXT:
        return data
    room = layout.MOST_TEXT - len(_MORE)
    return data[:room].decode("utf-8", "ignore").encode("utf-8") + _MORE


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _write_in_child(known: Known, rows: _Rows) -> None:
    needed = _bytes_needed(known, rows)
    free = shutil.disk_usage(known.out.parent).free
    if needed > free:
        raise durable.cannot_write(
            known.out,
            f"it needs {needed / 1e6:,.1f} MB on the disk of {known.out.parent}, where "
            f"{free / 1e6:,.1f} MB are free",
            full=True,
        )
    try:
        child.call(_write, rows)
    except child.ChildDied as error:
        raise durable.cannot_write(known.out, f"the process that wrote it {error}") from error
    except BaseException:
        durable.sweep(known.out.parent, known.out.name)  # it may have been killed at its work
        raise


def _bytes_needed(known: Known, rows: _Rows) -> int:
    row_bytes, graph = 0, 0
    if known.origin is not None:
        provenance = known.origin.provenance
        row_bytes = provenance.dimension * np.dtype(provenance.dtype).itemsize
        graph = len(graphs.packed_for(known.out, provenance))
    vectors = len(rows.arrays[layout.DIGESTS]) * row_bytes
    # Each dataset's last chunk may be nearly empty.
    slack = min((len(rows.arrays) + 2) * layout.CHUNK_BYTES, vectors + (1 << 16))
    return vectors + graph + sum(array.nbytes for array in rows.arrays.values()) + slack


def _require_as_sealed(known: Known) -> None:
    """Take over no vector that was changed since it was sealed: the new file would vouch for it."""
    store = known.store
    if store is None:
        return
    with opened(store.path, layout.FORMAT) as file:
        digest = content_digest(file, store.provenance, store.augmentation)
    if digest != store.content_digest:
        raise FeatureFileError(
            f"{known.out}: its rows are not those that were sealed, so none is taken over; put a "
            f"sound copy in its place, or make it again with --fresh. What is finished is kept"
        )


def _write(rows: _Rows) -> None:
    known = Known(rows.out, source=rows.source, fresh=rows.fresh, without=rows.without)
    origin, wanted = known.origin, rows.keys
    if origin is None:
        raise FeatureFileError(
            f"{rows.out}: the finished work has vanished; run the same command again"
        )
    _require_as_sealed(known)
    provenance = origin.provenance
    graph = np.frombuffer(graphs.packed_for(rows.out, provenance), np.uint8)
    sealed = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        with durable.replacing(rows.out) as temporary:
            with h5py.File(temporary, "w", libver=layout.HDF5_VERSION, locking=False) as file:
                environment = dict(origin.environment) | {"sealed": sealed}
                layout.set_head(
                    file,
                    layout.FORMAT,
                    provenance.to_json(),
                    rows.augmentation.to_json(),
                    environment,
                )
                layout.set_text(file, layout.FINGERPRINT_ATTRIBUTE, provenance.fingerprint)
                single: dict[str, NDArray[Any]] = {layout.CANARY: origin.canary}
                if len(graph):
                    single[layout.GRAPH] = graph
                for name, array in {**rows.arrays, **single}.items():
                    layout.create(file, name, array.shape, array.dtype)[...] = array
                shape, dtype = (len(wanted), provenance.dimension), np.dtype(provenance.dtype)
                features = layout.create(file, layout.FEATURES, shape, dtype)
                with step("sealing", len(wanted)) as done:
                    for block in known.blocks(wanted):
                        features[block] = known.vectors(wanted[block])
                        done.add(block.stop - block.start)
                digest = content_digest(file, provenance, rows.augmentation)
                layout.set_text(file, layout.CONTENT_DIGEST_ATTRIBUTE, digest)
            wrong = verify(temporary)
            if wrong:
                raise durable.cannot_write(rows.out, f"it reads back wrong: {wrong[0]}")
    except KeyError as error:
        raise FeatureFileError(
            f"{rows.out}: it was replaced by another run while it was sealed; run the same command "
            f"again"
        ) from error
    except (OSError, RuntimeError) as error:
        raise durable.cannot_write(rows.out, error) from error
