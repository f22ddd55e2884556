"""The commands: each parses its options, makes a few calls to the library and prints."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
TRUST = click.option(
    "--trust",
    is_flag=True,
    help="Load a head that this machine did not write. A .joblib file runs the code in it.",
)
FOLDS = click.option(
    "--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of cross-validation."
)
SEED = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the shuffling.",
)
PLOTS = click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Draw the scores into this folder, as PNG files.",
)

ENGINE = click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|keras|openvino",
    help="What runs the backbone; auto: Keras on a GPU, else OpenVINO if it is installed.",
)

WEIGHTS = click.option(
    "--weights",
    metavar="FILE",
    help="Where the backbone's weights file is now, if it has moved since the head was trained.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("headstart"), message="headstart %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere in a line).")
def headstart(debug: bool) -> None:
    """Image classifiers in seconds: embed every image once, then train on the cached features.

    \b
    headstart demo                                  see it work, on built-in data
    headstart extract photos/ -o pets.h5            once, the slow part
    headstart train pets.h5 -o pets.joblib          seconds, as often as you like
    headstart predict pets.joblib new/ -o new.csv
    headstart export pets.joblib -o pets.onnx       one model, for use elsewhere
    """  # noqa: D301 - click's marker for a block that is not to be wrapped


@headstart.command()
@click.argument("source")
@click.option("-o", "--out", required=True, metavar="FILE.h5", help="The feature file.")
@click.option(
    "--backbone",
    default="Xception",
    show_default=True,
    metavar="NAME",
    help="Any image classifier of keras.applications.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|random|FILE",
    help="Downloaded once, seeded at random, or a weights file without the top layers.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pixels a side [default: the backbone's].",
)
@click.option(
    "--fit",
    default="stretch",
    show_default=True,
    metavar="stretch|crop|pad",
    help="How an image becomes square.",
)
@click.option(
    "--precision",
    default="f32",
    show_default=True,
    metavar="f32|bf16",
    help="Arithmetic of the backbone; bf16 is about twice as fast on processors that have it.",
)
@click.option(
    "--labels",
    default="folder",
    show_default=True,
    metavar="folder|none",
    help="Label an image by its folder (or manifest), or not at all.",
)
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    metavar="float32|float16",
    help="Of the stored vectors.",
)
@ENGINE
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="N", help="Images a call [default: chosen]."
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="N",
    help="Calls side by side, openvino only [default: chosen].",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processor cores that the engine uses [default: all, shared by the workers].",
)
@click.option("--fresh", is_flag=True, help="Replace a file that was made with other settings.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that embed, each with its own backbone in memory.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any image was skipped.")
@JSON
def extract(
    source: str,
    out: str,
    labels: str,
    engine: str,
    batch: int | None,
    streams: int | None,
    threads: int | None,
    fresh: bool,
    workers: int,
    strict: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Embed the images of SOURCE once, into one feature file.

    SOURCE is a folder (the label of an image is the name of its folder; a first folder named
    train, val or test is its split), a CSV manifest with the columns path, label, split, or an
    image. Run the same command again to go on after an interruption, or to take in new images.
    """
    from ..extract.embedding import Embedding
    from ..extract.engines.engine import Tuning
    from ..extract.pipeline import run
    from ..extract.request import Request
    from ..features.store import FeatureStore
    from . import report

    embedding = Embedding(Request.checked(**settings), engine, Tuning(batch, streams, threads))
    summary = run(
        embedding, source, out, labels=labels, fresh=fresh, workers=workers, progress=True
    )
    if as_json:
        report.print_json(dataclasses.asdict(summary))
    else:
        report.extraction(FeatureStore(out), summary)
    return 1 if strict and summary.skipped else 0


@headstart.command()
@click.argument("file", metavar="FILE.h5|HEAD")
@click.option(
    "--skipped", is_flag=True, help="List the images that could not be embedded, and why."
)
@TRUST
@JSON
def info(file: str, skipped: bool, trust: bool, as_json: bool) -> None:
    """Say what is in a feature file or a head."""
    from . import report

    if Path(file).suffix in (".joblib", ".skops"):
        from ..classify.prediction import load_head

        head = load_head(file, trust=trust)
        report.head(head, as_json=as_json)
    else:
        from ..features.store import FeatureStore

        report.store(FeatureStore(file), list_skipped=skipped, as_json=as_json)


@headstart.command()
@click.argument("file", metavar="FILE.h5")
@JSON
def verify(file: str, as_json: bool) -> int:
    """Check every checksum, digest and rule of a feature file; exit with 1 if one fails."""
    from ..features.verification import verify as check
    from . import report

    problems = check(Path(file))
    report.verification(file, problems, as_json=as_json)
    return 1 if problems else 0


@headstart.command()
@click.argument("file", metavar="FILE.h5")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="HEAD.joblib|HEAD.skops",
    help="The trained head; a .skops file loads anywhere without running code.",
)
@click.option(
    "--head",
    default="logistic",
    show_default=True,
    metavar="logistic|svm|svm-rbf|all",
    help="What to train; all: every kind, of which the best is saved.",
)
@FOLDS
@SEED
@click.option(
    "--class-weight",
    metavar="balanced",
    help="Let all classes weigh the same, however few images they have.",
)
@PLOTS
@JSON
def train(
    file: str,
    out: str,
    head: str,
    folds: int,
    seed: int,
    class_weight: str | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    """Train a head on a feature file, score it and save it.

    Scores come from the file's test split if it has one, else from cross-validation.
    """
    from ..classify.heads import ALL
    from ..classify.persistence import check_name
    from ..classify.training import train as fit
    from ..classify.training import train_all
    from ..features.store import FeatureStore
    from . import report
    from .plots import draw, require_matplotlib

    check_name(Path(out))
    if plots:
        require_matplotlib()
    store, standings = FeatureStore(file), None
    if head == ALL:
        trained, standings = train_all(store, folds=folds, seed=seed, class_weight=class_weight)
    else:
        trained = fit(store, head, folds=folds, seed=seed, class_weight=class_weight)
    trained.save(out)
    drawn = []
    if plots:
        from ..classify.curve import learning_curve

        title = f"{trained.name} on {file}"
        drawn = draw(plots, title, trained.scores, learning_curve(trained, store))
    report.training(trained, standings, out, drawn, as_json=as_json)


@headstart.command()
@click.argument("head", metavar="HEAD")
@click.argument("file", metavar="FILE.h5")
@click.option(
    "--split",
    metavar="train|validation|test|all",
    help="Which rows [default: the test split if there is one, else all].",
)
@PLOTS
@TRUST
@JSON
def evaluate(
    head: str, file: str, split: str | None, plots: Path | None, trust: bool, as_json: bool
) -> None:
    """Score a head on labelled features that it was not trained on."""
    import time

    from ..classify.prediction import load_head
    from ..classify.training import evaluate as score
    from ..features.store import FeatureStore
    from . import report
    from .plots import draw, require_matplotlib

    if plots:
        require_matplotlib()
    started = time.perf_counter()
    loaded = load_head(head, trust=trust)
    scores = score(loaded, FeatureStore(file), split)
    seconds = time.perf_counter() - started
    drawn = draw(plots, f"{loaded.name} on {file}, {scores.basis}", scores) if plots else []
    report.evaluation(loaded.name, scores, seconds, drawn, as_json=as_json)


@headstart.command()
@click.argument("files", metavar="A.h5 B.h5 ...", nargs=-1, required=True)
@click.option(
    "--pixels",
    metavar="SOURCE",
    help="The images themselves: their bare pixels become a baseline.",
)
@FOLDS
@SEED
@JSON
def compare(
    files: tuple[str, ...], pixels: str | None, folds: int, seed: int, as_json: bool
) -> None:
    """Rank feature files of the same images, to choose a backbone by.

    All get the same folds of cross-validation and a logistic head. Images of the test split stay
    out. A file made with --weights random is a baseline, and so are bare pixels.
    """
    from ..classify.comparison import compare as rank
    from ..features.store import FeatureStore
    from . import report

    read_pixels = None
    if pixels is not None:
        from .pixels import pixels_of

        read_pixels = pixels_of(pixels)
    stores = [FeatureStore(file) for file in files]
    comparison = rank(stores, pixels=read_pixels, folds=folds, seed=seed)
    report.comparison(comparison, as_json=as_json)


@headstart.command()
@click.argument("head", metavar="HEAD")
@click.argument("sources", metavar="SOURCE|FILE.h5", nargs=-1, required=True)
@click.option("-o", "--out", required=True, metavar="OUT.csv|OUT.jsonl", help="One row an image.")
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    metavar="NEW.h5",
    help="Keep the features of the images, so that another head predicts them in no time; a file "
    "that holds other images is not replaced.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Give the K most probable labels.",
)
@WEIGHTS
@ENGINE
@TRUST
@JSON
def predict(
    head: str,
    sources: tuple[str, ...],
    out: str,
    features: Path | None,
    top: int,
    weights: str | None,
    engine: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Predict the label of every image of SOURCE: a folder, a manifest, images or a feature file.

    Backbone, size and preprocessing come from the head itself. One row an image, in the order of
    SOURCE: path, label, confidence, whether it is unlike all training images (unfamiliar), and why
    it was skipped if it was. Run the same command again to go on after an interruption.
    """
    from . import report
    from .predictions import predict_into

    predicted = predict_into(
        Path(out),
        head,
        sources,
        features=features,
        top=top,
        weights=weights,
        engine=engine,
        trust=trust,
    )
    report.predictions(predicted, as_json=as_json)


@headstart.command()
@click.argument("head", metavar="HEAD")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MODEL.keras|MODEL.onnx",
    help="The model.",
)
@WEIGHTS
@ENGINE
@TRUST
@JSON
def export(
    head: str, out: Path, weights: str | None, engine: str, trust: bool, as_json: bool
) -> None:
    """Make one model of backbone and head: RGB images in, class probabilities out.

    A .keras file is a plain Keras model, to be served or fine-tuned; a .onnx file runs wherever
    onnxruntime does. Labels and provenance are inside. Images are sent through the file and
    through the way of `predict`; unless both say the same, nothing is written.
    """
    from . import report
    from .exporting import export_into

    exported = export_into(out, head, weights=weights, engine=engine, trust=trust)
    report.export(exported, as_json=as_json)


@headstart.command()
@click.argument("directory", default="headstart-demo", metavar="[DIR]")
def demo(directory: str) -> None:
    """Classify scikit-learn's handwritten digits, from PNG files to predictions.

    Needs no network. Everything is written into DIR [default: headstart-demo].
    """
    from .demo import run

    run(Path(directory))
