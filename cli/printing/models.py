"""What predict and export print."""

from __future__ import annotations

import collections
import dataclasses

from ...apply import Exported, Predictions
from .text import MOST_CLASSES, count, lines, print_json


def predictions(predicted: Predictions, out: str, features: str | None, *, as_json: bool) -> None:
    """After `predict`."""
    counts = collections.Counter(predicted.labels)
    labels = {name: counts[name] for name in predicted.label_names}
    images = sum(labels.values())
    unfamiliar = sum(map(bool, predicted.unfamiliar))
    skipped = sum(map(bool, predicted.skipped))
    if as_json:
        print_json(
            {
                "out": out,
                "images": images,
                "labels": labels,
                "unfamiliar": unfamiliar,
                "skipped": skipped,
                "features": features,
            }
        )
        return
    commonest = sorted(labels, key=lambda name: -labels[name])[:MOST_CLASSES]
    lines(
        f"{out}: {count(images, 'image')} predicted, {unfamiliar:,} unfamiliar, "
        f"{skipped:,} skipped",
        *(f"  {labels[name]:>8,}  {name}" for name in commonest if labels[name]),
    )


def export(exported: Exported, *, as_json: bool) -> None:
    """After `export`."""
    if as_json:
        print_json(dataclasses.asdict(exported))
        return
    labels = exported.labels[:MOST_CLASSES]
    if len(exported.labels) > MOST_CLASSES:
        labels = [*labels, "..."]
    lines(
        f"{exported.out}: {exported.bytes / 1e6:.1f} MB; takes uint8 RGB images of "
        f"{exported.size} x {exported.size} pixels (fit: {exported.fit}), gives the probabilities "
        f"of {', '.join(labels)}",
        f"  compared with `headstart predict` on {exported.compared} images: probabilities differ "
        f"by at most {exported.difference:.1g}",
    )
