"""Whether augmented views pay: accuracy with and without, from few images of each class.

    python benchmarks/views.py [--views 4] [--seeds 10] [--data DIR] [--json FILE]

Photographs of cats and dogs through MobileNetV2 with ImageNet weights (HEADSTART_TEST_DATA names
the folder that has both) at 150 and 224 pixels, and handwritten digits of scikit-learn at 96, which
a flip makes wrong. Of each class 5, 20 and 100 images are trained on, all others are predicted, and
that with other images `--seeds` times; `gain` is the mean of the differences, with its standard
error. `tta` is the mean over the views of an image that is predicted, too. The feature files are
kept in --data, so that a second run only trains.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from extraction import machine, options
from headstart.classify.crossfit import cross_fit
from headstart.classify.examples import Examples, labelled
from headstart.classify.experiment import task_of
from headstart.classify.folds import stratified_folds
from headstart.classify.heads import recipe_of
from headstart.classify.heads.prediction import predicted
from headstart.classify.training import fitted
from headstart.extract import extract
from honesty_scores import draw
from photographs import digits
from sklearn.pipeline import Pipeline

SHOTS = (5, 20, 100)
RECIPES = {
    "photographs": ("flip,rotation=0.1", "flip", "flip,crop=0.8,color=0.2"),
    "digits": ("rotation=0.03", "flip,rotation=0.1"),
}


def learned_from(examples: Examples, head: str, seed: int) -> Pipeline:
    """A head as `train` makes it, without scores: there are better ones here."""
    recipe, names = recipe_of(head), examples.classes
    task = task_of(examples, names, balanced=False, seed=seed)
    codes = task.codes[: len(examples)]
    folds = stratified_folds(codes, np.arange(len(examples)), 5, seed).held_out
    cross = cross_fit(recipe, task, folds, honest=False)
    return fitted(recipe, task, cross)


def measured(examples: Examples, head: str, each: int, seeds: int) -> dict[str, list[float]]:
    """Accuracy without views, with them, and with the mean over them; a number for each seed."""
    found: dict[str, list[float]] = {"without": [], "with": [], "tta": []}
    for seed in range(seeds):
        training = np.sort(draw(examples.codes, each, np.random.default_rng([seed, each])))
        rest = np.setdiff1d(np.arange(len(examples)), training)
        inside, outside = examples.rows(training), examples.rows(rest)
        plain = dataclasses.replace(inside, augmented=None)
        for key, learned, views in (
            ("without", plain, None),
            ("with", inside, None),
            ("tta", inside, outside.augmented),
        ):
            pipeline = learned_from(learned, head, seed)
            answers = predicted(pipeline, outside.features, views).argmax(axis=1)
            right = answers == outside.codes_among(pipeline.classes_.tolist())
            found[key].append(float(right.mean()))
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown, a line for each size."""
    columns = ("images a class", "head", "without", "with views", "gain", "with tta", "gain")
    lines = [
        f"| {result['views']} views | changes | " + " | ".join(columns) + " |",
        "| --- | --- | ---: | --- |" + " ---: |" * 5,
    ]
    for one in result["cases"]:
        without, views, tta = (np.array(one[key]) * 100 for key in ("without", "with", "tta"))
        cells = [
            one["data"],
            one["changes"],
            str(one["each"]),
            one["head"],
            f"{without.mean():.1f}",
        ]
        for now in (views, tta):
            gain = now - without
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            cells += [f"{now.mean():.1f}", f"{gain.mean():+.1f} ± {error:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", type=Path)
    asked = options(parser, table)
    if "HEADSTART_TEST_DATA" not in os.environ:
        parser.error("HEADSTART_TEST_DATA names no folder of photographs and weights")
    given = Path(os.environ["HEADSTART_TEST_DATA"])
    (weights,) = (given / "weights").glob("mobilenet_v2*.h5")
    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = asked.data or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for number, (image, label) in enumerate(digits()):
            place = folder / "digits" / str(label) / f"{number:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                image.save(place)
        sources = {"photographs": given / "images" / "cats_vs_dogs", "digits": folder / "digits"}
        for kind, size in (("photographs", 150), ("photographs", 224), ("digits", 96)):
            for number, changes in enumerate(RECIPES[kind]):
                store = extract(
                    sources[kind],
                    folder / f"{kind}{size}-{number}.h5",
                    backbone="MobileNetV2",
                    weights=weights,
                    size=size,
                    views=asked.views,
                    augment=changes,
                    views_of="all",
                )
                examples = labelled(store).examples
                for head in ("logistic", "prototype") if number == 0 else ("logistic",):
                    for each in SHOTS:
                        found = measured(examples, head, each, asked.seeds)
                        about = {"data": f"{kind} {size}", "changes": changes, "each": each}
                        cases.append({**about, "head": head, **found})
                        print(table({"views": asked.views, "cases": cases[-1:]}).splitlines()[-1])
    result = {**machine(), "views": asked.views, "seeds": asked.seeds, "cases": cases}
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
