"""Sealing: what the source holds now + what is known -> one verified feature file."""

import dataclasses
import datetime
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import child, durable, layout
from ..digest import content_digest
from ..errors import FeatureFileError
from ..opening import opened
from ..origin import Origin
from ..provenance.augmentation import NO_AUGMENTATION, Augmentation
from ..records import Listed, SeenFile, keys, table
from ..store import FeatureStore
from ..verification import verify
from . import graphs, shards, units
from .known import Known
from .outputs import Output
from .progress import step

_MORE: Final = "…".encode()


class Kept(Protocol):
    """Where vectors are that are going to be in a file."""

    @property
    def origin(self) -> Origin | None:
        """What made them; None if there are none."""

    store: FeatureStore | None
    """The file as it was sealed last, if it counts."""

    def in_blocks(
        self, digests: NDArray[np.uint8], views: NDArray[np.int16]
    ) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        """The vectors of N keys, block by block; a KeyError if one is not there."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """All that the child is sent: it finds the vectors itself."""

    out: Path
    source: str
    augmentation: Augmentation
    arrays: Mapping[str, NDArray[Any]]
    """Every dataset but `features`, `canary` and `graph`, by name; `texts` if there are some."""
    found: Callable[[], Kept]
    """Opens, in the child, what has their vectors."""


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
    store = written(rows, known)
    output = Output.at(known.out)
    output.upload()
    made = [*known.units, *known.superseded]
    sealed = keys(rows.arrays[layout.DIGESTS], rows.arrays[layout.VIEWS])
    settled = output.settled(made, {*sealed})
    dropped = units.discard(units.folder_of(known.out), settled)
    if len(settled) == len(made):
        dropped += graphs.discard(known.out)
    output.drop(dropped)
    shards.discard(known.out)
    return store


def written(rows: Rows, kept: Kept) -> FeatureStore:
    """The file with these rows: written anew, unless it holds just these."""
    store = kept.store
    if store is None or not _holds(store, rows):
        _write_in_child(rows, kept.origin)
        store = FeatureStore(rows.out)
    return store


def _rows(known: Known, listing: Sequence[Listed], augmentation: Augmentation) -> Rows:
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
    again = functools.partial(
        Known, known.out, source=known.source, fresh=known.fresh, without=known.without
    )
    return Rows(known.out, known.source, augmentation, arrays, again)


def _holds(store: FeatureStore, rows: Rows) -> bool:
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
    given = {value: _bytes(value) for value in set(values) if value is not None}
    names = sorted({*given.values()})
    numbers = {name: number for number, name in enumerate(names)}
    codes: dict[str | None, int] = {value: numbers[name] for value, name in given.items()}
    return np.array([codes.get(one, layout.NO_NAME) for one in values], np.int32), fixed(names)


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


def _write_in_child(rows: Rows, origin: Origin | None) -> None:
    needed = _bytes_needed(rows, origin)
    free = shutil.disk_usage(rows.out.parent).free
    if needed > free:
        raise durable.cannot_write(
            rows.out,
            f"it needs {needed / 1e6:,.1f} MB on the disk of {rows.out.parent}, where "
            f"{free / 1e6:,.1f} MB are free",
            full=True,
        )
    try:
        child.call(_write, rows)
    except child.ChildDied as error:
        raise durable.cannot_write(rows.out, f"the process that wrote it {error}") from error
    except BaseException:
        durable.sweep(rows.out.parent, rows.out.name)  # it may have been killed at its work
        raise


def _bytes_needed(rows: Rows, origin: Origin | None) -> int:
    row_bytes, graph = 0, 0
    if origin is not None:
        provenance = origin.provenance
        row_bytes = provenance.dimension * np.dtype(provenance.dtype).itemsize
        graph = len(graphs.packed_for(rows.out, provenance))
    vectors = len(rows.arrays[layout.DIGESTS]) * row_bytes
    # Each dataset's last chunk may be nearly empty.
    slack = min((len(rows.arrays) + 2) * layout.CHUNK_BYTES, vectors + (1 << 16))
    return vectors + graph + sum(array.nbytes for array in rows.arrays.values()) + slack


def _require_as_sealed(out: Path, store: FeatureStore | None) -> None:
    """Take over no vector that was changed since it was sealed: the new file would vouch for it."""
    if store is None:
        return
    with opened(store.path, layout.FORMAT) as file:
        digest = content_digest(file, store.provenance, store.augmentation)
    if digest != store.content_digest:
        raise FeatureFileError(
            f"{out}: its rows are not those that were sealed, so none is taken over; put a "
            f"sound copy in its place, or make it again with --fresh. What is finished is kept"
        )


def _write(rows: Rows) -> None:
    kept = rows.found()
    origin, digests = kept.origin, rows.arrays[layout.DIGESTS]
    if origin is None:
        raise FeatureFileError(
            f"{rows.out}: the finished work has vanished; run the same command again"
        )
    _require_as_sealed(rows.out, kept.store)
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
                shape, dtype = (len(digests), provenance.dimension), np.dtype(provenance.dtype)
                features = layout.create(file, layout.FEATURES, shape, dtype)
                with step("sealing", len(digests)) as done:
                    for place, block in kept.in_blocks(digests, rows.arrays[layout.VIEWS]):
                        features[place] = block
                        done.add(len(block))
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
