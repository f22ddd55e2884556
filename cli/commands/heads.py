"""The commands that turn feature files into heads and scores: train, evaluate, compare, audit."""

import time
from pathlib import Path
from typing import Any

import click

from .options import FILE, FOLDS, HEAD, JSON, MIN_IMAGES, PLOTS, SEED, TRUST, TTA, choice, out


@click.command()
@FILE
@out("HEAD.joblib|HEAD.skops", "The trained head; loading a .skops file runs no code.")
@choice(
    "--head",
    "logistic",
    "logistic|prototype|svm|svm-rbf|auto|all",
    "What to train; auto: the better of the first two, chosen inside the training images; all: "
    "every kind, of which the best is saved.",
)
@FOLDS
@SEED
@MIN_IMAGES
@click.option(
    "--class-weight",
    metavar="balanced",
    help="Let all classes weigh the same, however few images they have.",
)
@TTA
@PLOTS
@click.option(
    "--report",
    "page",
    type=Path,
    metavar="PETS.html",
    help="Show the result as a page, with the images (see `headstart report`).",
)
@JSON
def train(
    file: str,
    out: str,
    head: str,
    plots: Path | None,
    page: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Train a head on a feature file, score it and save it.

    Scores come from the file's test split if it has one, else from cross-validation.
    """
    from ...classify import learning_curve, train, train_all
    from ...classify.examples.stored import require_in_memory
    from ...classify.persistence import check_name
    from ...features import FeatureStore
    from ...pages.plots import draw, require_plots
    from ...pages.report import report, require_report
    from ..printing import heads as printed

    check_name(Path(out))
    if plots:
        require_plots(plots)
    if page:
        require_report(page, file, out)
    store = FeatureStore(file)
    if page:
        require_in_memory(store, "a report")
    if head == "all":
        trained, standings = train_all(store, **how)
    else:
        trained, standings = train(store, head, **how), ()
    trained.save(out)
    drawn, reported = [], None
    try:
        if plots:
            curve = learning_curve(trained, store)
            drawn = draw(plots, f"{trained.name} on {file}", trained.scores, curve)
        if page:
            reported = report(trained, store, page, standings=standings, saved=out)
    finally:  # the head is saved, whatever becomes of the plots and the page
        printed.training(trained, standings, out, drawn, reported, as_json=as_json)


@click.command()
@HEAD
@FILE
@click.option(
    "--split",
    metavar="train|validation|test|all",
    help="Which rows [default: the test split if there is one, else all].",
)
@TTA
@PLOTS
@TRUST
@JSON
def evaluate(
    head: str, file: str, plots: Path | None, trust: bool, as_json: bool, **how: Any
) -> None:
    """Score a head on labelled features that it was not trained on."""
    from ...classify import evaluate, load_head
    from ...features import FeatureStore
    from ...pages.plots import draw, require_plots
    from ..printing import heads as printed

    if plots:
        require_plots(plots)
    started = time.perf_counter()
    loaded = load_head(head, trust=trust)
    scores = evaluate(loaded, FeatureStore(file), **how)
    seconds = time.perf_counter() - started
    drawn = []
    try:
        if plots:
            drawn = draw(plots, f"{loaded.name} on {file}, {scores.basis}", scores)
    finally:
        printed.evaluation(loaded, scores, seconds, drawn, as_json=as_json)


@click.command()
@click.argument("files", metavar="A.h5 B.h5 ...", nargs=-1, required=True)
@click.option("--pixels", metavar="SOURCE", help="The images; their raw pixels become a baseline.")
@FOLDS
@SEED
@MIN_IMAGES
@JSON
def compare(files: tuple[str, ...], pixels: str | None, as_json: bool, **how: Any) -> None:
    """Rank feature files of the same images, to choose a backbone by.

    All get the same folds of cross-validation and a logistic head. Images of the test split stay
    out. A file made with --weights random is a baseline, and so are raw pixels.
    """
    from ...classify import compare
    from ...features import FeatureStore
    from ..printing import heads as printed

    read_pixels = None
    if pixels is not None:
        from ...extract.backbones.pixels import pixels_of

        read_pixels = pixels_of(pixels)
    stores = [FeatureStore(file) for file in files]
    printed.comparison(compare(stores, pixels=read_pixels, **how), as_json=as_json)


@click.command()
@FILE
@click.option("-o", "--out", metavar="SUSPECTS.csv", help="Write all of them as a table.")
@choice(
    "--head", "logistic", "auto|logistic|prototype|svm|svm-rbf", "What the labels are judged by."
)
@FOLDS
@SEED
@MIN_IMAGES
@JSON
def audit(file: str, out: str | None, head: str, as_json: bool, **how: Any) -> None:
    """Find labels that may be wrong, most doubtful first.

    Every image, of whatever split, is judged by a head that has not seen it, unless its class is
    too small to hold any out; near-copies with different labels are listed too.
    """
    from ...classify import audit
    from ...classify.studies.audit import check_table
    from ...features import FeatureStore
    from ..printing import heads as printed

    started = time.perf_counter()
    if out is not None:
        check_table(Path(out), file)
    found = audit(FeatureStore(file), head, **how)
    if out is not None:
        found.to_csv(out)
    printed.audit(found, out, time.perf_counter() - started, as_json=as_json)
