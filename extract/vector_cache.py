"""Images -> vectors, remembered on disk: to ask for the same again costs next to nothing.

What is remembered is a feature file with its units, as a run of `headstart extract` leaves it.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..features.child import after_fork
from ..features.errors import FeatureFileError, SourceError
from ..features.journal import units
from ..features.journal.known import Known
from ..features.journal.lock import exclusive
from ..features.journal.seal import seal
from ..features.journal.units import Unit
from ..features.records import FileStat, Listed, must_read
from . import cache
from .backbones.request import Request
from .embedding import Embedding
from .sources.image import ImageReference
from .sources.tree import NO_SPLIT
from .work.catch_up import catch_up

_SOURCE: Final = os.path.abspath(os.sep)
"""What all paths in these files are relative to, wherever the process works."""

SEALED_FROM: Final = 64
"""Units: reading each anew takes milliseconds, and sealing rewrites the whole file."""

_SHARED: Final = 2
"""Caches that a process keeps loaded: two, since two backbones are at times used together."""


class VectorCache:
    """The vectors of one request: those that are on disk, and an embedding for all others.

    Any number of threads and processes may use it at once. What is known is read without a lock;
    to add to it they wait for each other, and find what another has added meanwhile (where the file
    system has locks). Each request has a file of its own, so that no vectors mix.
    """

    def __init__(self, request: Request, engine: str, folder: Path) -> None:
        self.file = folder / f"{cache.name(request, request.declared())}.h5"
        self._embedding = Embedding(request, engine)
        self._known: Known | None = None
        self._verified: Sequence[Unit] = ()
        # One thread at a time: the engine uses all cores, and the next one finds what it needs.
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int | None:
        """D; None as long as nothing is on disk, since only the backbone could tell."""
        with self._explained():
            origin = (self._known or self._read()).origin
        return None if origin is None else origin.provenance.dimension

    def vectors(self, images: Sequence[ImageReference]) -> NDArray[np.floating]:
        """The vectors of `images`, (n, D), in that order; an image may be there several times."""
        cache.use(self.file)
        stats = {image.path: image.stat() for image in images}
        with self._explained():
            # What is remembered may lack what other processes have added: then it is read anew.
            for _ in range(1 if self._known is None else 2):
                with contextlib.suppress(FeatureFileError):  # one may be sealing what is read
                    known = self._known or self._read()
                    doubtful = known.unsettled(stats.values())
                    if all(
                        _is_known(known, image, stats[image.path])
                        for image in images
                        if image.path in doubtful
                    ):
                        vectors = _rows(known, images, stats)
                        self._known = known
                        return vectors
                self._known = None
            with self._lock:
                self._make_folder()
                with exclusive(self.file, wait=True):
                    return self._added(images)

    def _added(self, images: Sequence[ImageReference]) -> NDArray[np.floating]:
        known = self._read()
        if known.origin is not None:
            self._embedding.require_fit(known.origin)
        distinct = {image.path: image for image in images}
        stats = {path: image.stat() for path, image in distinct.items()}
        caught_up = catch_up(known, self._embedding, list(distinct.values()), stats)
        self._known = known = caught_up.known
        vectors = _rows(known, images, caught_up.stats)
        if len(known.units) >= SEALED_FROM:
            # Nothing depends on it: on a full disk the units stay as they are.
            with contextlib.suppress(FeatureFileError):
                # What could not be read is left out.
                seal(known, [Listed(file.stat, None, NO_SPLIT) for file in known.files])
            self._known = None
        return vectors

    def _read(self) -> Known:
        try:
            known = Known(self.file, source=_SOURCE, remedy=self._remedy, before=self._verified)
        except OSError as error:
            raise FeatureFileError(f"{self.file}: cannot be read: {error.strerror}") from error
        self._verified = known.units
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


def _fresh() -> tuple[threading.Lock, Callable[[Request, str, Path], VectorCache]]:
    # The lock, since of two threads that ask at once each would else load a backbone.
    return threading.Lock(), functools.lru_cache(maxsize=_SHARED)(VectorCache)


_sharing, _shared = _fresh()


def shared(request: Request, engine: str, folder: Path) -> VectorCache:
    """The cache of a request that all of this process use, with what it has loaded."""
    with _sharing:
        return _shared(request, engine, folder)


def _start_anew() -> None:
    # In a process that was forked. What is known is on the disk; but the lock may be held by a
    # thread of the parent, and engines have lost their threads.
    global _sharing, _shared
    _sharing, _shared = _fresh()


after_fork(_start_anew)


def _is_known(known: Known, image: ImageReference, stat: FileStat) -> bool:
    """Whether an image that shares size and time with another is the one that was seen."""
    seen = known.seen(stat)
    return not must_read(seen) and seen is not None and image.digest() == seen.digest


def _rows(
    known: Known, images: Sequence[ImageReference], stats: Mapping[bytes, FileStat]
) -> NDArray[np.floating]:
    """The vectors of images of which everything is known."""
    found = [known.seen(stats[image.path]) for image in images]
    usable = [file for file in found if file is not None and not file.reason]
    if len(usable) < len(images):
        number = next(k for k, file in enumerate(found) if file is None or file.reason)
        reason = getattr(found[number], "reason", "it changed while it was read")
        raise SourceError(
            f"{len(images) - len(usable)} of {len(images)} images cannot be used; the first is "
            f"X[{number}], {os.fsdecode(images[number].path)}: {reason}; repair or leave out such "
            f"images"
        )
    return known.vectors([file.key for file in usable])
