"""Several sealed feature files, the shards of one: PETS-00000-of-00016.h5 and so on."""

import dataclasses
import glob
import os
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import layout
from ..child import once
from ..digest import ArrayDigest
from ..durable.remote.url import is_remote, public
from ..errors import FeatureFileError, count
from ..origin import INT8
from . import FeatureStore

_NAME: Final = re.compile(
    r"(?P<stem>.*)-(?:\*|\?{5})-of-(?P<number>[0-9]{5})(?P<suffix>\.[^./\\]*)", re.DOTALL
)
_NAMES_OF: Final = {names: codes for codes, names in layout.NAMED}
_CODES: Final = dict(layout.NAMED)


def shards_of(name: str | os.PathLike[str]) -> list[str]:
    """The files that ``PETS-*-of-00016.h5`` stands for, be they there or not, by number.

    Raises
    ------
    FeatureFileError
        If the name stands for none.
    """
    found = _NAME.fullmatch(os.fspath(name))
    if found is None or not int(found["number"]):
        raise FeatureFileError(
            f"{os.fspath(name)}: stands for no files; shards are named as pets-*-of-00016.h5"
        )
    of = found["number"]
    return [f"{found['stem']}-{shard:05}-of-{of}{found['suffix']}" for shard in range(int(of))]


class Shards(FeatureStore):
    """Several files as one; rows are those of all, sorted by path and view as in one file.

    Vectors must have been made alike, and no row may be in two files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        named = os.fspath(path)
        if is_remote(named):
            self.url = public(named)
        self.path = Path(path)
        every = shards_of(named)
        if not self.url:
            _require_all(named, every)
        self._stores = [FeatureStore(one) for one in every]
        first = self._stores[0]
        for other in self._stores[1:]:
            _require_alike(first, other)
        environment = dict(first.environment)
        sources = sorted({str(one.environment.get("source", "")) for one in self._stores})
        if len(sources) > 1:
            environment["source"] = f"{sources[0]} ... {sources[-1]}"
        self.origin = dataclasses.replace(
            first.origin.called(self.name, first.origin.remedy), environment=environment
        )
        self._rows = sum(map(len, self._stores))
        self.has_texts = any(one.has_texts for one in self._stores)
        self.dimension = first.dimension
        digest = ArrayDigest()
        for store in self._stores:
            digest.text(store.content_digest)
        self.content_digest = digest.hexdigest()

    @classmethod
    def takes(cls, path: object) -> bool:
        """Whether it stands for all shards of a file: ``PETS-*-of-00016.h5``."""
        return isinstance(path, str | os.PathLike) and bool(_NAME.fullmatch(os.fspath(path)))

    def read(self, name: str) -> NDArray[Any]:
        """A whole dataset, as it would be in one file."""
        if name in (layout.CANARY, layout.GRAPH):
            return self._stores[0].read(name)
        if name in _NAMES_OF:
            every = [file.read(name) for file in self._stores]
            return np.unique(np.concatenate(every))
        if name == layout.SKIPPED:
            joined = np.concatenate([file.read(name) for file in self._stores])
            return joined[np.argsort(joined["path"], kind="stable")]
        return self._joined(name)

    def _joined(self, name: str) -> NDArray[Any]:
        """What has an entry a row; with no more than one file's in memory beside it."""
        found: NDArray[Any] | None = None
        names = self.read(_CODES[name]) if name in _CODES else None
        numbers = self._place[0]
        for shard, file in enumerate(self._stores):
            bare = name == layout.TEXTS and not file.has_texts
            own = np.zeros(len(file), "S1") if bare else file.read(name)
            if names is not None:
                own = _renumbered(own, file.read(_CODES[name]), names)
            if found is None or not np.can_cast(own.dtype, found.dtype):  # a longer path
                wider = own.dtype if found is None else np.promote_types(found.dtype, own.dtype)
                room = np.zeros((len(self), *own.shape[1:]), wider)
                if found is not None:
                    room[:] = found
                found = room
            found[numbers == shard] = own
        assert found is not None  # there is a first file
        return found

    def read_features(self, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        """The vectors of `rows` (increasing, no row twice), without reading all the others."""
        found = np.empty((len(rows), self.dimension), self.provenance.dtype)
        shards, places = (column[rows] for column in self._place)
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            found[here] = self._stores[shard].read_features(places[here])  # increasing there too
        return found

    @once
    def _place(self) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """In which file each row is, and which one it is there."""
        paths = np.concatenate([file.read(layout.PATHS) for file in self._stores])
        views = np.concatenate([file.read(layout.VIEWS) for file in self._stores])
        sizes = [len(file) for file in self._stores]
        order = np.lexsort((views, paths))
        twice = (np.diff(views[order]) == 0) & (paths[order][1:] == paths[order][:-1])
        numbers = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        if twice.any():
            at = int(np.flatnonzero(twice)[0])
            one, other = (self._stores[number].path.name for number in numbers[at : at + 2])
            raise FeatureFileError(
                f"{self.name}: {os.fsdecode(paths[order[at]])} is in two of its files, {one} and "
                f"{other}; give each its own part of the images, and name the parts so that no two "
                f"images have one path"
            )
        starts = np.cumsum([0, *sizes[:-1]])
        return numbers, order - starts[numbers]


def _require_all(name: str, every: list[str]) -> None:
    missing = [os.path.basename(one) for one in every if not os.path.exists(one)]
    if not missing:
        return
    found = _NAME.fullmatch(name)
    assert found is not None
    alike = f"{glob.escape(found['stem'])}-[0-9][0-9][0-9][0-9][0-9]-of-*{found['suffix']}"
    others = {one.rpartition("-of-")[2] for one in glob.glob(alike)} - {name.rpartition("-of-")[2]}
    there = f"; there are shards of another number: *-of-{min(others)}" if others else ""
    raise FeatureFileError(
        f"{name}: {count(len(missing), 'shard')} of {len(every):,} missing, the first "
        f"{missing[0]}{there}; `headstart extract` makes each, from its part of the images"
    )


def _require_alike(first: FeatureStore, other: FeatureStore) -> None:
    remedy = "Shards of one file are extracted with the same settings"
    if first.provenance.graph_digest:
        remedy += f", in {INT8} with --weights {first.name}"
    remedy += "; make one of the two again."
    first.origin.called(first.name, remedy).require(other.origin)
    if other.augmentation != first.augmentation:
        raise FeatureFileError(
            f"{other.name}: its views are other ones than those of {first.name}; extract both "
            f"with the same --views, --augment and --views-of"
        )


def _renumbered(
    codes: NDArray[np.int32], names: NDArray[np.bytes_], among: NDArray[np.bytes_]
) -> NDArray[np.int32]:
    """Numbers of names, among those of all files."""
    found = np.full(len(codes), layout.NO_NAME, np.int32)
    known = codes != layout.NO_NAME
    found[known] = np.searchsorted(among, names).astype(np.int32)[codes[known]]
    return found
