"""The demo: scikit-learn's handwritten digits, from a folder of PNG files to predictions."""

import functools
import time
from pathlib import Path
from typing import Final

import numpy as np

from ..classify import Head, compare, train_all
from ..extract import extract
from ..extract.backbones.pixels import pixels_of
from ..features import BackboneError, FeatureStore, HeadstartError
from .printing import features, heads, sources
from .printing.text import lines, percent

_SIZE: Final = 71  # the least that Xception takes: fast, and the digits have 8 pixels anyway
_TEST_SHARE: Final = 0.25
_SEED: Final = 0
_SHOWN: Final = 5

_NEXT: Final = """
The same with your own photographs, one folder per class:
  headstart extract photos/ -o photos.h5
  headstart train photos.h5 -o photos.joblib
  headstart predict photos.joblib new-photos/ -o predictions.csv
"""


def run(directory: Path) -> None:
    """Run the demo in `directory`, which is made if it is not there."""
    started = time.perf_counter()
    images, saved = directory / "digits", directory / "digits.joblib"
    _write_digits(images)
    store = _extract(images, directory / "digits.h5")

    lines("", "The heads, all trained on that file:")
    best, standings = train_all(store, seed=_SEED)
    heads.leaderboard(best.scores, standings)
    lines("", "Compared with the raw pixels, without any backbone:")
    heads.comparison(compare([store], pixels=pixels_of(str(images)), seed=_SEED), as_json=False)
    best.save(saved)
    lines("", f"The {best.name} head is saved as {saved}. Its predictions for a few test images:")
    _show_predictions(best, store)
    lines(*_NEXT.splitlines(), f"Done in {time.perf_counter() - started:.0f} s.")


def _write_digits(folder: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    numbers = np.arange(len(digits.target))
    _, test = train_test_split(
        numbers, test_size=_TEST_SHARE, random_state=_SEED, stratify=digits.target
    )
    splits = np.where(np.isin(numbers, test), "test", "train")
    paths = [
        folder / split / str(digit) / f"{number:04}.png"
        for split, digit, number in zip(splits, digits.target, numbers, strict=True)
    ]
    foreign = set(folder.rglob("*.*")) - set(paths)
    if foreign:
        raise HeadstartError(
            f"{min(foreign)}: is not part of this demo; name another folder: `headstart demo DIR`"
        )
    for path, pixels in zip(paths, digits.images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(pixels * (255 / 16)).astype(np.uint8)  # the data set counts from 0 to 16
        Image.fromarray(grey).save(path)
    lines(f"{len(digits.target):,} handwritten digits are in {folder}, a folder per class.")


def _extract(images: Path, out: Path) -> FeatureStore:
    embed = functools.partial(
        extract, images, out, size=_SIZE, fresh=True, progress=True, seen=sources.listing
    )
    lines(f"Embedding them once with Xception at {_SIZE} pixels ...")
    try:
        store, used = embed(weights="imagenet"), "imagenet (pretrained)."
    except BackboneError as error:
        lines(
            f"{error}.",
            "So this demo goes on with random weights, which know no photograph.",
        )
        store = embed(weights="random")
        used = "random. With your own photographs use imagenet weights."
    features.extraction(store, as_json=False)
    lines(f"Weights used: {used}")
    return store


def _show_predictions(head: Head, store: FeatureStore) -> None:
    test = [row for row, path in enumerate(store.paths) if path.startswith("test/")]
    rows = test[:: len(test) // _SHOWN][:_SHOWN]
    prediction = head.predict(store.features[rows])
    for row, label, confidence in zip(rows, prediction.labels, prediction.confidences, strict=True):
        lines(f"  {store.paths[row]}: {label}, {percent(confidence)} sure")
