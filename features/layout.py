"""Names, dtypes and chunking of everything in a feature file; FORMAT.md says what they mean."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

import h5py
import numpy as np

FORMAT: Final = "headstart-features"
UNIT_FORMAT: Final = "headstart-unit"
FORMAT_VERSION: Final = 6
UNIT_VERSION: Final = 6
VERSIONS: Final[Mapping[str, int]] = {FORMAT: FORMAT_VERSION, UNIT_FORMAT: UNIT_VERSION}
"""The version that is written and read of each format; a file of another one is refused."""

# Datasets of the sealed file.
FEATURES: Final = "features"
PATHS: Final = "paths"
LABELS: Final = "labels"
LABEL_NAMES: Final = "label_names"
SPLITS: Final = "splits"
GROUPS: Final = "groups"
GROUP_NAMES: Final = "group_names"
VIEWS: Final = "views"
DIGESTS: Final = "digests"
STATS: Final = "stats"
SKIPPED: Final = "skipped"
CANARY: Final = "canary"
GRAPH: Final = "graph"
TEXTS: Final = "texts"

# Those with one entry per row, in the order in which they are hashed.
PER_ROW: Final = (FEATURES, PATHS, LABELS, SPLITS, GROUPS, VIEWS, DIGESTS, STATS)

MOST_TEXT: Final = 512
"""Bytes of a text, so that a million of them take half a gigabyte at most; of a longer one only the
beginning is kept."""

# Those that all views of an image have in common.
PER_IMAGE: Final = (LABELS, SPLITS, GROUPS, DIGESTS, STATS)

# What rows have by the number of a name, and the names; NO_NAME says that a row has none.
NAMED: Final = ((LABELS, LABEL_NAMES), (GROUPS, GROUP_NAMES))

# The one dataset that only units have: what was seen under each path.
FILES: Final = "files"

# Attributes of the root group.
FORMAT_ATTRIBUTE: Final = "format"
VERSION_ATTRIBUTE: Final = "format_version"
PROVENANCE_ATTRIBUTE: Final = "provenance"
AUGMENTATION_ATTRIBUTE: Final = "augmentation"
FINGERPRINT_ATTRIBUTE: Final = "fingerprint"
ENVIRONMENT_ATTRIBUTE: Final = "environment"
CONTENT_DIGEST_ATTRIBUTE: Final = "content_digest"
TURN_ATTRIBUTE: Final = "turn"

_ATTRIBUTES: Final = frozenset(
    {
        FORMAT_ATTRIBUTE,
        VERSION_ATTRIBUTE,
        PROVENANCE_ATTRIBUTE,
        AUGMENTATION_ATTRIBUTE,
        ENVIRONMENT_ATTRIBUTE,
        CONTENT_DIGEST_ATTRIBUTE,
    }
)
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    FORMAT: _ATTRIBUTES | {FINGERPRINT_ATTRIBUTE},
    UNIT_FORMAT: _ATTRIBUTES | {TURN_ATTRIBUTE},
}
"""Those of the root group that a file of each kind may have."""

SPLIT_NAMES: Final = ("none", "train", "validation", "test")
TRAIN, VALIDATION, TEST = range(1, 4)
NO_NAME: Final = -1
NO_LABEL: Final = NO_NAME
NO_GROUP: Final = NO_NAME
DIGEST_BYTES: Final = 32
FEATURE_DTYPES: Final = ("float32", "float16")

STATS_DTYPE: Final = np.dtype(
    [("size", "<i8"), ("mtime_ns", "<i8"), ("stamp", "<u8"), ("width", "<i4"), ("height", "<i4")]
)

# One chunk is read, checked and held whole: large enough to stream, small enough to sit in
# HDF5's default chunk cache.
CHUNK_BYTES: Final = 1 << 20


def files_dtype(path_bytes: int, reason_bytes: int) -> np.dtype[np.void]:
    """Row of a unit's ``files`` and of ``skipped``; an empty reason means "embedded"."""
    return np.dtype(
        [
            ("path", f"S{max(path_bytes, 1)}"),
            ("digest", "u1", (DIGEST_BYTES,)),
            ("size", "<i8"),
            ("mtime_ns", "<i8"),
            ("stamp", "<u8"),
            ("width", "<i4"),
            ("height", "<i4"),
            ("reason", f"S{max(reason_bytes, 1)}"),
        ]
    )


@dataclasses.dataclass(frozen=True)
class Column:
    """What a dataset must look like."""

    shape: tuple[int | None, ...]
    """Length along each axis; None where it is free."""
    kinds: tuple[str, ...]
    """NumPy's names of the allowed dtypes; ``"S"`` is bytes of any fixed width, ``"files"`` and
    ``"stats"`` are the two compound types."""

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whether a dataset may have this dtype."""
        if dtype.names is None:
            return (dtype.kind if dtype.kind == "S" else dtype.str) in self.kinds
        if self.kinds == ("stats",):
            return dtype == STATS_DTYPE
        widths = [dtype[name].itemsize for name in ("path", "reason") if name in dtype.names]
        return self.kinds == ("files",) and len(widths) == 2 and dtype == files_dtype(*widths)


_VECTORS: Final = Column((None, None), ("<f4", "<f2"))
_DIGESTS: Final = Column((None, DIGEST_BYTES), ("|u1",))

OPTIONAL: Final = frozenset((GRAPH, TEXTS))
"""Datasets that are there only where they say something."""

SCHEMAS: Final[Mapping[str, Mapping[str, Column]]] = {
    FORMAT: {
        FEATURES: _VECTORS,
        PATHS: Column((None,), ("S",)),
        LABELS: Column((None,), ("<i4",)),
        LABEL_NAMES: Column((None,), ("S",)),
        SPLITS: Column((None,), ("|i1",)),
        GROUPS: Column((None,), ("<i4",)),
        GROUP_NAMES: Column((None,), ("S",)),
        VIEWS: Column((None,), ("<i2",)),
        DIGESTS: _DIGESTS,
        STATS: Column((None,), ("stats",)),
        SKIPPED: Column((None,), ("files",)),
        CANARY: _VECTORS,
        GRAPH: Column((None,), ("|u1",)),
        TEXTS: Column((None,), ("S",)),
    },
    UNIT_FORMAT: {
        FILES: Column((None,), ("files",)),
        FEATURES: _VECTORS,
        DIGESTS: _DIGESTS,
        VIEWS: Column((None,), ("<i2",)),
        CANARY: _VECTORS,
    },
}
"""Everything that a file of each kind holds; there may be nothing else in it."""

HDF5_VERSION: Final = ("v110", "v110")
"""Metadata written as HDF5 1.10 does, with checksums; the default of h5py has none there."""


def set_text(group: h5py.Group, name: str, text: str) -> None:
    """Write an attribute as text of fixed length, which lies under the checksum of its header.

    Text of variable length would lie in HDF5's global heap, which has none.
    """
    data = text.encode("utf-8")
    group.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data) or 1))


def set_head(
    group: h5py.Group,
    kind: str,
    provenance: str,
    augmentation: str,
    environment: Mapping[str, Any],
) -> None:
    """Write the attributes that sealed files and units share."""
    set_text(group, FORMAT_ATTRIBUTE, kind)
    group.attrs[VERSION_ATTRIBUTE] = VERSIONS[kind]
    set_text(group, PROVENANCE_ATTRIBUTE, provenance)
    set_text(group, AUGMENTATION_ATTRIBUTE, augmentation)
    set_text(group, ENVIRONMENT_ATTRIBUTE, json.dumps(environment, sort_keys=True))


def create(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> h5py.Dataset:
    """Create a chunked, checksummed, empty dataset.

    Fletcher32 catches almost every flipped bit that HDF5 alone would return as data. The first
    axis is unlimited only because HDF5 allows no chunks in a fixed dataset of zero rows.
    """
    row_bytes = max(1, dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64)))
    rows = max(1, min(shape[0], CHUNK_BYTES // row_bytes))
    return group.create_dataset(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(rows, *shape[1:]),
        maxshape=(None, *shape[1:]),
        fletcher32=True,
    )
