"""What extract, info and verify print of a feature file."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features import FeatureStore, Written
from ...features.errors import count
from ...features.layout import NO_GROUP, NO_LABEL, SPLIT_NAMES
from ...features.provenance import Given, Made
from ...features.provenance.augmentation import ALL
from ...features.provenance.graph import QUANTISED
from .text import lines, print_json

if TYPE_CHECKING:  # `info` has no use for what makes a feature file
    from ...extract.work.shards import ShardSummary
    from ...extract.work.summary import Summary

_LIMITS: Final = {
    "load": "loading the backbone",
    "read": "reading",
    "decode": "decoding",
    "embed": "embedding",
    "write": "writing",
}


def extraction(
    store: FeatureStore, *, as_json: bool, source: Sequence[Mapping[str, Any]] = ()
) -> None:
    """After `extract`; JSON says what the source was understood to be, too."""
    summary: Summary = store.summary
    if as_json:
        print_json(dataclasses.asdict(summary) | {"source": next(iter(source), None)})
        return
    seconds, images = summary.seconds, count(store.images, "image")
    further = f" (with {count(summary.views, 'further view')})" if summary.views else ""
    lines(
        f"{store.name}: {images} x {store.dimension} features, {_classes(store)}",
        *_views(store),
        f"  embedded {summary.embedded:,}{further}, reused {summary.reused:,}, duplicates "
        f"{summary.duplicates:,}, removed {summary.removed:,}, skipped {summary.skipped:,}",
        f"  {store.provenance.maker.removesuffix('px')}pixels, "
        f"{summary.weights} weights" + (f", {summary.engine} engine" if summary.engine else ""),
    )
    if summary.embedded or summary.views:
        lines(
            f"  {seconds['total']:.1f} s, {summary.rates['total']:.1f} images per second: "
            f"{seconds['load']:.1f} s loading the backbone, {seconds['embed']:.1f} s embedding, "
            f"{seconds['waiting']:.1f} s waiting for images, {seconds['write']:.1f} s writing",
            f"  meanwhile {seconds['read']:.1f} s reading, {seconds['decode']:.1f} s of "
            f"processor time decoding",
        )
    else:
        lines(f"  nothing new to embed; {seconds['total']:.1f} s")
    if summary.unreachable:
        lines(
            f"  {count(summary.unreachable, 'image')} cannot be read now; the vectors of earlier "
            f"runs are kept"
        )
    if summary.limits:
        advice = f": {summary.advice}" if summary.advice else ""
        lines(f"  {_LIMITS[summary.limits]} limits{advice}")
    if summary.skipped:
        lines(f"  `headstart info {store.name} --skipped` says which images were skipped, and why")


def written(store: FeatureStore, notes: Sequence[str], *, as_json: bool) -> None:
    """After `import`."""
    summary: Written = store.summary
    if as_json:
        print_json(dataclasses.asdict(summary) | {"out": store.name, "notes": list(notes)})
        return
    lines(
        *(f"  note: {note}" for note in notes),
        f"{store.name}: {count(summary.examples, store.provenance.noun)} x {store.dimension} "
        f"features, {_classes(store)}",
        f"  new {summary.new:,}, there already {summary.kept:,}, removed {summary.removed:,}, with "
        f"the vector of another {summary.duplicates:,}; {summary.seconds:.1f} s",
    )
    made_by(store.provenance, store.environment)


def shard(summary: "ShardSummary", out: str, *, as_json: bool) -> None:
    """After `extract --shard`."""
    if as_json:
        print_json(dataclasses.asdict(summary))
        return
    further = f" (with {count(summary.views, 'further view')})" if summary.views else ""
    lines(
        f"shard {summary.shard} of {out}: {summary.images:,} of {count(summary.of, 'image')}",
        f"  embedded {summary.embedded:,}{further}, skipped {summary.skipped:,}; "
        f"{summary.seconds:.1f} s",
        f"  sealed as {summary.file}; when all shards are, '{out}' is all of them"
        if summary.file
        else f"  when all shards are done: headstart seal {out}",
    )


def store(store: FeatureStore, *, list_skipped: bool, as_json: bool) -> None:
    """After `info` on a feature file."""
    skipped = [dataclasses.asdict(one) for one in store.skipped]
    images, graph = store.views == 0, store.graph
    labels = _counts(store.labels[images], store.label_names)
    splits = _counts(store.splits[images], SPLIT_NAMES)
    grouped = int(np.count_nonzero(store.groups[images] != NO_GROUP))
    if as_json:
        values = {
            "rows": len(store),
            "images": store.images,
            "views": dataclasses.asdict(store.augmentation),
            "dimension": store.dimension,
            "label_names": store.label_names,
            "labels": labels,
            "splits": splits,
            "groups": len(store.group_names),
            "grouped": grouped,
            "content_digest": store.content_digest,
            "fingerprint": store.fingerprint,
            "provenance": store.provenance.declared,
            "environment": store.environment,
            "quantised": None if graph is None else graph.about,
            "skipped": len(skipped),
        }
        print_json(values | ({"skipped_files": skipped} if list_skipped else {}))
        return
    if list_skipped:
        lines(*(f"{one['path']}\t{one['reason']}" for one in skipped))
        return
    lines(
        f"{store.name}: {count(store.images, store.provenance.noun)} x {store.dimension} "
        f"{store.provenance.dtype} features, {_classes(store)}",
        *_views(store),
        f"  splits: {', '.join(f'{number:,} {name}' for name, number in splits.items())}",
        *([f"  groups: {len(store.group_names):,}, of {count(grouped, 'row')}"] if grouped else []),
        *(f"  {number:>8,}  {name}" for name, number in labels.items()),
        f"  skipped: {len(skipped):,}" + (" (--skipped lists them)" if skipped else ""),
    )
    made_by(store.provenance, store.environment)
    if graph is not None:
        lines(_quantised(graph.about))
    lines(f"  fingerprint: {store.fingerprint}", f"  content digest: {store.content_digest}")


def _views(store: FeatureStore) -> list[str]:
    made = store.augmentation
    if made.views == 1:
        return []
    whose = "image" if made.of == ALL else "image that is not of the test split"
    further = len(store) - store.images
    return [f"  views: {further:,} beside the images, {made.views} of each {whose}: {made.changes}"]


def _quantised(said: Mapping[str, Any]) -> str:
    weights = said.get("weights", {})
    return (
        f"  quantised: from {weights.get('path') or weights.get('kind')} weights, by "
        f"{said.get('images')} images, with nncf {said.get('nncf')} and openvino "
        f"{said.get('openvino')}; mean cosine to f32 {said.get('cosine')}, least "
        f"{said.get('least')}"
    )


def verification(path: str, problems: Sequence[str], *, as_json: bool) -> None:
    """After `verify`."""
    if as_json:
        print_json({"sound": not problems, "problems": list(problems)})
        return
    lines(*(f"{path}: {problem}" for problem in problems or ["sound"]))


def made_by(provenance: Made, environment: Mapping[str, Any]) -> None:
    """What made vectors; a head has the same as a file."""
    if isinstance(provenance, Given):
        lines(
            f"  made by: {provenance.maker}, settings {provenance.settings}, as is said of them",
            f"  given to: headstart {environment.get('headstart')}, {environment.get('sealed')}",
        )
        return
    weights, engine = environment.get("weights", {}), environment.get("engine", "")
    lines(
        f"  made by: {provenance.backbone} at {provenance.size} pixels, {provenance.precision}, "
        f"{provenance.fit}, {_where(weights)} weights "
        f"({provenance.weights_digest[:12]}...)",
        f"  made with: headstart {environment.get('headstart')}, {engine} "
        f"{environment.get(engine)}, {environment.get('device')}, {environment.get('sealed')}",
    )


def _where(weights: Mapping[str, Any]) -> str:
    kind = str(weights.get("kind"))
    return kind if kind == QUANTISED else weights.get("path") or kind


def _classes(store: FeatureStore) -> str:
    names = store.label_names
    if not names:
        return "no labels"
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{count(len(names), 'label')} ({shown})"


def _counts(codes: NDArray[np.integer], names: Sequence[str]) -> dict[str, int]:
    """How many rows each name has."""
    found, counts = np.unique(codes, return_counts=True)
    return {
        "(no label)" if code == NO_LABEL else names[code]: number
        for code, number in zip(found.tolist(), counts.tolist(), strict=True)
    }
