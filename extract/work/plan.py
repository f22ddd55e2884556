"""What a run has to do: its images as they are now, and what is known of them already."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from ...features.durable.remote.url import is_remote
from ...features.errors import WrongUsage
from ...features.journal.known import REMEDY, Known
from ...features.journal.shards import whose
from ...features.journal.units import has_units
from ...features.origin import INT8
from ...features.provenance.augmentation import NO_AUGMENTATION, Augmentation
from ...features.records import FileStat
from ...features.store import FeatureStore
from ...features.store.shards import Shards, shards_of
from .. import sources
from ..backbones.weights import WeightsSource
from ..embedding import Embedding
from ..images.views import Asked
from ..sources import Named
from ..sources.image import ImageReference
from ..sources.listing import Listing, log_notes
from .calibration import adopted, calibrated
from .losses import afresh, require_little_lost
from .summary import together


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is settled before the first image is embedded."""

    known: Known
    embedding: Embedding
    images: Sequence[ImageReference]
    """Sorted by path."""
    stats: Mapping[bytes, FileStat]
    """Theirs, by path."""
    augmentation: Augmentation
    """The views that there shall be."""
    made: Augmentation
    """Those that are made where they are not known."""
    before: set[bytes]
    """Paths of the images that there were in the sealed file."""


def planned(
    path: Path,
    embedding: Embedding,
    listing: Listing,
    *,
    views: Asked,
    fresh: bool = False,
    remove: bool = False,
    remedy: str = REMEDY,
    progress: bool = False,
    seen: Callable[[Listing], None],
) -> Plan:
    """What a run into `path` has to do; whoever asks holds the lock.

    A run that must not be is refused: see `headstart.extract.extract`. `seen` is told of the
    listing as soon as it is known that it can be.
    """
    images, name = sorted(listing, key=lambda image: image.path), listing.name
    stats = {image.path: image.stat() for image in images}
    if fresh:
        if has_units(path):  # which fit is known by the graph
            embedding = calibrated(embedding, path, images, stats, progress=progress)
        augmentation = views.beside(NO_AUGMENTATION)
        known, held = afresh(embedding, path, name, augmentation.recipe, remedy)
    else:
        known = Known(path, source=name, remedy=remedy)
        held = [known]
        augmentation = views.beside(known.augmentation)
        known.require_recipe(augmentation.recipe)
        embedding = adopted(embedding, known)
    before = {raw for one in held if one.store is not None for raw in one.store.raw_paths}
    if known.origin is not None:
        embedding.require_fit(known.origin)
    for one in held if not remove else ():
        require_little_lost(one, images, stats, ask=listing.by_name, unlisted=listing.unlisted)
    seen(listing)
    embedding = calibrated(embedding, path, images, stats, progress=progress)
    made = augmentation if views.make else NO_AUGMENTATION
    return Plan(known, embedding, images, stats, augmentation, made, before)


Run = TypeVar("Run", bound=Callable[..., FeatureStore])


def by_shards(run: Run) -> Run:
    """Have each file made by a run of its own where the output is ``pets-*-of-00016.h5``."""

    @functools.wraps(run)
    def each(
        embedding: Embedding, source: Named, out: str | os.PathLike[str], **how: Any
    ) -> FeatureStore:
        if not Shards.takes(out):
            return run(embedding, source, out, **how)
        made = list(shards_made(run, embedding, source, out, **how))
        store = FeatureStore(out)
        store.summary = together([one.summary for one in made])
        return store

    return cast("Run", each)


def shards_made(
    run: Callable[..., FeatureStore],
    embedding: Embedding,
    source: Named,
    out: str | os.PathLike[str],
    *,
    only: int | None = None,
    labels: str = "folder",
    columns: Mapping[str, str] | None = None,
    seen: Callable[[Listing], None] = log_notes,
    **how: Any,
) -> Iterator[FeatureStore]:
    """Make the files of a name of shards, or `only` one of them, each of its images."""
    files = shards_of(out)
    listing = sources.scan(source, labels, columns=columns)
    parts: list[list[ImageReference]] = [[] for _ in files]
    for image in listing:
        parts[whose(image.path, len(files)) - 1].append(image)
    if not all(parts):
        raise WrongUsage(
            f"{os.fspath(out)}: {len(listing):,} images are too few for {len(files):,} shards, "
            f"some of which would have none; make fewer"
        )
    seen(listing)
    for number, (file, images) in enumerate(zip(files, parts, strict=True)):
        if only not in (None, number + 1):
            continue
        if number and embedding.request.uncalibrated:
            # Each would be quantised by its own images, and their vectors would never mix.
            if not is_remote(files[0]) and not os.path.exists(files[0]):
                raise WrongUsage(
                    f"{file}: in {INT8} all shards have the quantised backbone of {files[0]}; "
                    f"make shard 1/{len(files)} first"
                )
            embedding = embedding.by(WeightsSource.named(files[0]))
        mine = dataclasses.replace(listing, images=images)
        yield run(embedding, mine, file, labels=labels, seen=lambda _: None, **how)
