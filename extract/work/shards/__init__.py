"""Extraction by job arrays: each process makes the units of its own images, and one seals all."""

import contextlib
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ....features import durable
from ....features.durable.remote.url import is_remote, public
from ....features.errors import FeatureFileError, WrongUsage
from ....features.journal.known import REMEDY, Known
from ....features.journal.lock import at_work, exclusive, shared
from ....features.journal.outputs import Output
from ....features.journal.shards import GRAPH, SECRET, Shard, agree, kept, require_same
from ....features.journal.units import UNIT_IMAGES
from ....features.provenance.augmentation import Augmentation
from ....features.records import FileStat
from ....features.store import FeatureStore
from ....features.store.shards import Shards, shards_of
from ... import pipeline, sources
from ...backbones.request import Request
from ...backbones.weights import IMAGENET, QUANTISED, RANDOM
from ...embedding import Embedding
from ...engines.engine import Tuning
from ...images.views import Asked
from ...sources import Named
from ...sources.image import ImageReference
from ...sources.listing import Listing, log_notes
from ..calibration import agreed, keep
from ..catch_up import CaughtUp, catch_up
from ..plan import planned, shards_made
from ..summary import ShardSummary as ShardSummary
from .missing import all_done

_FILE: Final = (
    *("backbone", "weights", "size", "fit", "precision", "labels", "columns", "dtype"),
    *("views", "augment", "views_of", "fresh", "remove"),
)
"""What decides what is in the file: all shards are asked the same."""

_HOW: Final = ("engine", "batch", "streams", "threads")


def extract_shard(
    source: Named,
    out: str | os.PathLike[str],
    shard: str | Sequence[int],
    *,
    workers: int = 1,
    rescan: bool = False,
    progress: bool = False,
    seen: Callable[[Listing], None] = log_notes,
    unit_images: int = UNIT_IMAGES,
    **settings: Any,
) -> ShardSummary:
    """Embed one of several parts of a source, beside the processes that embed the others.

    Every image falls to one shard by its path. What is embedded is kept beside `out`, where any
    number of shards may work at once; `seal` makes the file when all are done, and so does
    `headstart.extract.extract`, which embeds what is missing first.

    Parameters
    ----------
    source : str or path-like, or a sequence of them
        As `headstart.extract.extract` takes it, but for standard input, data frames and listings.
    out : str or path-like
        The feature file to be made, or its URL; the same for all shards. Of
        ``pets-*-of-00008.h5`` each shard of 8 seals a file of its own.
    shard : str or pair of int
        Which one of how many, from 1 on: ``"3/8"`` or ``(3, 8)``.
    workers : int, default=1
        As of `extract`.
    rescan, progress : bool, default=False
        As of `extract`.
    seen : callable
        As of `extract`.
    **settings
        All others of `extract`; those that decide what is in the file are the same for all shards.

    Raises
    ------
    WrongUsage
        If `shard` is none, or another shard was asked with other settings.
    HeadstartError
        As `extract`.
    """
    started = time.perf_counter()
    mine = Shard.named(shard)
    given = _checked(settings)
    embedding, views = _understood(given)
    pipeline.require_workers(workers)
    if Shards.takes(out):
        how = {"workers": workers, "rescan": rescan, "progress": progress}
        return _own_file(mine, source, out, given, seen, **how)
    asked = _asked(source, given, mine.of)
    output = Output.of(out, f"{mine.number}-of-{mine.of}")
    with output.named():
        path = pipeline.checked_output(output.path, source, fresh=given["fresh"])
        output.require_place()
    listing = sources.scan(source, given["labels"], columns=given["columns"])
    with output.named(), at_work(path, shared(path)):
        before = require_same(path, asked)
        output.begin()
        embedding = agreed(embedding, path, before.get(GRAPH))
        plan = planned(
            path,
            embedding,
            listing,
            views=views,
            fresh=given["fresh"],
            remove=given["remove"],
            progress=progress,
            seen=seen,
        )
        weights = plan.embedding.request.weights
        if weights.kind == QUANTISED:
            keep(plan.embedding.request, plan.known)
            output.push()
            asked[GRAPH] = weights.sha256
        embedding = agreed(plan.embedding, path, agree(path, asked).get(GRAPH))
        output.send(plan.known.without)
        images = [image for image in plan.images if mine.has(image.path)]
        done = catch_up(
            plan.known,
            embedding,
            images,
            plan.stats,
            augmentation=plan.made,
            rescan=rescan,
            workers=workers,
            unit_images=unit_images,
            progress=progress,
        )
    found = [done.known.found(done.stats[image.path]) for image in images]
    if output.far:
        with contextlib.suppress(FeatureFileError), exclusive(path):
            output.clear()
    return ShardSummary(
        str(mine),
        images=len(images),
        of=len(plan.images),
        embedded=len(done.tally.embedded),
        views=len(done.tally.views),
        skipped=sum(one is not None and bool(one.reason) for one in found),
        seconds=round(time.perf_counter() - started, 3),
    )


def _own_file(
    mine: Shard,
    source: Named,
    out: str | os.PathLike[str],
    given: Mapping[str, Any],
    seen: Callable[[Listing], None],
    **how: Any,
) -> ShardSummary:
    """Make the one of several files that is this shard's own."""
    if mine.of != (number := len(shards_of(out))):
        raise WrongUsage(
            f"shard {mine}: {out} stands for {number:,} files; ask for one of {number}"
        )
    (embedding, views), listings = _understood(given), list[Listing]()
    how |= {name: given[name] for name in ("labels", "columns", "fresh", "remove")}

    def told(listing: Listing) -> None:
        listings.append(listing)
        seen(listing)

    (store,) = shards_made(
        pipeline.run, embedding, source, out, only=mine.number, views=views, seen=told, **how
    )
    did, every = store.summary, len(listings[0])
    counts = did.images, every, did.embedded, did.views, did.skipped
    return ShardSummary(str(mine), *counts, did.seconds["total"], store.name)


def seal(out: str | os.PathLike[str], *, progress: bool = False) -> FeatureStore:
    """Make the feature file of which shards have embedded all images.

    Parameters
    ----------
    out : str or path-like
        The feature file, or its URL.
    progress : bool, default=False
        Say on standard error what takes long.

    Returns
    -------
    FeatureStore
        The sealed file, with its `summary`.

    Raises
    ------
    FeatureFileError
        If images are missing: the message names the shards that they belong to. If there is
        nothing to seal.
    HeadstartError
        As `headstart.extract.extract`, which seals as well.
    """
    if Shards.takes(out):
        raise WrongUsage(f"{out}: each of its shards is sealed by the run that makes it")
    output = Output.of(out)
    path, name = durable.followed(output.path), public(os.fspath(out))
    with output.named():
        asked = kept(path)
    if asked is None:
        there = path.exists() if not output.far else output.server.told() is not None
        raise FeatureFileError(
            f"{name}: {'it is sealed already' if there else 'no shard has begun it'}; `headstart "
            f"extract SOURCE -o {name} --shard 1/8` makes one of 8"
        )
    if asked.get(SECRET):
        raise FeatureFileError(
            f"{name}: passwords and signatures of its source are not kept; give that again: "
            f"`headstart extract SOURCE -o {name}`, with the options of the shards and without "
            f"--shard, seals it"
        )
    of, source, _ = asked.pop("of"), asked.pop("source"), asked.pop(GRAPH, None)
    given = _checked(asked)
    embedding, views = _understood(given)

    def work(
        known: Known,
        embedding: Embedding,  # noqa: ARG001 - it has nothing to do
        images: Sequence[ImageReference],
        stats: Mapping[bytes, FileStat],
        *,
        augmentation: Augmentation,
        **_: Any,
    ) -> CaughtUp:
        return all_done(known, images, stats, augmentation, of)

    return pipeline.run(
        embedding,
        source,
        out,
        labels=given["labels"],
        columns=given["columns"],
        views=views,
        fresh=given["fresh"],
        remove=given["remove"],
        work=work,
        remedy=REMEDY,
        progress=progress,
        seen=lambda _: None,
    )


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `extract` that a shard has, with their defaults."""
    parameters = inspect.signature(pipeline.extract).parameters
    known = {name: parameters[name].default for name in (*_FILE, *_HOW)}
    if odd := sorted(settings.keys() - known.keys()):
        raise WrongUsage(f"{odd[0]}: a shard has no such setting; it has {', '.join(known)}")
    return known | dict(settings)


def _understood(given: Mapping[str, Any]) -> tuple[Embedding, Asked]:
    views = Asked.checked(given["views"], given["augment"], given["views_of"])
    names = ("backbone", "weights", "size", "fit", "precision", "dtype")
    wanted = Request.checked(**{name: given[name] for name in names})
    tuning = Tuning(given["batch"], given["streams"], given["threads"])
    return Embedding(wanted, given["engine"], tuning), views


def _asked(source: Named, given: Mapping[str, Any], of: int) -> dict[str, Any]:
    """All that decides what is in the file, in a form that can be kept."""
    named = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(named, list | tuple) or not all(
        isinstance(one, str | os.PathLike) and os.fspath(one) != "-" for one in named
    ):
        raise WrongUsage(
            "shards: every one of them lists the images anew, so a source with a name is needed: "
            "no standard input, data frame or Listing"
        )
    asked = {name: given[name] for name in _FILE}
    weights = os.fspath(asked["weights"])
    if is_remote(weights):
        asked["weights"] = public(weights)
    else:
        asked["weights"] = weights if weights in (IMAGENET, RANDOM) else os.path.abspath(weights)
    asked["columns"] = dict(asked["columns"] or {})
    names = [_absolute(os.fsdecode(one)) for one in named]
    shown = [public(one) if is_remote(one) else one for one in names]
    secret = {SECRET: True} if shown != names else {}
    return {**asked, "of": of, "source": shown, **secret}


def _absolute(name: str) -> str:
    """The name of a source, wherever the next process works."""
    named = "://" in name or name.partition(":")[0] in ("tfds", "hf")
    return name if named and not os.path.lexists(name) else os.path.abspath(name)
