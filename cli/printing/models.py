"""What predict and export print."""

import dataclasses

from ...apply import Exported, Predictions
from ...features.errors import count
from .text import MOST_CLASSES, lines, print_json


def predictions(predicted: Predictions, out: str, *, as_json: bool) -> None:
    """After `predict`."""
    labels, images = predicted.counts, predicted.counts.total()
    skipped, unfamiliar = len(predicted) - images, predicted.unfamiliar.count(True)
    if as_json:
        values = {"out": out, "images": images, "labels": labels, "unfamiliar": unfamiliar}
        values |= {"skipped": skipped, "copies": predicted.copies.count(True)}
        print_json(values | {"features": predicted.features})
        return
    lines(
        f"{out}: {count(images, predicted.noun)} predicted, {unfamiliar:,} unfamiliar, "
        f"{skipped:,} skipped",
        *(f"  {number:>8,}  {name}" for name, number in labels.most_common(MOST_CLASSES) if number),
    )
    if copies := predicted.copies.count(True):
        lines(f"  {copies:,} of them are training {predicted.noun}s or near-copies of them")


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
