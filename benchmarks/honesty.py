"""Whether scores stay true when life is untidy: tables with standard errors.

    python benchmarks/honesty.py [--only TABLE ...] [--data DIR] [--more FILE.h5 ...] [--json FILE]

On 600 photographs of cats and dogs and copies of them, handwritten digits, plots, screenshots and
noise through MobileNetV2 with ImageNet weights (HEADSTART_TEST_DATA names the folder that has
photographs and weights; without it these rows are missing), and on made data (`made.embeddings`).
The pictures and their feature files are kept in --data. --more adds labelled feature files to
`few shots`, `calibration` and `suspects`.

permutation  labels that mean nothing: accuracy should be chance, also with six versions of each
             image, and of training images that are only saved anew
coverage     how often the 95 % interval holds the accuracy on further images
few shots    accuracy and log loss from a few images of each class, beside plain scikit-learn
calibration  8 images of each of many classes: labels beside those of the decision values
near-copies  which copies of photographs are found, and which different images pass for copies
novelty      share called unfamiliar, of the same kind and of others
rare class   false alarms where 20 images of a class were trained on among many of another
suspects     labels that were flipped: how many of those listed, beside cleanlab if it is installed

`python benchmarks/honesty.py --table FILE` prints the tables of a result again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import honesty_accuracy
import honesty_likeness
import honesty_scores
import numpy as np
from honesty_data import OTHERS, Images, made_images, pictures

IN_NUMBERS = {"log loss", "listed"}
"""Columns that are no shares."""
BY_HEAD = {"permutation": "accuracy", "few shots": "accuracy"}
"""Tables that are shown with a column for each head; the result has more of them."""


class Data:
    """All there is to measure on, made or read when it is first asked for."""

    def __init__(self, data: Path | None, folder: Path, more: list[Path]) -> None:
        self._data, self._folder, self._more = data, folder, more
        self._pictures: dict[int, dict[str, Images]] = {}

    def pictures(self, size: int = 150) -> dict[str, Images]:
        """Empty where there are no photographs and weights."""
        if self._data and size not in self._pictures:
            self._pictures[size] = pictures(size, self._data, self._folder)
        return self._pictures.get(size, {})

    def kinds(self, *kinds: str, sizes: tuple[int, ...] = (150,)) -> list[Images]:
        """Those kinds of pictures, at each of the sizes, where there are any."""
        return [all_[kind] for size in sizes if (all_ := self.pictures(size)) for kind in kinds]

    @property
    def more(self) -> list[Images]:
        """The feature files that were named."""
        from headstart.features import FeatureStore

        stores = [FeatureStore(path) for path in self._more]
        return [
            Images(one.path.stem, one.features, np.array(one.label_names)[one.labels])
            for one in stores
        ]


def _permutation(data: Data) -> list[dict[str, Any]]:
    return honesty_scores.permutation(
        [made_images(1000, 2, 0), *data.kinds("photographs", "digits")]
    )


def _few_shots(data: Data) -> list[dict[str, Any]]:
    return honesty_accuracy.few_shots(
        [
            *data.kinds("photographs", sizes=(150, 224)),
            *data.kinds("digits"),
            *data.more,
            made_images(5000, 50, 0, apart=3.0),
        ]
    )


TABLES: dict[str, Callable[[Data], list[dict[str, Any]]]] = {
    "permutation": _permutation,
    "coverage": lambda data: honesty_scores.coverage(data.kinds("photographs")),
    "few shots": _few_shots,
    "calibration": lambda data: honesty_accuracy.calibration([*data.kinds("digits"), *data.more]),
    "near-copies": lambda data: honesty_likeness.near_copies(
        [*data.kinds("photographs", "digits", *OTHERS, sizes=(150, 224)), *data.more]
    ),
    "novelty": lambda data: (
        honesty_likeness.novelty()
        + [
            row
            for size in (150, 224)
            if data.pictures(size)
            for row in honesty_likeness.novelty(data.pictures(size), made=False)
        ]
    ),
    "rare class": lambda data: honesty_likeness.rare_class(data.pictures()),
    "suspects": lambda data: honesty_likeness.suspects(
        [*data.kinds("photographs", "digits"), *data.more]
    ),
}


def cell(name: str, value: Any) -> str:
    """``88.9 ± 0.4 %`` of a mean and its standard error; numbers and texts as they are."""
    if value is None:
        return ""
    pair = isinstance(value, list | tuple)
    if not pair and not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    number, error = value if pair else (value, None)
    if name in IN_NUMBERS:
        return f"{number:.2f}" if error is None else f"{number:.2f} ± {error:.2f}"
    return f"{number:.1%}" if error is None else f"{100 * number:.1f} ± {100 * error:.1f} %"


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Each table in Markdown, under its name."""
    texts = {}
    for name, rows in result["tables"].items():
        if name in BY_HEAD:
            rows = beside_each_other(rows, BY_HEAD[name])
        columns = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[cell(key, row.get(key)) for key in columns] for row in rows]
        ruler = ["---" if isinstance(rows[0].get(key), str) else "---:" for key in columns]
        lines = ["| " + " | ".join(one) + " |" for one in (columns, ruler, *cells)]
        texts[name] = "\n".join(lines)
    return texts


def beside_each_other(rows: list[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """One row for all heads, a column for the `value` of each; what else they have is left out."""
    which = list(itertools.takewhile(lambda key: key != "head", rows[0]))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        same = tuple(row[key] for key in which)
        entry = found.setdefault(same, dict(zip(which, same, strict=True)))
        refused = row.get("refused", [0.0])[0]
        # Of the few sets that are not, hardly an image is left.
        entry[row["head"]] = f"refused {refused:.0%}" if refused > 0.5 else row.get(value)
    return list(found.values())


def show(result: dict[str, Any]) -> None:
    for name, text in tables(result).items():
        print(f"**{name}**\n\n{text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--more", type=Path, nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.table:
        show(json.loads(asked.table.read_text()))
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    result: dict[str, Any] = {
        "versions": {name: version(name) for name in ("scikit-learn", "numpy", "scipy")},
        "tables": {},
    }
    given = os.environ.get("HEADSTART_TEST_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = Data(Path(given) if given else None, folder, asked.more)
        for name in asked.only:
            started = time.perf_counter()
            result["tables"][name] = TABLES[name](data)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
            if asked.json:
                asked.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
