"""The commands in which a head meets images: predict, export, demo."""

from pathlib import Path
from typing import Any

import click

from .options import ENGINE, HEAD, JSON, REMOVE, TRUST, TTA, WEIGHTS, WHAT, columns, number, out


@click.command(epilog=WHAT)
@HEAD
@click.argument("sources", metavar="SOURCE...|FILE.h5", nargs=-1, required=True)
@out("OUT.csv|OUT.jsonl", "One row per image.")
@click.option(
    "--features",
    metavar="NEW.h5",
    help="Keep the features of the images, so that another head predicts them in no time.",
)
@REMOVE
@columns
@number("--top", "How many of the most probable labels to give.", 1)
@TTA
@WEIGHTS
@ENGINE
@TRUST
@JSON
def predict(head: str, sources: tuple[str, ...], out: str, as_json: bool, **how: Any) -> None:
    """Predict the label of every image of SOURCE, or of a feature file.

    Backbone, size and preprocessing come from the head itself. One row per image, in the order of
    SOURCE: path, label, confidence, whether it is unlike the training images (unfamiliar), and why
    it was skipped if it was. Run the same command again to go on after an interruption.
    """
    from ...apply import predict
    from ..printing import models as printed

    predictions = predict(head, sources, out=out, progress=True, **how)
    printed.predictions(predictions, out, as_json=as_json)


@click.command()
@HEAD
@out("MODEL.keras|MODEL.onnx", "The model.")
@WEIGHTS
@ENGINE
@TRUST
@JSON
def export(head: str, out: str, as_json: bool, **how: Any) -> None:
    """Make one model of backbone and head: RGB images in, class probabilities out.

    A .keras file is a plain Keras model, to be served or fine-tuned; a .onnx file runs wherever
    onnxruntime does. Labels and provenance are inside. Test images go through the file and through
    `predict`; unless both give the same probabilities, nothing is written.
    """
    from ...apply import export
    from ..printing import models as printed

    printed.export(export(head, out, progress=True, **how), as_json=as_json)


@click.command()
@click.argument("directory", default="headstart-demo", metavar="[DIR]")
def demo(directory: str) -> None:
    """Classify scikit-learn's handwritten digits, from PNG files to predictions.

    Needs no network. Everything is written into DIR [default: headstart-demo].
    """
    from ..demo import run

    run(Path(directory))
