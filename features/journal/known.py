"""What is known already: the sealed file and the verified units, looked up by file and by key."""

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..child import once
from ..errors import ProvenanceMismatch
from ..origin import Origin
from ..provenance.augmentation import NO_AUGMENTATION, Augmentation, changes
from ..records import UNREAD, FileStat, Key, SeenFile, keys, must_read
from ..store import FeatureStore
from . import units
from .units import Unit

REMEDY: Final = "Choose another output, or replace this one (--fresh; in Python fresh=True)."

_BLOCK_ROWS: Final = 1024
"""Vectors of 2,048 float32 are 8 MB then: few reads, little memory."""
_OFTEN: Final = 4
"""Reading a unit of 2 MB takes 3 ms; no unit is to be read more often than this on average, unless
blocks would be larger than the following."""
_BLOCK_BYTES: Final = 256 << 20


class Known:
    """Everything that earlier runs computed for one output file.

    Files that were seen in another source under the same names are not taken for those of `source`,
    though vectors of equal bytes are. With `fresh` the sealed file is left out of account; only its
    units count, but for those named by `without`. Units that were verified `before` are not read
    again. Units and sealed file that were made differently are refused. Without `read_units` none
    are: there may be thousands, and a process that only makes more of them can do without.
    """

    def __init__(
        self,
        out: Path,
        *,
        source: str = "",
        fresh: bool = False,
        without: Collection[str] = (),
        remedy: str = REMEDY,
        before: Sequence[Unit] = (),
        read_units: bool = True,
    ) -> None:
        self.out = out
        self.source = source
        self.fresh = fresh
        self.without = without
        self.remedy = remedy
        self.store = FeatureStore(out) if out.exists() and not fresh else None
        found = units.verified(units.folder_of(out), before) if read_units else []
        self.units = [unit for unit in found if unit.path.name not in without]
        self.superseded = [unit for unit in found if unit.path.name in without]
        if self.origin is not None:
            rest = self.origin.provenance.declared
            for unit in self.units:
                unfinished = f"unfinished work in {units.folder_of(out)}"
                unit.origin.called(unfinished, remedy).require_declared(rest, f"the rest of {out}")
        self._files: dict[FileStat, SeenFile] = {}
        self._images: dict[bytes, SeenFile] = {}
        self._places: dict[Key, tuple[int, int]] = {}
        self._index()

    def _index(self) -> None:
        if self.store is not None:
            keys = self.store.keys
            files = [
                SeenFile(FileStat(path, *stat), digest, width, height)
                for path, (digest, view), (*stat, width, height) in zip(
                    self.store.raw_paths, keys, self.store.stats.tolist(), strict=True
                )
                if not view
            ]
            for row, key in enumerate(keys):
                self._places.setdefault(key, (-1, row))
            self._remember([*files, *self.store.skipped_files], self.store.environment)
        for number, unit in enumerate(self.units):
            for row, key in enumerate(unit.keys):
                self._places.setdefault(key, (number, row))
            self._remember(unit.files, unit.origin.environment)

    def _remember(self, files: Iterable[SeenFile], environment: Mapping[str, Any]) -> None:
        here = environment.get("source", "") == self.source
        for file in files:
            if here and (file.digest != UNREAD or file.stat not in self._files):
                self._files.pop(file.stat, None)  # so that they stay in the order of looking
                self._files[file.stat] = file
            if not file.reason:
                self._images[file.digest] = file

    @once
    def origin(self) -> Origin | None:
        """What made the known vectors; None if nothing is known.

        The canary is the one that came with the first of them; the environment is where the newest
        were made, with the present source.
        """
        origins = self._origins
        if not origins:
            return None
        environments = [dict(origin.environment) for origin in origins]
        newest = max(environments, key=lambda one: str(one.get("extracted", "")))
        environment = newest | {"source": self.source}
        first = origins[0 if self.store is None else -1]
        return Origin(first.provenance, environment, first.canary, str(self.out), self.remedy)

    @property
    def _origins(self) -> list[Origin]:
        """Those of the units, and the sealed file's, last as its place is -1."""
        origins = [unit.origin for unit in self.units]
        return origins if self.store is None else [*origins, self.store.origin]

    @property
    def augmentation(self) -> Augmentation:
        """The views of the sealed file; if it has none, those that unfinished work began."""
        if self.store is not None and self.store.augmentation.recipe:
            return self.store.augmentation
        begun = (unit.origin.augmentation for unit in reversed(self.units))
        return next((one for one in begun if one.recipe), NO_AUGMENTATION)

    @property
    def files(self) -> list[SeenFile]:
        """What was found in each file of the present source when it was last read."""
        return list(self._last.values())

    @once
    def _last(self) -> dict[bytes, SeenFile]:
        return {file.path: file for file in self._files.values() if file.digest != UNREAD}

    @property
    def turn(self) -> int:
        """That of the next run."""
        return 1 + max((unit.turn for unit in (*self.units, *self.superseded)), default=0)

    def again(self) -> "Known":
        """The same, read anew: with what has been published meanwhile."""
        return Known(
            self.out,
            source=self.source,
            fresh=self.fresh,
            without=self.without,
            remedy=self.remedy,
            before=[*self.units, *self.superseded],
        )

    def image(self, digest: bytes) -> SeenFile | None:
        """A file with these bytes whose vector is known; None if there is none."""
        return self._images.get(digest) if (digest, 0) in self._places else None

    def lacking(self, digest: bytes, views: int) -> list[int]:
        """Which of the first so many views of an image are not known."""
        return [view for view in range(views) if (digest, view) not in self._places]

    def require_recipe(self, recipe: str) -> None:
        """Refuse to add views of a recipe where there are some of another."""
        made = [] if self.store is None else [self.store.augmentation]
        made += [unit.origin.augmentation for unit in self.units if unit.has_views]
        others = [one for one in made if not one.joins(recipe)]
        if others:
            remedy = self.remedy
            if remedy == REMEDY:
                remedy = "Leave --augment out, drop the old views first (--views 1), or choose "
                remedy += "another output."
            raise ProvenanceMismatch(
                f"{self.out}: its views were made by {others[0].changes!r}, not by "
                f"{changes(recipe)!r}, and they never mix. {remedy}"
            )

    def seen(self, stat: FileStat) -> SeenFile | None:
        """What was found in this unchanged file; None if it is new, changed or its vector lost."""
        file = self._files.get(stat)
        if file is None or not (file.reason or file.key in self._places):
            return None
        return file

    def found(self, stat: FileStat) -> SeenFile | None:
        """As `seen`; of a file that cannot be read now, what was found when it last could.

        A drive that was pulled out says nothing of the images on it.
        """
        file = self.seen(stat)
        unread = not stat.stamp if file is None else file.digest == UNREAD
        return (self.last(stat.path) or file) if unread else file

    def last(self, path: bytes) -> SeenFile | None:
        """What was found under a path of the source when it was last read, if that is of use."""
        last = self._last.get(path)
        return last if last is not None and not last.reason and last.key in self._places else None

    def unsettled(self, stats: Collection[FileStat]) -> set[bytes]:
        """Paths of the files that have to be read to know what they are.

        They are new, changed or could not be read. Or they share size and time with another file:
        not every file system has more to tell two such files apart when they are swapped.
        """
        dated = (stat for stat in (*self._files, *stats) if stat.stamp and stat.mtime_ns)
        every = {(stat.size, stat.mtime_ns, stat.path) for stat in dated}
        owners = collections.Counter((size, time) for size, time, _ in every)
        shared = {pair for pair, paths in owners.items() if paths > 1}
        return {
            stat.path
            for stat in stats
            if must_read(self.seen(stat))
            or (shared and stat.stamp and (stat.size, stat.mtime_ns) in shared)
        }

    def contents(self) -> set[bytes]:
        """The digest of every image whose vector is known."""
        return {digest for digest, _ in self._places}

    def foreign(self) -> dict[bytes, str]:
        """Those that were found in another source, and in which."""
        sources = [str(origin.environment.get("source", "")) for origin in self._origins]
        if set(sources) <= {self.source}:
            return {}
        return {
            digest: sources[number]
            for (digest, _), (number, _) in self._places.items()
            if sources[number] != self.source
        }

    def blocks(self, keys: Sequence[Key]) -> Iterator[slice]:
        """Slices of `keys` whose vectors are best read together, by `vectors`.

        A unit is read whole for every block that needs anything of it. Where units have images
        from everywhere, as those of shards do, blocks are larger, so that none is read too often.
        """
        if self.origin is None:
            return
        provenance = self.origin.provenance
        numbers = np.array([self._places[key][0] for key in keys])
        yield from together(numbers, provenance.dimension * np.dtype(provenance.dtype).itemsize)

    def in_blocks(
        self, digests: NDArray[np.uint8], views: NDArray[np.int16]
    ) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        """The vectors of N keys, block by block, each with its place among the N."""
        wanted = keys(digests, views)
        for block in self.blocks(wanted):
            yield block, self.vectors(wanted[block])

    def vectors(self, keys: Sequence[Key]) -> NDArray[np.floating]:
        """The vectors of `keys`, (len(keys), D), in that order.

        Rows that come from one file are read together, so a block of neighbours costs a few reads.
        """
        if self.origin is None:
            raise KeyError("nothing is known")
        provenance = self.origin.provenance
        found = np.empty((len(keys), provenance.dimension), provenance.dtype)
        places = np.array([self._places[key] for key in keys]).reshape(-1, 2)
        for number in np.unique(places[:, 0]).tolist():
            here = places[:, 0] == number
            rows, inverse = np.unique(places[here, 1], return_inverse=True)
            if number == -1 and self.store is not None:
                found[here] = self.store.read_features(rows)[inverse]
            else:
                found[here] = self.units[number].features()[places[here, 1]]
        return found


def together(numbers: NDArray[np.integer], bytes_each: int) -> Iterator[slice]:
    """Slices of rows that are best read together, of rows that lie in files of these numbers."""
    rows, most = _BLOCK_ROWS, _OFTEN * len(np.unique(numbers))
    while rows * bytes_each < _BLOCK_BYTES and _reads(numbers, rows) > most:
        rows *= 2
    for start in range(0, len(numbers), rows):
        yield slice(start, min(start + rows, len(numbers)))


def _reads(numbers: NDArray[np.integer], rows: int) -> int:
    """How often units are read, if so many rows are taken at once."""
    # What has a number below zero is in the sealed file, of which single rows are read.
    blocks = (numbers[start : start + rows] for start in range(0, len(numbers), rows))
    return sum(int(np.count_nonzero(np.unique(block) >= 0)) for block in blocks)
