"""A head + images, or their feature file -> predictions, a row for each image."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..extract.embedding import Embedding
from ..extract.engines import AUTO
from ..extract.images.views import KEPT, Asked
from ..extract.pipeline import run
from ..extract.sources import Named, is_source, scan
from ..extract.sources.listing import Listing, log_notes
from ..features import durable
from ..features.digest import ArrayDigest
from ..features.durable.remote.url import is_remote
from ..features.errors import HeadstartError, WrongUsage
from ..features.journal.units import folder_of
from ..features.opening import is_hdf5
from ..features.origin import Origin
from ..features.provenance.augmentation import ALL
from ..features.store import FeatureStore
from ..features.store.shards import Shards
from . import ahead
from .predictions import Predictions, writer_of

if TYPE_CHECKING:
    from ..classify.head import Head

_log = logging.getLogger("headstart")

REMEDY: Final = "Use the backbone weights that the head was trained with (--weights FILE)."
"""What to do where a backbone does not fit a head."""


def predict(
    head: Head | str | os.PathLike[str],
    source: Named | FeatureStore,
    *,
    out: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    remove: bool = False,
    columns: Mapping[str, str] | None = None,
    top: int = 1,
    tta: bool = False,
    weights: str | os.PathLike[str] | None = None,
    engine: str = AUTO,
    trust: bool = False,
    progress: bool = False,
) -> Predictions:
    """Predict the label of every image of a source.

    Backbone, size and preprocessing come from the head. Run it again after an interruption and it
    goes on where it stopped, if there is `out` or `features` to go on from.

    Parameters
    ----------
    head : Head or path
        A trained head, or the file that one was saved in.
    source : path, sequence of paths, data frame, Listing or FeatureStore
        A folder of images, a list of them, an image or several, and more, see
        `headstart.extract.scan`; or a feature file.
    out : path, optional
        Write the predictions here too, as ``.csv`` or ``.jsonl``; the table appears whole or not
        at all.
    features : path, optional
        Keep the embeddings in this feature file (a path, or a URL in a bucket), and take from it
        what it holds already.
    remove : bool, default=False
        Let go of what `features` holds of other images; see `headstart.extract.extract`.
    columns : mapping, optional
        Which columns of a list are its paths and splits; see `headstart.extract.scan`.
    top : int, default=1
        How many labels per image: the most probable, and ``top - 1`` alternatives.
    tta : bool, default=False
        Predict an image by the mean over its views (test-time augmentation), made as those that
        the head was trained with were; each costs what the image costs.
    weights : path, optional
        Where the weights file of the backbone (for int8: the feature file) is now, if it has moved
        since the head was trained.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, default="auto"
        What runs the backbone; see `headstart.extract.extract`.
    trust : bool, default=False
        Load a head file that this machine did not write; see `headstart.classify.load_head`.
    progress : bool, default=False
        Show a progress bar on standard error.

    Raises
    ------
    ProvenanceMismatch
        If head and features were made differently, or the backbone computes other vectors here.
    SourceError, BackboneError
        If there are no images, or none that can be read; if the weights are not available.
    HeadstartError
        If a value is none of those listed, the head cannot be read or trusted, or `out` or
        `features` cannot be written, or is one of the inputs.
    """
    if top < 1:
        raise WrongUsage(f"top {top}: at least 1")
    table = None if out is None else Path(out)
    if table is not None:
        durable.require_target(table)
        writer_of(table)  # refuses other endings
        store = source.path if isinstance(source, FeatureStore) else source
        if is_source(table, store) or is_source(table, head):
            raise HeadstartError(f"{table}: is one of the inputs; choose another output")
    kept: str | Path | None = None
    if features is not None:
        far = isinstance(features, str) and is_remote(features)
        kept = str(features) if far else Path(features)
    if isinstance(kept, Path) and table is not None and kept.resolve() == table.resolve():
        raise WrongUsage(f"--features {kept}: is the output (-o) too; name another file")
    store = _feature_file(source)
    loading = contextlib.nullcontext() if store or kept else ahead.loading(head, weights, engine)
    with loading as early:
        trained, origin = given(head, trust=trust)
        if store is not None:
            if kept is not None:
                raise WrongUsage(f"--features {kept}: {store.name} is a feature file already")
            order = sorted({*store.paths, *(one.path for one in store.skipped)}, key=os.fsencode)
            return _predicted(trained, store, order, top, table, tta=tta)
        # Labels are of use to what is kept alone.
        listing = scan(source, "none" if kept is None else "folder", columns=columns)
        embedding = Embedding.of(origin, weights=weights, engine=engine)
        if early is not None:
            embedding = early.of(embedding)
        views = KEPT
        if tta:
            from ..classify.examples.augmented import require_trained

            require_trained(origin.augmentation)
            made = origin.augmentation
            views = Asked(made.views, made.recipe, ALL, at_least=True)
        with _embedded(
            embedding, listing, table, kept, views, remove=remove, progress=progress
        ) as embedded:
            order = [os.fsdecode(image.path) for image in listing]
            predictions = _predicted(trained, embedded, order, top, table, tta=tta)
    return dataclasses.replace(predictions, features=kept)


def _feature_file(source: Named | FeatureStore) -> FeatureStore | None:
    if isinstance(source, FeatureStore):
        return source
    one = source[0] if isinstance(source, list | tuple) and len(source) == 1 else source
    if isinstance(one, str) and is_remote(one):
        return FeatureStore(one) if one.endswith((".h5", ".hdf5")) else None
    if isinstance(one, str | os.PathLike) and (is_hdf5(Path(one)) or Shards.takes(one)):
        return FeatureStore(one)
    return None


def given(head: Head | str | os.PathLike[str], *, trust: bool) -> tuple[Head, Origin]:
    """A head, or that of a file, and what a backbone has to fit, named as the head was."""
    from ..classify.head import THIS_HEAD, Head, load_head

    if isinstance(head, Head):
        return head, head.origin.called(THIS_HEAD, REMEDY)
    loaded = load_head(head, trust=trust)
    return loaded, loaded.origin.called(os.fspath(head), REMEDY)


@contextlib.contextmanager
def _embedded(
    embedding: Embedding,
    listing: Listing,
    table: Path | None,
    kept: str | Path | None,
    views: Asked,
    *,
    remove: bool,
    progress: bool,
) -> Iterator[FeatureStore]:
    """The features of a source; they stay if anything fails."""
    name: str | Path
    with contextlib.ExitStack() as cleaning:
        if kept is not None:
            name, remedy = kept, "Name another file by --features."
        else:
            # The name says whose vectors of what these are, so that what an interrupted run left is
            # taken up by the same command, and by no other.
            head = embedding.must_fit
            whose = ArrayDigest()
            whose.text(head.provenance.fingerprint if head else "")
            whose.text(listing.name)
            if views.recipe:
                whose.text(views.recipe)
            for image in listing if listing.by_name else ():
                whose.text(os.fsdecode(image.path))
            beside = table or Path(cleaning.enter_context(tempfile.TemporaryDirectory())) / "x"
            own = f".{durable.short(beside.name)}.{whose.hexdigest()[:12]}.h5"
            file, remove = beside.with_name(own), True
            name, remedy = file, f"Delete {file} and {folder_of(file).name}, and try again."
        store = run(
            embedding,
            listing,
            name,
            views=views,
            remove=remove,
            remedy=remedy,
            progress=progress,
            seen=functools.partial(log_notes, labels=False),
        )
        yield store
        if kept is None:
            file.unlink()


def _predicted(
    head: Head,
    store: FeatureStore,
    order: list[str],
    top: int,
    table: Path | None,
    *,
    tta: bool,
) -> Predictions:
    """Predict the rows of a store, in the order of paths, and write the table."""
    if head.tta and not tta:
        _log.warning(
            "the scores of the head are of predictions by the mean over views; --tta makes such"
        )
    names = head.label_names
    ranked: list[list[tuple[str, float]]] = []
    unfamiliar: list[bool] = []
    copies: list[bool] = []
    for part in head.predict_in_parts(store, tta=tta):
        values = part.probabilities
        ranked += [
            [(names[k], float(values[row, k])) for k in best]
            for row, best in enumerate(part.ranking[:, :top].tolist())
        ]
        unfamiliar += part.unfamiliar.tolist()
        copies += part.copies.tolist()
    images = compress(store.paths, (store.views == 0).tolist())
    rows = {path: row for row, path in enumerate(images)}
    reasons = {one.path: one.reason for one in store.skipped}
    places = [rows.get(path) for path in order]
    predictions = Predictions(
        label_names=names,
        paths=order,
        ranked=[[] if row is None else ranked[row] for row in places],
        unfamiliar=[None if row is None else unfamiliar[row] for row in places],
        copies=[None if row is None else copies[row] for row in places],
        skipped=[reasons.get(path, "") for path in order],
        noun=store.provenance.noun,
    )
    if table is not None:
        writer_of(table)(predictions, table)
    return predictions
