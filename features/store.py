"""FeatureStore: the read-only view of one feature file."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import durable, layout
from .child import once
from .durable.table import in_html
from .errors import FeatureFileError, count, listed
from .opening import opened, origin_of, text_attribute, whole
from .origin import HasOrigin, Origin
from .records import AGAIN, Key, SeenFile, keys, seen_files


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An image that could not be embedded: its path in the source, and why."""

    path: str
    reason: str
    transient: bool = False
    """Whether it may be better some other time: a server did not answer, the memory was full."""


def _dataset(name: str) -> "once[NDArray[Any]]":
    return once(lambda store: store.read(name))


def _names(name: str) -> "once[list[str]]":
    return once(
        lambda store: [one.decode("utf-8", "surrogateescape") for one in store.read(name).tolist()]
    )


class FeatureStore(HasOrigin):
    """A feature file, opened for reading.

    Nothing stays open: each property reads what it needs when it is first asked for and keeps it,
    so there is nothing to close. If the file is replaced meanwhile, the next read refuses.
    FORMAT.md describes the file itself.

    Parameters
    ----------
    path : str or path-like
        A file that ``headstart extract`` sealed.

    Attributes
    ----------
    summary : Any
        What the run that made the file did, as `headstart.extract.extract` reports it; None if the
        file was just opened.

    Raises
    ------
    FeatureFileError
        If the file is missing, of another kind or version, or damaged.

    Examples
    --------
    >>> store = FeatureStore("pets.h5")  # doctest: +SKIP
    >>> store.features.shape  # doctest: +SKIP
    (600, 2048)
    """

    summary: Any = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._state = durable.state(self.path)
        with opened(self.path, layout.FORMAT) as file:
            self.origin: Origin = origin_of(file, str(self.path))
            if text_attribute(file, layout.FINGERPRINT_ATTRIBUTE) != self.fingerprint:
                raise FeatureFileError(f"{path}: damaged: fingerprint and provenance disagree")
            self.content_digest = text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE)
            features = file[layout.FEATURES]
            self._rows, self.dimension = features.shape
            stored = self.dimension, features.dtype
            uneven = [name for name in layout.PER_ROW if len(file[name]) != self._rows]
        if not re.fullmatch("[0-9a-f]{64}", self.content_digest):
            raise FeatureFileError(f"{path}: damaged: it has no content digest")
        if uneven:
            raise FeatureFileError(f"{path}: damaged: {uneven[0]!r} has another number of rows")
        if stored != (self.provenance.dimension, self.provenance.dtype):
            raise FeatureFileError(
                f"{path}: damaged: its vectors are of another length or type than it says"
            )

    def __len__(self) -> int:
        return int(self._rows)

    def __repr__(self) -> str:
        groups = f", {len(self.group_names)} groups" if self.group_names else ""
        return (
            f"FeatureStore({str(self.path)!r}: {len(self)} rows x {self.dimension}, "
            f"{len(self.label_names)} labels{groups})"
        )

    def _repr_html_(self) -> str:
        made = self.provenance
        rows = [
            ("images", f"{self.images:,} ({len(self):,} rows)"),
            ("skipped", f"{len(self.skipped_files):,}"),
            ("numbers of a vector", f"{self.dimension:,}"),
            (count(len(self.label_names), "label"), listed(self.label_names)),
            ("backbone", f"{made.backbone} at {made.size} px"),
            ("source", str(self.environment.get("source", ""))),
        ]
        if self.group_names:
            rows.insert(4, ("groups", f"{len(self.group_names):,}"))
        return in_html(str(self.path), rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the provenance (hexadecimal)."""
        return self.provenance.fingerprint

    features = _dataset(layout.FEATURES)
    """All vectors, (N, D), float32 or float16; rows sorted by path, then view."""
    labels = _dataset(layout.LABELS)
    """(N,) int32, index into `label_names`; -1 where there is none."""
    label_names = _names(layout.LABEL_NAMES)
    """K names, sorted."""
    splits = _dataset(layout.SPLITS)
    """(N,) int8, index into `layout.SPLIT_NAMES`."""
    groups = _dataset(layout.GROUPS)
    """(N,) int32, index into `group_names`; -1 where there is none. Rows of one group have more in
    common than a label (a patient, an animal, a video), so that no fold may part them."""
    group_names = _names(layout.GROUP_NAMES)
    """The names of the groups, sorted."""
    views = _dataset(layout.VIEWS)
    """(N,) int16: 0 for the image itself, k for its k-th augmented view."""
    digests = _dataset(layout.DIGESTS)
    """(N, 32) uint8: SHA-256 of each image file's bytes."""
    stats = _dataset(layout.STATS)
    """(N,) records of size (bytes), mtime_ns, width and height (pixels, upright)."""

    @once
    def paths(self) -> list[str]:
        """N paths relative to the source; bytes that are not text survive as surrogates."""
        return [os.fsdecode(path) for path in self.raw_paths]

    @once
    def raw_paths(self) -> list[bytes]:
        """N paths relative to the source, as the file system gave them."""
        paths: list[bytes] = self.read(layout.PATHS).tolist()
        return paths

    @property
    def keys(self) -> list[Key]:
        """The N keys of the vectors: image and view."""
        return keys(self.digests, self.views)

    @once
    def skipped_files(self) -> list[SeenFile]:
        """The ledger of images that could not be embedded, sorted by path."""
        return seen_files(self.read(layout.SKIPPED))

    @property
    def skipped(self) -> list[Skipped]:
        """Path and reason of each image that could not be embedded, sorted by path."""
        return [
            Skipped(os.fsdecode(file.path), file.reason, file.reason.endswith(AGAIN))
            for file in self.skipped_files
        ]

    @property
    def images(self) -> int:
        """How many rows are images themselves rather than augmented views of one."""
        return int(np.count_nonzero(self.views == 0))

    def read(self, name: str) -> NDArray[Any]:
        """A whole dataset by its name in the file.

        Raises
        ------
        FeatureFileError
            If it breaks a rule of FORMAT.md; or if the file was replaced after this store was
            opened: its rows would not match those read before.
        """
        with self._opened() as file:
            return whole(file, name, str(self.path))

    def read_features(self, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        """The vectors of `rows` (increasing, no row twice), without reading all the others."""
        with self._opened() as file:
            features = file[layout.FEATURES]
            first, last = int(rows[0]), int(rows[-1]) + 1
            # HDF5 picks single rows slowly; a span with few gaps is read whole instead.
            if last - first <= 4 * len(rows):
                span: NDArray[np.floating] = features[first:last]
                return span[rows - first]
            picked: NDArray[np.floating] = features[rows]
            return picked

    @contextlib.contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        with opened(self.path, layout.FORMAT, sound=self._state) as file:
            if text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE) != self.content_digest:
                raise FeatureFileError(
                    f"{self.path}: it was replaced since it was opened; open it again"
                )
            yield file
