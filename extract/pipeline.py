"""A source of images -> a sealed feature file: plan what is new, have it done, seal."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..features import durable
from ..features.errors import FeatureFileError, WrongUsage
from ..features.journal import units
from ..features.journal.known import REMEDY, Known
from ..features.journal.lock import exclusive
from ..features.journal.seal import seal
from ..features.journal.units import UNIT_IMAGES
from ..features.opening import replaceable
from ..features.origin import PRECISIONS
from ..features.provenance.augmentation import NO_AUGMENTATION
from ..features.records import Listed
from ..features.store import FeatureStore
from . import sources
from .backbones.request import Request
from .backbones.weights import IMAGENET
from .embedding import Embedding
from .engines import AUTO
from .engines.engine import Tuning
from .images.views import AS_BEFORE, Asked
from .sources import Named
from .sources.listing import Listing, log_notes
from .work.catch_up import catch_up
from .work.losses import require_little_lost, require_rows, require_source
from .work.summary import summarise

_MOST_WORKERS: Final = 256  # each has a backbone in memory


def extract(
    source: Named,
    out: str | os.PathLike[str],
    *,
    backbone: str = "Xception",
    weights: str | os.PathLike[str] = IMAGENET,
    size: int | None = None,
    fit: str = "stretch",
    precision: str = PRECISIONS[0],
    labels: str = "folder",
    columns: Mapping[str, str] | None = None,
    dtype: str = "float32",
    views: int | None = None,
    augment: str | None = None,
    views_of: str | None = None,
    engine: str = AUTO,
    batch: int | None = None,
    streams: int | None = None,
    threads: int | None = None,
    fresh: bool = False,
    remove: bool = False,
    rescan: bool = False,
    workers: int = 1,
    progress: bool = False,
    seen: Callable[[Listing], None] = log_notes,
) -> FeatureStore:
    """Embed every image of a source once and keep the vectors in one file.

    Running it again embeds only what is new; running it again after a crash goes on where it
    stopped.

    Parameters
    ----------
    source : str or path-like, a sequence of them, a data frame or a Listing
        A folder of images, a list of them, image files, and more; see `headstart.extract.scan`,
        whose result may be given too.
    out : str or path-like
        The feature file to make or to bring up to date.
    backbone : str, default="Xception"
        Any image classifier of ``keras.applications``, by name.
    weights : str or path-like, default="imagenet"
        ``"imagenet"`` (downloaded by Keras once), ``"random"`` (seeded and calibrated), or a
        weights file of the backbone without its top layers (``.h5`` or ``.weights.h5``).
    size : int, optional
        Side of the square input in pixels; by default what the backbone was trained on.
    fit : {"stretch", "crop", "pad"}, default="stretch"
        Distort an image to the square, cut its middle out, or add grey borders.
    precision : {"f32", "bf16"}, default="f32"
        Arithmetic of the backbone. bf16 is about twice as fast where the processor has it; its
        vectors are a little different (a cosine of 0.9998 with Xception, 0.99 with MobileNetV2)
        and never mix with others.
    labels : {"folder", "none"}, default="folder"
        ``"none"`` leaves the images unlabelled.
    columns : mapping, optional
        Which columns of a list are its paths, labels, splits and groups; see `scan`.
    dtype : {"float32", "float16"}, default="float32"
        Of the stored vectors; float16 halves the file and keeps about three digits.
    views : int, optional
        Vectors of each image: of the image itself, its view 0, and of ``views - 1`` random changes
        of it, for training. By default as many as `out` has, or (with `fresh` too) one. More embed
        only what is new, fewer are dropped without embedding.
    augment : str, optional
        What the changes are: of ``"flip"``, ``"vertical"``, ``"rotation=0.1"``, ``"crop=0.8"`` and
        ``"color=0.2"`` those that are named, with commas between them; see
        `headstart.extract.images.views.KINDS`. By default those that `out` has, or
        ``"flip,rotation=0.1"``, as in the Keras guide to transfer learning. A view is the same
        whenever and wherever it is made.
    views_of : {"training", "all"}, optional
        Which images have more views than one: by default those that `out` has, or all but the
        images of the test split.
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the backbone. ``"auto"`` is Keras on a GPU, and on a CPU OpenVINO if it is
        installed; the vectors agree.
    batch, streams, threads : int, optional
        Images per call, calls side by side (``openvino`` only) and processor cores of the engine;
        each chooses itself, and none changes a vector by more than rounding.
    fresh : bool, default=False
        Make the file anew, with no vector of the one that is there: it was made with other
        settings, or is damaged.
    remove : bool, default=False
        Let go of vectors whose images the source does not have, even if they came from another
        source or are more than half of all that are known. Fewer, whose images were deleted, go
        without being asked for.
    rescan : bool, default=False
        Read every file again, be it unchanged by size, date and inode; only new contents are
        embedded.
    workers : int, default=1
        Processes that embed. One keeps all cores of a small machine busy by its threads; several,
        each with its own backbone in memory, pay where one cannot. The file comes out the same.
    progress : bool, default=False
        Show a progress bar on standard error.
    seen : callable, optional
        Called with the `headstart.extract.Listing` of the source before anything is embedded; by
        default what one might not expect of it is logged.

    Returns
    -------
    FeatureStore
        The sealed file: features of shape (N, D), rows sorted by path. Its attribute `summary`, a
        `headstart.extract.Summary`, says what the run did and where its time went.

    Raises
    ------
    SourceError
        If there are no images, or none that can be read.
    BackboneError, MissingExtra
        If the backbone is not available in this size or with these weights; if the engine is not
        installed.
    ProvenanceMismatch
        If `out` holds vectors of other settings, or views of another recipe.
    FeatureFileError
        If `out` is another kind of file, or damaged, or cannot be written (the disk is full, or
        fails), or if another run is at work on it.
    WrongUsage
        If a value is none of those listed; if vectors would be lost, see `remove`.
    """
    asked = Asked.checked(views, augment, views_of)
    request = Request.checked(
        backbone=backbone, weights=weights, size=size, fit=fit, precision=precision, dtype=dtype
    )
    return run(
        Embedding(request, engine, Tuning(batch, streams, threads)),
        source,
        out,
        labels=labels,
        columns=columns,
        views=asked,
        fresh=fresh,
        remove=remove,
        rescan=rescan,
        workers=workers,
        progress=progress,
        seen=seen,
    )


def run(
    embedding: Embedding,
    source: Named,
    out: str | os.PathLike[str],
    *,
    labels: str = "folder",
    columns: Mapping[str, str] | None = None,
    views: Asked = AS_BEFORE,
    fresh: bool = False,
    remove: bool = False,
    rescan: bool = False,
    workers: int = 1,
    unit_images: int = UNIT_IMAGES,
    remedy: str = REMEDY,
    progress: bool = False,
    seen: Callable[[Listing], None] = log_notes,
) -> FeatureStore:
    """Do the work of `extract` with an embedding; the other parameters and errors are the same.

    `remedy` says what to do if `out` holds vectors that do not fit.
    """
    started = time.perf_counter()
    if not 1 <= workers <= _MOST_WORKERS:
        raise WrongUsage(f"workers {workers}: at least 1, and at most {_MOST_WORKERS}")
    path = _checked_output(out, source, fresh=fresh)
    listing = sources.scan(source, labels, columns=columns)
    images, name = sorted(listing, key=lambda image: image.path), listing.name
    try:
        with exclusive(path):
            if fresh:
                augmentation = views.beside(NO_AUGMENTATION)
                known, held = _afresh(embedding, path, name, augmentation.recipe, remedy)
            else:
                known = Known(path, source=name, remedy=remedy)
                held = [known]
                augmentation = views.beside(known.augmentation)
                known.require_recipe(augmentation.recipe)
            before = {raw for one in held if one.store is not None for raw in one.store.raw_paths}
            if known.origin is not None:
                embedding.require_fit(known.origin)
            stats = {image.path: image.stat() for image in images}
            for one in held if not remove else ():
                require_little_lost(
                    one, images, stats, ask=listing.by_name, unlisted=listing.unlisted
                )
            seen(listing)
            caught_up = catch_up(
                known,
                embedding,
                images,
                stats,
                augmentation=augmentation if views.make else NO_AUGMENTATION,
                rescan=rescan,
                workers=workers,
                unit_images=unit_images,
                progress=progress,
            )
            sealing = time.perf_counter()
            stats = caught_up.stats
            listed = [
                Listed(stats[image.path], image.label, image.split, image.group) for image in images
            ]
            require_source(name, images)
            require_rows(caught_up.known, listed)
            wanted = {} if augmentation == NO_AUGMENTATION else {"augmentation": augmentation}
            store = seal(caught_up.known, listed, **wanted)
            ended = time.perf_counter()
            store.summary = summarise(
                store,
                embedding,
                caught_up.tally,
                workers=workers,
                removed=len(before - stats.keys()),
                unreachable=sum(
                    caught_up.known.last(stat.path) is not None
                    for stat in stats.values()
                    if not stat.stamp
                ),
                sealing=ended - sealing,
                total=ended - started,
            )
    except KeyboardInterrupt as error:
        kept = any(units.folder_of(path).glob("*.h5")) or path.exists()
        raise KeyboardInterrupt(
            "what is finished is kept, and the same command goes on from there"
            if kept
            else "nothing was finished yet"
        ) from error
    store.path = Path(out)  # as it was named, be it a link
    return store


def _checked_output(out: str | os.PathLike[str], source: Named, *, fresh: bool) -> Path:
    path = durable.require_target(Path(out), units.ENDING)
    if sources.is_source(path, source):
        raise FeatureFileError(f"{path}: is the source itself; choose another output")
    if fresh and path.exists() and not replaceable(path):
        raise FeatureFileError(
            f"{path}: is not a feature file, so --fresh does not replace it; choose another output"
        )
    return path


def _afresh(
    embedding: Embedding, out: Path, source: str, recipe: str, remedy: str
) -> tuple[Known, list[Known]]:
    """What is known for a file that is made anew, and everything of which images could be lost.

    Unfinished work of other settings is left out; what a killed run with these left is still good.
    The file that is going to be replaced counts for its images, if it can be read at all.
    """
    unfinished = units.verified(units.folder_of(out))
    others = {
        one.path.name
        for one in unfinished
        if not one.origin.fits(embedding.origin())
        or (one.has_views and not one.origin.augmentation.joins(recipe))
    }
    known = Known(out, source=source, fresh=True, without=others, remedy=remedy, before=unfinished)
    every = {one.path.name for one in unfinished}
    try:
        return known, [known, Known(out, source=source, without=every, before=unfinished)]
    except FeatureFileError:
        return known, [known]
