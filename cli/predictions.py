"""A head + images (or a feature file) -> a table of predictions, one row an image."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classify.prediction import load_head
from ..features import durable
from ..features.errors import HeadstartError
from ..features.opening import is_hdf5
from ..features.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..classify.prediction import Head


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
    skipped : int
        Images that could not be embedded; they have a row with the reason.
    """

    out: Path
    images: int
    labels: dict[str, int]
    skipped: int


def predict_into(
    out: Path,
    head_file: str,
    source: str,
    *,
    top: int = 1,
    weights: str | None = None,
    engine: str = "auto",
    trust: bool = False,
) -> Predicted:
    """Predict every image of `source` and write the table `out` (``.csv`` or ``.jsonl``).

    Raises
    ------
    HeadstartError
        If anything does not fit; `out` is then as it was before.
    """
    writers = {".csv": _csv, ".jsonl": _jsonl}
    if out.suffix not in writers:
        raise HeadstartError(f"{out}: predictions are written as .csv or .jsonl; name it so")
    durable.require_target(out)
    if any(
        os.path.exists(file) and out.exists() and out.samefile(file) for file in (source, head_file)
    ):
        raise HeadstartError(f"{out}: is one of the inputs; choose another output")
    head = load_head(head_file, trust=trust)
    with _features(head, head_file, source, out.parent, weights, engine) as store:
        rows = list(_rows(head, store, top))
    with durable.replacing(out) as temporary:
        temporary.write_bytes(writers[out.suffix](rows))
    predicted = [row["label"] for row in rows if not row["skipped"]]
    return Predicted(
        out=out,
        images=len(predicted),
        labels={name: predicted.count(name) for name in head.label_names},
        skipped=len(rows) - len(predicted),
    )


@contextlib.contextmanager
def _features(
    head: Head, head_file: str, source: str, folder: Path, weights: str | None, engine: str
) -> Iterator[FeatureStore]:
    """The features of `source`, embedded as the head's own were, if it is not a feature file."""
    if is_hdf5(Path(source)):
        yield FeatureStore(source)
        return
    from ..extract.embedding import Embedding
    from ..extract.pipeline import run
    from ..extract.reference import Reference
    from ..extract.request import Request
    from ..extract.weights import WeightsSource

    origin = (
        WeightsSource.recorded(head.environment["weights"])
        if weights is None
        else WeightsSource.named(weights)
    )
    embedding = Embedding(Request.repeating(head.provenance, origin), engine)
    reference = Reference(
        head.provenance,
        head.canary,
        head_file,
        "Use the backbone weights that the head was trained with (--weights FILE).",
        str(head.environment.get("engine", "")),
    )
    with tempfile.TemporaryDirectory(prefix=".headstart-", dir=folder) as temporary:
        features = Path(temporary) / "features.h5"
        run(embedding, source, features, labels="none", reference=reference, progress=True)
        yield FeatureStore(features)


def _rows(head: Head, store: FeatureStore, top: int) -> Iterator[dict[str, Any]]:
    prediction = head.predict(store)
    rows = {one.path: _row(one.path, skipped=one.reason) for one in store.skipped}
    for path, ranking, probabilities in zip(
        store.paths, prediction.ranking, prediction.probabilities, strict=True
    ):
        rows[path] = _row(path)
        for place, column in enumerate(ranking[:top], start=1):
            end = "" if place == 1 else f"_{place}"
            rows[path]["label" + end] = prediction.label_names[column]
            rows[path]["confidence" + end] = round(float(probabilities[column]), 6)
    for path in sorted(rows, key=os.fsencode):
        yield rows[path]


def _row(path: str, *, skipped: str = "") -> dict[str, Any]:
    return {"path": path, "label": "", "confidence": None, "unfamiliar": None, "skipped": skipped}


def _csv(rows: list[dict[str, Any]]) -> bytes:
    columns = max((list(row) for row in rows), key=len)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")
