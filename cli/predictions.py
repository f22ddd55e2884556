"""A head + images (or a feature file) -> a table of predictions, one row an image."""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classify.prediction import load_head
from ..features import durable
from ..features.errors import HeadstartError, WrongUsage
from ..features.opening import is_hdf5
from ..features.store import FeatureStore
from ..features.units import folder_of
from .rebuilding import as_trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from ..classify.prediction import Prediction
    from ..extract.embedding import Embedding
    from ..extract.reference import Reference

    Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What `predict_into` wrote.

    Attributes
    ----------
    out : Path
        The table.
    images : int
        Predicted; skipped ones not counted.
    labels : dict of str to int
        How often each label was predicted.
    unfamiliar : int or None
        Images unlike all that the head was trained on; None if the head cannot tell.
    skipped : int
        Images that could not be embedded; they have a row with the reason.
    features : Path or None
        Where their features were kept, if they were.
    """

    out: Path
    images: int
    labels: dict[str, int]
    unfamiliar: int | None
    skipped: int
    features: Path | None


def predict_into(
    out: Path,
    head_file: str,
    sources: Sequence[str],
    *,
    features: Path | None = None,
    top: int = 1,
    weights: str | None = None,
    engine: str = "auto",
    trust: bool = False,
) -> Predicted:
    """Predict every image of a source and write the table `out` (``.csv`` or ``.jsonl``).

    Parameters
    ----------
    out : Path
        The table; it appears whole or not at all.
    head_file : str
        The head, which says how images are embedded.
    sources : sequence of str
        A feature file, a folder, a manifest, or images.
    features : Path, optional
        Keep the features in this file, as `extract` would have made it, and take from it what it
        holds already.
    top, weights, engine, trust
        As on the command line.

    Raises
    ------
    HeadstartError
        If anything does not fit; `out` is then as it was before.
    """
    durable.require_target(out)
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl}
    if out.suffix not in writers:
        raise HeadstartError(f"{out}: predictions are written as .csv or .jsonl; name it so")
    if out.exists() and any(
        os.path.exists(file) and out.samefile(file) for file in (*sources, head_file)
    ):
        raise HeadstartError(f"{out}: is one of the inputs; choose another output")
    head = load_head(head_file, trust=trust)
    top = min(top, len(head.label_names))
    if features is not None and features.resolve() == out.resolve():
        raise WrongUsage(f"--features {features}: is the table too; name another file")
    if len(sources) == 1 and is_hdf5(Path(sources[0])):
        if features is not None:
            raise WrongUsage(f"--features {features}: {sources[0]} is a feature file already")
        embedded = _as_they_are(sources[0])
    else:
        how = as_trained(head, head_file, weights, engine)
        # The name says whose vectors these are, so that what an interrupted run left is taken up by
        # the same command, and by no head of other features.
        unfinished = out.with_name(f".{out.name}.{head.provenance.fingerprint[:12]}.h5")
        embedded = _embedded(sources, *how, features or unfinished, keep=features is not None)
    with embedded as (store, order):
        prediction = head.predict(store)
        rows = _rows(prediction, store, order, top)
        with (
            durable.replacing(out) as temporary,
            # A path that is not text keeps its bytes.
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writers[out.suffix](file, rows, top)
        skipped = len(store.skipped_files)
    counts = collections.Counter(prediction.labels.tolist())
    unfamiliar = prediction.unfamiliar
    return Predicted(
        out=out,
        images=counts.total(),
        labels={name: counts[name] for name in head.label_names},
        unfamiliar=None if unfamiliar is None else int(unfamiliar.sum()),
        skipped=skipped,
        features=features,
    )


@contextlib.contextmanager
def _as_they_are(file: str) -> Iterator[tuple[FeatureStore, list[str]]]:
    """A feature file, and the paths in it, those of skipped images among them."""
    store = FeatureStore(file)
    paths = [*store.paths, *(one.path for one in store.skipped)]
    yield store, sorted(paths, key=os.fsencode)


@contextlib.contextmanager
def _embedded(
    sources: Sequence[str], embedding: Embedding, reference: Reference, file: Path, *, keep: bool
) -> Iterator[tuple[FeatureStore, list[str]]]:
    """The features of a source, and its paths in its own order; kept in any case if that fails."""
    from ..extract.pipeline import run
    from ..extract.sources import name_of, scan

    source = sources[0] if len(sources) == 1 else sources
    images = scan(source)
    remedy = f"Delete {file} and {folder_of(file).name}, and try again."
    if keep:
        _require_nothing_lost(file, name_of(source), {image.path for image in images})
        remedy = "Name another file by --features."
    run(embedding, source, file, listing=images, reference=reference, remedy=remedy, progress=True)
    yield FeatureStore(file), [os.fsdecode(image.path) for image in images]
    if not keep:
        file.unlink()


def _require_nothing_lost(file: Path, source: str, images: set[bytes]) -> None:
    if not file.exists():
        return
    store = FeatureStore(file)
    kept = str(store.environment.get("source", ""))
    lost = len(set(store.raw_paths) - images) if kept == source else len(store)
    if lost:
        raise WrongUsage(
            f"--features {file}: holds the features of {lost} images of {kept or 'elsewhere'} that "
            f"are not among those to predict, and would be lost; name another file"
        )


def _rows(
    prediction: Prediction, store: FeatureStore, order: Sequence[str], top: int
) -> Iterator[Row]:
    places = {path: row for row, path in enumerate(store.paths)}
    reasons = {one.path: one.reason for one in store.skipped}
    ranking, unfamiliar = prediction.ranking[:, :top], prediction.unfamiliar
    for path in order:
        row = _row(path, skipped=reasons.get(path, ""))
        if path in places:
            number = places[path]
            if unfamiliar is not None:
                row["unfamiliar"] = bool(unfamiliar[number])
            for place, column in enumerate(ranking[number].tolist(), start=1):
                end = "" if place == 1 else f"_{place}"
                row["label" + end] = prediction.label_names[column]
                row["confidence" + end] = round(float(prediction.probabilities[number, column]), 6)
        yield row


def _row(path: str, *, skipped: str = "") -> Row:
    return {"path": path, "label": "", "confidence": None, "unfamiliar": None, "skipped": skipped}


def _write_csv(file: TextIO, rows: Iterable[Row], top: int) -> None:
    more = [f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "confidence")]
    writer = csv.DictWriter(file, [*_row(""), *more], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        if row["unfamiliar"] is not None:
            row["unfamiliar"] = str(row["unfamiliar"]).lower()  # as JSON has it
        writer.writerow(row)


def _write_jsonl(file: TextIO, rows: Iterable[Row], _: int) -> None:
    file.writelines(json.dumps(row) + "\n" for row in rows)
