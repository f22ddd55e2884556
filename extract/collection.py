"""Images -> vectors, remembered on disk: whoever asks for the same again gets the same for nothing.

What is remembered is a feature file with its units, as a run of `headstart extract` leaves it. Any
number of processes publish units beside the file without asking each other; one that finds many
seals them into it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..features import durable, units
from ..features.errors import FeatureFileError, SourceError
from ..features.known import FileStat, Known
from ..features.lock import exclusive
from ..features.seal import Listed, seal
from . import cache
from .embedding import Embedding
from .sources import NO_SPLIT
from .work import Work, must_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ..features.units import SeenFile
    from .request import Request
    from .sources import ImageReference

_SOURCE: Final = os.path.abspath(os.sep)
"""What all paths in these files are relative to, wherever the process works."""

_SEALED_FROM: Final = 64
"""Units: reading each anew takes milliseconds, and sealing rewrites the whole file."""

_ATTEMPTS: Final = 3
"""Each fails only if another process seals in the middle of it."""

_SHARED: Final = 2
"""Collections that a process keeps loaded: two, since two backbones are at times used together."""

_log = logging.getLogger("headstart")


class Collection:
    """The vectors of one request: those that are on disk, and an embedding for all others.

    Safe to be used by several threads and several processes at once.

    Parameters
    ----------
    request : Request
        The settings. Each has a file of its own, so that no vectors mix.
    engine : str
        What runs the backbone, if it has to.
    folder : Path
        Where the file is; made when something is kept.

    Attributes
    ----------
    file : Path
        The feature file.

    Raises
    ------
    WrongUsage
        If there is no such engine.
    MissingExtra
        If its library is not installed.
    """

    def __init__(self, request: Request, engine: str, folder: Path) -> None:
        self.file = folder / f"{cache.name(request, request.declared())}.h5"
        self._embedding = Embedding(request, engine)
        self._known: Known | None = None
        # One thread at a time: the engine uses all cores, and the next one finds what it needs.
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int | None:
        """D; None as long as nothing is on disk, since only the backbone could tell."""
        with self._lock, self._explained():
            self._known = self._known or self._read()
            origin = self._known.origin
            return None if origin is None else origin.provenance.dimension

    def vectors(self, images: Sequence[ImageReference]) -> NDArray[np.floating]:
        """The vectors of `images`, (n, D), in that order; an image may be there several times.

        Raises
        ------
        SourceError
            If any of them cannot be read or decoded. It is looked at again when it has changed.
        BackboneError
            If the backbone is needed and its weights cannot be had.
        FeatureFileError
            If the file is damaged, or nothing can be written beside it.
        ProvenanceMismatch
            If the backbone computes other vectors here and now than those on disk.
        """
        with self._lock, self._explained():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return self._vectors(images)
                except FeatureFileError as error:
                    if not _overtaken(error):
                        raise
                    self._known = None
            return self._vectors(images)

    def _vectors(self, images: Sequence[ImageReference]) -> NDArray[np.floating]:
        listing = {image.path: image for image in images}
        stats = {path: image.stat() for path, image in listing.items()}
        known = self._known
        # Other processes may have embedded what was not there when this one looked last.
        if known is None or _lacks(known, stats.values()):
            self._known = known = self._read()
        if _lacks(known, stats.values()):
            self._make_folder()
            work = Work(known, self._embedding)
            stats = work.catch_up(list(listing.values()))
            self._known = known = work.known

        seen = [known.seen(stats[image.path]) for image in images]
        found = [file for file in seen if file is not None]
        assert len(found) == len(images)  # catch_up saw to it; or rows would be another image's
        _require_usable(found)
        vectors = known.vectors([file.digest for file in found])
        if len(known.units) >= _SEALED_FROM:
            self._seal()
        return vectors

    def _read(self) -> Known:
        # Sealing moves vectors from the units to the file: whoever read the file before and the
        # units after it would miss them.
        while True:
            state = durable.state(self.file)
            try:
                before = () if self._known is None else self._known.units
                known = Known(self.file, source=_SOURCE, remedy=self._remedy, before=before)
            except FeatureFileError:
                if durable.state(self.file) == state:
                    raise
            except OSError as error:
                raise FeatureFileError(f"{self.file}: cannot be read: {error.strerror}") from error
            else:
                if durable.state(self.file) == state:
                    return known

    def _make_folder(self) -> None:
        # Before any image is embedded, rather than when the first of them are to be kept.
        folder = self.file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FeatureFileError(f"{folder}: cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise FeatureFileError(f"{folder}: no permission to write there")

    def _seal(self) -> None:
        """Gather the units in the file; nothing depends on it, so it may as well fail."""
        try:
            with exclusive(self.file):
                known = self._read()
                seal(known, _newest(known.files))
        except FeatureFileError as error:  # such as another process that is sealing
            _log.info("%s", error)
        self._known = None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        # The messages are written for a user who knows the file, and this one knows of none.
        try:
            yield
        except FeatureFileError as error:
            raise FeatureFileError(f"{str(error).rstrip('.')}. {self._remedy}") from error

    @property
    def _remedy(self) -> str:
        return (
            f"What ImageEmbedder keeps there is a cache: delete {self.file} and "
            f"{units.folder_of(self.file).name}, or name another folder by cache=..."
        )


@functools.lru_cache(maxsize=_SHARED)
def _shared(request: Request, engine: str, folder: Path) -> Collection:
    return Collection(request, engine, folder)


_sharing = threading.Lock()  # of two threads that ask at once, each would else load a backbone


def shared(request: Request, engine: str, folder: Path) -> Collection:
    """The collection of a request that all of this process use, with what it has loaded."""
    with _sharing:
        return _shared(request, engine, folder)


def _lacks(known: Known, stats: Iterable[FileStat]) -> bool:
    return any(must_read(known.seen(stat)) for stat in stats)


def _require_usable(found: Sequence[SeenFile]) -> None:
    bad = [number for number, file in enumerate(found) if file.reason]
    if bad:
        first = found[bad[0]]
        raise SourceError(
            f"{len(bad)} of {len(found)} images cannot be used; the first is X[{bad[0]}], "
            f"{os.fsdecode(first.path)}: {first.reason}; mend or leave out such images"
        )


def _newest(files: Sequence[SeenFile]) -> list[Listed]:
    """Each path once: a feature file has one row for it. What could not be read is left out."""
    newest = {
        file.path: FileStat(file.path, file.size, file.mtime_ns)
        for file in sorted(files, key=lambda file: file.mtime_ns)
        if not must_read(file)
    }
    return [Listed(stat, None, NO_SPLIT) for stat in newest.values()]


def _overtaken(error: FeatureFileError) -> bool:
    """Whether the reason can be another process that sealed meanwhile.

    What was read is not there any more then, and neither may be a unit that was being published:
    who seals on another machine takes its temporary file for that of a process which was killed.
    """
    return error.__cause__ is None or isinstance(error.__cause__, FileNotFoundError)
