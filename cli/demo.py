"""The demo: scikit-learn's handwritten digits, from a folder of PNG files to predictions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np

from . import report

if TYPE_CHECKING:
    from ..classify.prediction import Head
    from ..features.store import FeatureStore

_SIZE: Final = 71  # the least that Xception takes: fast, and the digits have 8 pixels anyway
_TEST_SHARE: Final = 0.25
_SEED: Final = 0
_SHOWN: Final = 5

_NEXT: Final = """\
The same with your own photographs, one folder per class:
  headstart extract photos/ -o photos.h5
  headstart train photos.h5 -o photos.joblib
  headstart predict photos.joblib new-photos/ -o predictions.csv"""


def run(directory: Path) -> None:
    """Run the demo in `directory`, which is made if it is not there."""
    from ..classify.comparison import compare
    from ..classify.training import train_all
    from .pixels import pixels_of

    started = time.perf_counter()
    images, features, saved = (
        directory / name for name in ("digits", "digits.h5", "digits.joblib")
    )
    _write_digits(images)
    store = _extract(images, features)

    click.echo("\nThe heads, all trained on that file:")
    best, standings = train_all(store, seed=_SEED)
    for line in report.leaderboard(standings):
        click.echo(line)
    click.echo("\nBeside the bare pixels, without any backbone:")
    report.comparison(compare([store], pixels=pixels_of(str(images)), seed=_SEED), as_json=False)
    best.save(saved)
    click.echo(f"\nThe {best.name} head is saved as {saved}. What it says of a few test images:")
    _show_predictions(best, store)
    click.echo(f"\n{_NEXT}\n\nDone in {time.perf_counter() - started:.0f} s.")


def _write_digits(folder: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from ..features.errors import HeadstartError

    digits = load_digits()
    test = set(
        train_test_split(
            np.arange(len(digits.target)),
            test_size=_TEST_SHARE,
            random_state=_SEED,
            stratify=digits.target,
        )[1].tolist()
    )
    paths = [
        folder / ("test" if number in test else "train") / str(digit) / f"{number:04}.png"
        for number, digit in enumerate(digits.target)
    ]
    foreign = set(folder.rglob("*.*")) - set(paths)
    if foreign:
        raise HeadstartError(
            f"{min(foreign)}: is not of this demo; name another folder: `headstart demo DIR`"
        )
    for path, pixels in zip(paths, digits.images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(pixels * (255 / 16)).astype(np.uint8)  # the data set counts from 0 to 16
        Image.fromarray(grey).save(path)
    click.echo(f"{len(digits.target):,} handwritten digits are in {folder}, a folder per class.")


def _extract(images: Path, features: Path) -> FeatureStore:
    from ..extract.embedding import Embedding
    from ..extract.pipeline import run as extract
    from ..extract.request import Request
    from ..extract.weights import IMAGENET, RANDOM
    from ..features.errors import BackboneError
    from ..features.store import FeatureStore

    def embed(weights: str) -> None:
        embedding = Embedding(Request.checked(weights=weights, size=_SIZE))
        summary = extract(embedding, images, features, fresh=True, progress=True)
        report.extraction(FeatureStore(features), summary)

    click.echo(f"Embedding them once with Xception at {_SIZE} pixels ...")
    try:
        embed(IMAGENET)
        click.echo("Weights used: imagenet (pretrained).")
    except BackboneError as error:
        click.echo(f"{error}.\nSo this demo goes on with random weights, which know no photograph.")
        embed(RANDOM)
        click.echo("Weights used: random. With your own photographs use imagenet weights.")
    return FeatureStore(features)


def _show_predictions(head: Head, store: FeatureStore) -> None:
    from ..features.layout import TEST

    test = np.flatnonzero(store.splits == TEST)
    rows = test[:: len(test) // _SHOWN][:_SHOWN]
    prediction = head.predict(store.features[rows])
    for row, label, confidence in zip(
        rows.tolist(), prediction.labels.tolist(), prediction.confidences.tolist(), strict=True
    ):
        click.echo(f"  {store.paths[row]}: {label}, {report.percent(confidence)} sure")
