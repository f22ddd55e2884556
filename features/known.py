"""What is known already: the sealed file and the verified units, looked up by file and digest."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import units
from .store import FeatureStore
from .units import Origin, SeenFile, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class FileStat:
    """What tells, without reading it, whether a file is still the one that was seen.

    Attributes
    ----------
    path : bytes
        Relative to the source.
    size, mtime_ns : int
        Bytes, and nanoseconds since the epoch.
    """

    path: bytes
    size: int
    mtime_ns: int


REMEDY: Final = "Choose another output, or replace this one (--fresh; in Python fresh=True)."


class Known:
    """Everything that earlier runs computed for one output file.

    Parameters
    ----------
    out : Path
        The feature file; it need not exist.
    source : str, default=""
        Where the images come from. Files seen elsewhere under the same names are not taken for
        these, though vectors of equal bytes are.
    fresh : bool, default=False
        Leave the sealed file out of account; only its units count.
    remedy : str, optional
        What the user can do if vectors do not go together with these, for messages.
    before : sequence of Unit, default=()
        Units that were verified already, which are not read again.

    Attributes
    ----------
    store : FeatureStore or None
        The sealed file, if there is one.
    units : list of Unit
        Verified units that are not sealed yet.

    Raises
    ------
    FeatureFileError
        If `out` exists and is not a sound feature file.
    ProvenanceMismatch
        If units and sealed file, or two units, were made differently.
    """

    def __init__(
        self,
        out: Path,
        *,
        source: str = "",
        fresh: bool = False,
        remedy: str = REMEDY,
        before: Sequence[Unit] = (),
    ) -> None:
        self.out = out
        self.source = source
        self.fresh = fresh
        self.remedy = remedy
        self.store = FeatureStore(out) if out.exists() and not fresh else None
        self.units = units.verified(units.folder_of(out), before)
        origin = self.origin
        for unit in self.units:
            if origin is not None:
                unit.origin.provenance.require_same(
                    origin.provenance,
                    this=f"unfinished work in {unit.path.parent}",
                    that=f"the rest of {out}",
                    remedy=remedy,
                )
        self._files: dict[FileStat, SeenFile] = {}
        self._images: dict[bytes, SeenFile] = {}
        self._places: dict[bytes, tuple[int, int]] = {}
        self._index()

    def _index(self) -> None:
        if self.store is not None:
            digests = [digest.tobytes() for digest in self.store.digests]
            files = [
                SeenFile(path, stat[0], stat[1], digest, stat[2], stat[3])
                for path, digest, stat in zip(
                    self.store.raw_paths, digests, self.store.stats.tolist(), strict=True
                )
            ]
            for row, digest in enumerate(digests):
                self._places.setdefault(digest, (-1, row))
            self._remember([*files, *self.store.skipped_files], self.store.environment)
        for number, unit in enumerate(self.units):
            for row, digest in enumerate(unit.digests):
                self._places.setdefault(digest, (number, row))
            self._remember(unit.files, unit.origin.environment)

    def _remember(self, files: Iterable[SeenFile], environment: Mapping[str, Any]) -> None:
        here = environment.get("source", "") == self.source
        for file in files:
            if here:
                self._files[FileStat(file.path, file.size, file.mtime_ns)] = file
            if not file.reason:
                self._images[file.digest] = file

    @functools.cached_property
    def origin(self) -> Origin | None:
        """What made the known vectors; None if nothing is known.

        The canary is the one that came with the first of them; the environment is where the newest
        were made, with the present source.
        """
        origins = [unit.origin for unit in self.units]
        if self.store is not None:
            store = self.store
            origins.insert(0, Origin(store.provenance, store.environment, store.canary))
        if not origins:
            return None
        environments = [dict(origin.environment) for origin in origins]
        newest = max(environments, key=lambda one: str(one.get("extracted", "")))
        return Origin(origins[0].provenance, newest | {"source": self.source}, origins[0].canary)

    @property
    def files(self) -> list[SeenFile]:
        """Every file seen in the present source, in each state that it was seen in."""
        return list(self._files.values())

    def again(self) -> Known:
        """The same, read anew: with what has been published meanwhile."""
        return Known(
            self.out, source=self.source, fresh=self.fresh, remedy=self.remedy, before=self.units
        )

    def image(self, digest: bytes) -> SeenFile | None:
        """A file with these bytes whose vector is known; None if there is none."""
        return self._images.get(digest) if digest in self._places else None

    def seen(self, stat: FileStat) -> SeenFile | None:
        """What was found in this unchanged file; None if it is new, changed or its vector lost."""
        file = self._files.get(stat)
        if file is None or not (file.reason or file.digest in self._places):
            return None
        return file

    def vectors(self, digests: Sequence[bytes]) -> NDArray[np.floating]:
        """The vectors of `digests`, (len(digests), D), in that order.

        Rows that come from one file are read together, so a block of neighbours costs a few reads.
        """
        origin = self.origin
        if origin is None:
            raise KeyError("nothing is known")
        provenance = origin.provenance
        found = np.empty((len(digests), provenance.dimension), provenance.dtype)
        places = np.array([self._places[digest] for digest in digests]).reshape(-1, 2)
        for number in np.unique(places[:, 0]).tolist():
            here = places[:, 0] == number
            rows, inverse = np.unique(places[here, 1], return_inverse=True)
            if number == -1 and self.store is not None:
                found[here] = self.store.read_features(rows)[inverse]
            else:
                found[here] = self.units[number].features()[places[here, 1]]
        return found
