"""Names, dtypes and chunking of everything in a feature file; FORMAT.md says what they mean."""

from __future__ import annotations

from typing import Final

import h5py
import numpy as np

FORMAT: Final = "headstart-features"
UNIT_FORMAT: Final = "headstart-unit"
FORMAT_VERSION: Final = 1

# Datasets of the sealed file.
FEATURES: Final = "features"
PATHS: Final = "paths"
LABELS: Final = "labels"
LABEL_NAMES: Final = "label_names"
SPLITS: Final = "splits"
VIEWS: Final = "views"
DIGESTS: Final = "digests"
STATS: Final = "stats"
SKIPPED: Final = "skipped"
CANARY: Final = "canary"

# The one dataset that only units have: what was seen under each path.
FILES: Final = "files"

# Attributes of the root group.
FORMAT_ATTRIBUTE: Final = "format"
VERSION_ATTRIBUTE: Final = "format_version"
PROVENANCE_ATTRIBUTE: Final = "provenance"
FINGERPRINT_ATTRIBUTE: Final = "fingerprint"
ENVIRONMENT_ATTRIBUTE: Final = "environment"
CONTENT_DIGEST_ATTRIBUTE: Final = "content_digest"

SPLIT_NAMES: Final = ("none", "train", "validation", "test")
NO_LABEL: Final = -1
DIGEST_BYTES: Final = 32
FEATURE_DTYPES: Final = ("float32", "float16")

STATS_DTYPE: Final = np.dtype(
    [("size", "<i8"), ("mtime_ns", "<i8"), ("width", "<i4"), ("height", "<i4")]
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
            ("width", "<i4"),
            ("height", "<i4"),
            ("reason", f"S{max(reason_bytes, 1)}"),
        ]
    )


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
