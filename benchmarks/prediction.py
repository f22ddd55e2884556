"""`headstart predict` beside `headstart extract` of the same images.

    python benchmarks/prediction.py PHOTOS [--mobilenet-weights FILE] [--images 1000] [--repeats 3]
        [--json FILE]

PHOTOS is a folder of JPEGs in a folder per class; where there are fewer than asked for, further
ones are cut from those. For Xception at 299 pixels and MobileNetV2 at 224 a head is trained on 40
of them; then, in turn, a whole process extracts all of them into a new file and another predicts
all of them, both with the cached graph of the first run. The ratio is taken within each round, so
that a busy machine disturbs both sides alike, and given as median (lowest to highest).
`python benchmarks/prediction.py --table FILE` prints the table again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from extraction import machine, options, photographs, run, spread

CASES = (("Xception", 299), ("MobileNetV2", 224))


def case(
    name: str, size: int, weights: str, few: Path, photos: Path, out: Path, repeats: int
) -> dict:
    """Seconds of both commands, a list with one number a round for each."""
    headstart = [sys.executable, "-m", "headstart.cli"]
    how = ["--backbone", name, "--size", str(size), "--weights", weights]
    features, head = out / f"{name}.h5", out / f"{name}.joblib"
    run([*headstart, "extract", str(few), "-o", str(features), *how])
    run([*headstart, "train", str(features), "-o", str(head)])
    new, answers = out / "new.h5", out / "new.csv"
    programs = {
        "extract": [*headstart, "extract", str(photos), "-o", str(new), *how],
        "predict": [*headstart, "predict", str(head), str(photos), "-o", str(answers)],
    }
    seconds: dict[str, list[float]] = {key: [] for key in programs}
    for round_ in range(1, repeats + 1):
        for key, program in programs.items():
            new.unlink(missing_ok=True)
            answers.unlink(missing_ok=True)
            seconds[key].append(round(run(program)[0], 3))
        shown = ", ".join(f"{key} {values[-1]:.1f} s" for key, values in seconds.items())
        print(f"{name} {size}, round {round_}: {shown}", file=sys.stderr, flush=True)
    return {"backbone": name, "size": size, "seconds": seconds}


def table(result: dict) -> str:
    """Markdown, a line for each backbone."""
    lines = [
        f"| {result['images']:,} images | extract, seconds | predict, seconds | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in result["cases"]:
        extract, predict = one["seconds"]["extract"], one["seconds"]["predict"]
        ratios = [after / before for before, after in zip(extract, predict, strict=True)]
        cells = [f"{one['backbone']} {one['size']} px", spread(extract, 1), spread(predict, 1)]
        lines.append("| " + " | ".join([*cells, spread(ratios, 3)]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--mobilenet-weights", default="random")
    parser.add_argument("--images", type=int, default=1000)
    asked = options(parser, table)
    result = {
        **machine(),
        "images": asked.images,
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        os.environ["HEADSTART_STATE"] = str(folder / "state")
        for count in (40, asked.images):
            photographs(asked.photos, folder / str(count), count)
        few, photos = folder / "40", folder / str(asked.images)
        for name, size in CASES:
            weights = asked.mobilenet_weights if name == "MobileNetV2" else "random"
            result["cases"].append(case(name, size, weights, few, photos, folder, asked.repeats))
            if asked.json:
                asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
