"""The textbook program of transfer learning beside headstart: same images, weights and splits.

    python benchmarks/textbook.py [--source FOLDER|tfds:NAME] [--backbone Xception]
        [--weights imagenet|random|FILE] [--size 150] [--epochs 5] [--images 4000] [--only SIDE ...]
        [--repeats 3] [--json FILE]

The textbook program is that of the Keras guide to transfer learning: images at 150 x 150, random
horizontal flips and rotations by 0.1, pixels from -1 to 1, a frozen base without its top, global
average pooling, dropout of 0.2, Dense(1), Adam, binary cross-entropy from logits. Every epoch runs
every image through the base. Its splits are train[:40%], train[40%:50%] to validate by and
train[50%:60%] to test on; of a folder of images the same parts, 4 : 1 : 1 of all of it, and where
there are fewer images than --images, further ones are cut from those of the same part. headstart
trains on the second part too, and chooses inside what it trains on; both are asked for the labels
of the third. Cuts of one photograph count as one image in the intervals.

textbook   5 epochs in plain Keras, validated after each; with all imports
f32, bf16  extract and train of headstart, and the labels of the third part; with all imports, and
           an empty cache, so that the graph is converted too
again      the same once more, as the next folder of images is: the converted backbone is there
views      the same in f32 with four views of every training image

`later` is the next experiment in the same running Python: textbook, the fit again; headstart,
search, fit and scores. Ratios are those within one round.

The classic: `python benchmarks/textbook.py --source tfds:cats_vs_dogs`. Without a
network, HEADSTART_TEST_DATA names a folder of photographs and weights of MobileNetV2; Xception with
random weights shows the times.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from extraction import machine, options, photographs, python, run, spread

TEXTBOOK = """
import time
began = time.perf_counter()
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers
asked = json.loads(sys.argv[1])
size = (asked["size"],) * 2
if asked["folder"]:
    parts = [
        keras.utils.image_dataset_from_directory(
            f"{asked['folder']}/{part}",
            image_size=size,
            batch_size=64,
            shuffle=part == "train",
            verbose=False,
        )
        for part in ("train", "validation", "test")
    ]
    names = [part.file_paths for part in parts]
else:
    import tensorflow as tf, tensorflow_datasets as tfds
    parts = tfds.load(asked["source"], split=asked["parts"], as_supervised=True)
    names = [[str(row) for row in range(part.cardinality())] for part in parts]
    parts = [part.map(lambda image, label: (tf.image.resize(image, size), label)).batch(64)
             for part in parts]
training, validation, test = [part.prefetch(2) for part in parts]

weights = asked["weights"]
base = getattr(keras.applications, asked["backbone"])(
    weights=None if weights == "random" else weights, input_shape=(*size, 3), include_top=False
)
base.trainable = False

def program():
    inputs = keras.Input((*size, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.1)(x)
    x = layers.Rescaling(scale=1 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    started = time.perf_counter()
    model.fit(training, epochs=asked["epochs"], validation_data=validation, verbose=0)
    return model, time.perf_counter() - started

model, _ = program()
right = []
for part in (validation, test):
    truth = np.concatenate([label.numpy() for _, label in part])
    right.append(((model.predict(part, verbose=0)[:, 0] > 0) == truth).tolist())
first = time.perf_counter() - began
_, seconds = program()
print(json.dumps({
    "first": first,
    "later": seconds,
    "right": [dict(zip(*pair)) for pair in zip(names[1:], right)],
}))
"""

OURS = """
import time
began = time.perf_counter()
import json, sys
from headstart.classify import train
from headstart.extract import extract
asked = json.loads(sys.argv[1])
how = {key: asked[key] for key in ("backbone", "weights", "size", "precision", "views")}
parts = ",".join(map("=".join, zip(("train", "validation", "test"), asked["parts"])))
source = asked["folder"] or f"tfds:{asked['source']}[{parts}]"
store = extract(source, f"{asked['out']}/features.h5", **how)
head = train(store)
images = store.views == 0
labels, splits = head.predict(store).labels.tolist(), store.splits[images].tolist()
names, codes = store.label_names, store.labels[images].tolist()
paths = [path for path, itself in zip(store.paths, images) if itself]
right = {
    path: names[code] == label
    for path, code, label, split in zip(paths, codes, labels, splits)
    if split == 3
}
first, later = time.perf_counter() - began, []
for _ in range(3):
    started = time.perf_counter()
    train(store)
    later.append(time.perf_counter() - started)
print(json.dumps({
    "first": first, "later": sorted(later)[1], "right": [right], "seconds": store.summary.seconds
}))
"""

SIDES: dict[str, dict[str, Any]] = {
    "textbook": {},
    "f32": {"precision": "f32", "views": 1},
    "bf16": {"precision": "bf16", "views": 1},
    "views": {"precision": "f32", "views": 4},
}
NAMES = ("train", "validation", "test")
PARTS = ("train[:40%]", "train[40%:50%]", "train[50%:60%]")
_SHARES = (4, 1, 1)


def split_folder(source: Path, into: Path, images: int) -> list[int]:
    """Deal the photographs of a folder out, 4 : 1 : 1; how many of each part are not cut."""
    found = sorted(source.rglob("*.jpg"))
    random.Random(0).shuffle(found)
    counts, start = [], 0
    for name, share in zip(NAMES, _SHARES, strict=True):
        end = start + len(found) * share // sum(_SHARES)
        for path in found[start:end]:
            place = into / "own" / name / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
        wanted = max(images * share // sum(_SHARES), end - start)
        counts.append(photographs(into / "own" / name, into / "images" / name, wanted))
        start = end
    return counts


def judged(right: dict[str, bool], whole: int | None) -> dict[str, Any]:
    """Accuracy of a part and its interval; cuts of one photograph count as one image."""
    import numpy as np
    from headstart.classify.scores.intervals import accuracy_interval

    flags = np.array([*right.values()], bool)
    numbers = [int(Path(path).stem) % whole if whole else row for row, path in enumerate(right)]
    interval = accuracy_interval(flags, np.unique(numbers, return_inverse=True)[1])
    return {"images": len(flags), "accuracy": float(flags.mean()), "interval": interval}


def percent(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f"{one['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def told(program: str, about: dict[str, Any], cache: Path, out: Path) -> dict[str, Any]:
    """What a program says at its end, in a process of its own."""
    out.mkdir(parents=True)
    what = json.dumps({**about, "out": str(out)})
    _, said = run(python(program, what), HEADSTART_CACHE=str(cache))
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown, a line for each side."""
    columns = ["first run, seconds", "ratio", "again, seconds", "ratio", "later, seconds", "ratio"]
    columns += ["validation", "test"]
    lines = [f"| {result['backbone']} at {result['size']} px, {result['images']:,} images | "]
    lines[0] += " | ".join(columns) + " |"
    lines.append("| --- |" + " ---: |" * len(columns))
    for name, side in result["sides"].items():
        cells = []
        for key, digits in (("first", 1), ("again", 1), ("later", 2)):
            if not side[key]:
                cells += ["", ""]
                continue
            theirs = result["sides"].get("textbook", side)["later" if key == "later" else "first"]
            pairs = zip(theirs, side[key], strict=False)
            cells += [spread(side[key], digits), spread([a / b for a, b in pairs], 1)]
        cells += [percent(one) for one in side["parts"]]
        if len(side["parts"]) == 1:
            cells.insert(-1, "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    data = os.environ.get("HEADSTART_TEST_DATA")
    parser.add_argument("--source", default=data and f"{data}/images/cats_vs_dogs")
    parser.add_argument("--backbone", default="Xception")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--only", choices=SIDES, nargs="+", default=list(SIDES))
    asked = options(parser, table)
    if not asked.source:
        parser.error("no --source, and HEADSTART_TEST_DATA names no folder of photographs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = {key: getattr(asked, key) for key in ("backbone", "weights", "size", "epochs")}
        about |= {"folder": "", "parts": PARTS, "source": asked.source.removeprefix("tfds:")}
        whole: list[int | None] = [None] * 3
        if not asked.source.startswith("tfds:"):
            whole = split_folder(Path(asked.source), folder, asked.images)
            about["folder"] = str(folder / "images")
        sides: dict[str, dict[str, Any]] = {}
        for number in range(asked.repeats):
            for side in asked.only:
                out = folder / f"{side}{number}"
                program = OURS if SIDES[side] else TEXTBOOK
                once = functools.partial(told, program, {**about, **SIDES[side]}, out / "cache")
                found = once(out / "first")
                one = sides.setdefault(side, {"first": [], "later": [], "again": []})
                one["first"].append(round(found["first"], 2))
                one["later"].append(round(found["later"], 3))
                if SIDES[side]:
                    one["again"].append(round(once(out / "again")["first"], 2))
                pairs = zip(found["right"], whole[-len(found["right"]) :], strict=True)
                one["parts"] = [judged(*pair) for pair in pairs]
                one |= {key: found[key] for key in ("seconds",) if key in found}
                shown = f"{side}: {one['first'][-1]:.1f} s, later {found['later']:.2f} s"
                print(
                    f"{shown}, {', '.join(map(percent, one['parts']))}", file=sys.stderr, flush=True
                )
    images = one["parts"][-1]["images"] * sum(_SHARES)
    result = {**machine(), **about, "images": images, "sides": sides}
    result.pop("folder")
    result |= {key: Path(about[key]).name for key in ("source", "weights")}  # whatever machine
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
