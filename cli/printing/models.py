"""What predict and export print."""

import collections
import dataclasses

from ...apply import Exported, Predictions
from .text import MOST_CLASSES, count, lines, print_json


def predictions(predicted: Predictions, out: str, *, as_json: bool) -> None:
    """After `predict`."""
    counts = collections.Counter(predicted.labels)
    labels = {name: counts[name] for name in predicted.label_names}
    skipped = counts[None]
    images = counts.total() - skipped
    unfamiliar = sum(map(bool, predicted.unfamiliar))
    if as_json:
        values = {"out": out, "images": images, "labels": labels, "unfamiliar": unfamiliar}
        print_json(values | {"skipped": skipped, "features": predicted.features})
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
    labels = ", ".join(exported.labels[:MOST_CLASSES])
    if len(exported.labels) > MOST_CLASSES:
        labels += ", ..."
    lines(
        f"{exported.out}: {exported.bytes / 1e6:.1f} MB; takes uint8 RGB images of "
        f"{exported.size} x {exported.size} pixels (fit: {exported.fit}), gives the probabilities "
        f"of {labels}",
        f"  compared with `headstart predict` on {exported.compared} images: probabilities differ "
        f"by at most {exported.difference:.1g}",
    )
