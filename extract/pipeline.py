"""A source of images -> a sealed feature file: plan what is new, have it done, seal."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..features import durable
from ..features.durable.remote.url import public
from ..features.errors import FeatureFileError, WrongUsage
from ..features.journal import units
from ..features.journal.known import REMEDY
from ..features.journal.lock import at_work, exclusive
from ..features.journal.outputs import Output
from ..features.journal.progress import showing_progress
from ..features.journal.seal import prepare, seal
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
from .work import clusters
from .work.catch_up import CaughtUp, catch_up
from .work.clusters import Given
from .work.losses import require_rows, require_source
from .work.plan import by_shards, planned
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
    executor: Given | None = None,
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
        The feature file to make or to bring up to date: a path, a URL of a file in a bucket
        (``s3://bucket/pets.h5``, extra ``remote``), or ``pets-*-of-00016.h5`` for 16 files.
    backbone : str, default="Xception"
        Any image classifier of ``keras.applications``, by name.
    weights : str or path-like, default="imagenet"
        ``"imagenet"`` (downloaded by Keras once), ``"random"`` (seeded and calibrated), or a
        weights file of the backbone without its top layers (``.h5`` or ``.weights.h5``); for int8
        also a feature file, whose quantised backbone is used.
    size : int, optional
        Side of the square input in pixels; by default what the backbone was trained on.
    fit : {"stretch", "crop", "pad"}, default="stretch"
        Distort an image to the square, cut its middle out, or add grey borders.
    precision : {"f32", "bf16", "int8"}, default="f32"
        Arithmetic of the backbone. bf16 and int8 are faster where the processor has them; their
        vectors are a little different and never mix with others. For int8 (extra ``int8``) the
        backbone is quantised once, by up to 330 of the images; it is kept in `out`.
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
    views_of : {None, "training", "all"}, default=None
        Which images have more views than one: by default those that `out` has, or all but the
        images of the test split.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, default="auto"
        What runs the backbone. ``"auto"`` is Keras on a GPU; on a CPU OpenVINO if it is installed,
        else on x86-64 ONNX Runtime if that is. The vectors agree.
    batch, streams, threads : int, optional
        Images per call, calls side by side (``openvino`` only) and cores of the engine; each
        chooses itself, and none changes a vector by more than rounding.
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
    executor : Executor, distributed.Client or str, optional
        Who embeds instead, on any number of machines: what has the interface of
        `concurrent.futures.Executor`, a Dask client, or by name ``"dask:tcp://HOST:PORT"``,
        ``"dask:local"``, ``"ray:auto"``, ``"ray:ADDRESS"`` (extras ``dask`` and ``ray``). Its
        workers have headstart, see the images under the same names, and write to `out`: on a disk
        that all have under the same path, or at a URL; docs/scale.md.
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
        executor=executor,
        progress=progress,
        seen=seen,
    )


@by_shards
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
    executor: Given | None = None,
    unit_images: int = UNIT_IMAGES,
    work: Callable[..., CaughtUp] = catch_up,
    remedy: str = REMEDY,
    progress: bool = False,
    seen: Callable[[Listing], None] = log_notes,
) -> FeatureStore:
    """Do the work of `extract` with an embedding; the other parameters and errors are the same.

    `remedy` is for an `out` with vectors that do not fit; `work` makes everything known.
    """
    started = time.perf_counter()
    require_workers(workers)
    clusters.require_usable(executor, workers)
    output = Output.of(out)
    if executor is not None and output.name.startswith("memory:"):
        instead = "name a bucket, or a file on a disk that all have"
        raise WrongUsage(f"{public(output.name)}: workers write to no URL of memory; {instead}")
    with output.named():
        path = checked_output(output.path, source, fresh=fresh)
        output.require_place()
    listing = sources.scan(source, labels, columns=columns)
    with showing_progress(progress), output.named(), at_work(path, exclusive(path)):
        output.begin()
        _require_replaceable(path, fresh=fresh)
        plan = planned(
            path,
            embedding,
            listing,
            views=views,
            fresh=fresh,
            remove=remove,
            remedy=remedy,
            progress=progress,
            seen=seen,
        )
        output.send(plan.known.without)
        caught_up = work(
            plan.known,
            plan.embedding,
            plan.images,
            plan.stats,
            augmentation=plan.made,
            rescan=rescan,
            workers=workers,
            executor=executor,
            unit_images=unit_images,
            progress=progress,
            ending=prepare,
        )
        sealing = time.perf_counter()
        stats = caught_up.stats
        listed = [
            Listed(stats[image.path], image.label, image.split, image.group)
            for image in plan.images
        ]
        require_source(listing.name, plan.images)
        require_rows(caught_up.known, listed)
        wanted = {} if plan.augmentation == NO_AUGMENTATION else {"augmentation": plan.augmentation}
        store = output.sealed(seal(caught_up.known, listed, **wanted))
        ended = time.perf_counter()
        store.summary = summarise(
            store,
            plan.embedding,
            caught_up.tally,
            workers=workers if executor is None else max(1, caught_up.tally.workers),
            removed=len(plan.before - stats.keys()),
            unreachable=sum(
                caught_up.known.last(stat.path) is not None
                for stat in stats.values()
                if not stat.stamp
            ),
            sealing=ended - sealing,
            total=ended - started,
        )
    return store


def require_workers(workers: int) -> None:
    """Refuse more processes than a machine has memory for, and none."""
    if not 1 <= workers <= _MOST_WORKERS:
        raise WrongUsage(f"workers {workers}: at least 1, and at most {_MOST_WORKERS}")


def checked_output(out: Path, source: Named, *, fresh: bool) -> Path:
    """The file that is going to be made, if it can be."""
    path = durable.require_target(out, units.ENDING)
    if sources.is_source(path, source):
        raise FeatureFileError(f"{path}: is the source itself; choose another output")
    _require_replaceable(path, fresh=fresh)
    return path


def _require_replaceable(path: Path, *, fresh: bool) -> None:
    if fresh and path.exists() and not replaceable(path):
        raise FeatureFileError(
            f"{path}: is not a feature file, so --fresh does not replace it; choose another output"
        )
