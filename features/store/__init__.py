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

from .. import durable, layout
from ..child import once
from ..digest import content_digest
from ..durable.remote import copies
from ..durable.remote.url import is_remote, public
from ..durable.table import in_html
from ..errors import FeatureFileError, called, count, listed
from ..opening import opened, origin_of, text_attribute, whole
from ..origin import INT8, HasOrigin, Origin
from ..provenance.graph import Graph, at_home
from ..records import AGAIN, Key, SeenFile, keys, seen_files
from .picked import picked


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
        A file that ``headstart extract`` sealed; or ``pets-*-of-00016.h5``, which stands for 16
        files that are read as one (`shards`); or the URL of either (``s3://bucket/pets.h5``): that
        is read by a copy in the cache, which is fetched again when the file there has changed.

    Attributes
    ----------
    path : Path
        Where the file is read.
    url : str
        That of the file, without passwords; empty for one on this machine.
    summary : Any
        What the run that made the file did, as `headstart.extract.extract` reports it; None if the
        file was just opened.

    Raises
    ------
    FeatureFileError
        If the file is missing, of another kind or version, or damaged; if it cannot be fetched.
    MissingExtra
        If the library that opens a URL is not installed.

    Examples
    --------
    >>> store = FeatureStore("pets.h5")  # doctest: +SKIP
    >>> store.features.shape  # doctest: +SKIP
    (600, 2048)
    """

    summary: Any = None
    url: str = ""

    def __new__(cls, path: str | os.PathLike[str] = "", *_: Any, **__: Any) -> "FeatureStore":
        """One of a kind that takes such a name, if there is one."""
        kinds = [kind for kind in cls.__subclasses__() if kind.takes(path)]
        return super().__new__(kinds[0] if kinds else cls)

    @classmethod
    def takes(cls, path: str | os.PathLike[str]) -> bool:  # noqa: ARG003
        """Whether names of this kind stand for something else than a file."""
        return False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if isinstance(path, str) and is_remote(path):
            self.path, self.url = copies.local(path), public(path)
        else:
            self.path = Path(path)
        with called(self.path, self.url):
            self._open()
            if self.url and not copies.is_sound(self.path):
                self._require_as_sealed()
                copies.note_sound(self.path)

    def _open(self) -> None:
        path = self.path
        self._state = durable.state(self.path)
        with opened(self.path, layout.FORMAT) as file:
            self.origin: Origin = at_home(origin_of(file, self.name), self.url or self.path)
            quantised = bool(self.provenance.graph_digest)
            if (layout.GRAPH in file) != quantised:
                what = (
                    "its quantised backbone is missing"
                    if quantised
                    else (f"it holds a quantised backbone, though its precision is not {INT8}")
                )
                raise FeatureFileError(
                    f"{path}: damaged: {what}; put a sound copy of the file in its place, or make "
                    f"it again with --fresh"
                )
            if text_attribute(file, layout.FINGERPRINT_ATTRIBUTE) != self.fingerprint:
                raise FeatureFileError(f"{path}: damaged: fingerprint and provenance disagree")
            self.has_texts = layout.TEXTS in file
            self.content_digest = text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE)
            features = file[layout.FEATURES]
            self._rows, self.dimension = features.shape
            stored = self.dimension, features.dtype
            every = (*layout.PER_ROW, *([layout.TEXTS] if self.has_texts else []))
            uneven = [name for name in every if len(file[name]) != self._rows]
        if not re.fullmatch("[0-9a-f]{64}", self.content_digest):
            raise FeatureFileError(f"{path}: damaged: it has no content digest")
        if uneven:
            raise FeatureFileError(f"{path}: damaged: {uneven[0]!r} has another number of rows")
        if stored != (self.provenance.dimension, self.provenance.dtype):
            raise FeatureFileError(
                f"{path}: damaged: its vectors are of another length or type than it says"
            )

    def _require_as_sealed(self) -> None:
        with opened(self.path, layout.FORMAT, sound=self._state) as file:
            digest = content_digest(file, self.provenance, self.augmentation)
        if digest != self.content_digest:
            raise FeatureFileError(
                f"{self.path}: damaged: its rows are not those that were sealed; put a sound copy "
                f"of the file in its place, or make it again with --fresh"
            )

    @property
    def name(self) -> str:
        """What the user calls the file: its path, or its URL."""
        return self.url or str(self.path)

    def __len__(self) -> int:
        return int(self._rows)

    def __repr__(self) -> str:
        groups = f", {len(self.group_names)} groups" if self.group_names else ""
        return (
            f"FeatureStore({self.name!r}: {len(self)} rows x {self.dimension}, "
            f"{len(self.label_names)} labels{groups})"
        )

    def _repr_html_(self) -> str:
        made = self.provenance
        rows = [
            (f"{made.noun}s", f"{self.images:,} ({len(self):,} rows)"),
            ("skipped", f"{len(self.skipped_files):,}"),
            ("numbers of a vector", f"{self.dimension:,}"),
            (count(len(self.label_names), "label"), listed(self.label_names)),
            (made.role, made.maker),
            ("source", str(self.environment.get("source", ""))),
        ]
        if self.group_names:
            rows.insert(4, ("groups", f"{len(self.group_names):,}"))
        return in_html(self.name, rows)

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
    def texts(self) -> list[str]:
        """N texts, what each example is for people to read, "" for none; [] if there are none."""
        if not self.has_texts:
            return []
        return [text.decode("utf-8") for text in self.read(layout.TEXTS).tolist()]

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

    @property
    def graph(self) -> Graph | None:
        """The quantised backbone that made the vectors, where their precision is int8.

        Raises
        ------
        FeatureFileError
            If it is missing or damaged.
        """
        digest = self.provenance.graph_digest
        if not digest:
            return None
        packed = self.read(layout.GRAPH).tobytes()
        try:
            return Graph.unpacked(packed, digest)
        except FeatureFileError as error:
            raise FeatureFileError(
                f"{self.name}: damaged: its quantised backbone cannot be used: {error}; put a "
                f"sound copy of the file in its place, or make it again with --fresh"
            ) from error

    def read(self, name: str) -> NDArray[Any]:
        """A whole dataset by its name in the file.

        Raises
        ------
        FeatureFileError
            If it breaks a rule of FORMAT.md; or if the file was replaced after this store was
            opened: its rows would not match those read before.
        """
        with self._opened() as file:
            return whole(file, name, self.name)

    def read_features(self, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        """The vectors of `rows` (increasing, no row twice), without reading all the others."""
        with self._opened() as file:
            return picked(file[layout.FEATURES], rows)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        with (
            called(self.path, self.url),
            opened(self.path, layout.FORMAT, sound=self._state) as file,
        ):
            if text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE) != self.content_digest:
                raise FeatureFileError(
                    f"{self.path}: it was replaced since it was opened; open it again"
                )
            yield file
