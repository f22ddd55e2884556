"""Extraction beside what one would write by hand, and beside what the machine can do at most.

    python benchmarks/extraction.py PHOTOS [--mobilenet-weights FILE] [--repeats 3]
        [--images 600] [--small-images 4000] [--only NAME] [--json FILE]

PHOTOS is a folder of JPEGs in a folder per class. Where more images are asked for than there are,
further ones are cut and encoded from those, so that each has bytes of its own. For each of Xception
at 299 and 150 pixels and MobileNetV2 at 224, in turn and after a round over 40 images that is not
counted:

tutorial   image_dataset_from_directory, model.predict, h5py, as tutorials have it; whole process
keras      headstart extract --engine keras; whole process
f32, bf16  headstart extract --engine openvino, with a cached graph; whole process
ceiling    the openvino engine alone on random arrays: what a pipeline could reach at most
decode     reading and decoding alone, on all cores
roofline   a float32 matrix product of the machine, turned into images per second

Rates are images per second; every ratio is taken within one round, so that a busy machine disturbs
both sides alike, and given as median (lowest to highest). --json keeps all of it, and
`python benchmarks/extraction.py --table FILE` prints the table again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TUTORIAL = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py, keras, numpy as np
photos, name, weights, size, out = sys.argv[1:]
size = int(size)
data = keras.utils.image_dataset_from_directory(
    photos, image_size=(size, size), batch_size=32, shuffle=False, verbose=False
)
base = getattr(keras.applications, name)(
    include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
)
module = {"Xception": keras.applications.xception, "MobileNetV2": keras.applications.mobilenet_v2}
inputs = keras.Input((size, size, 3))
model = keras.Model(inputs, base(module[name].preprocess_input(inputs), training=False))
features = model.predict(data, verbose=0)
labels = np.concatenate([label for _, label in data])
with h5py.File(out, "w") as file:
    file["features"], file["labels"] = features, labels
    file["paths"] = data.file_paths
"""

ALONE = """
import collections, json, sys, time
from concurrent.futures import ThreadPoolExecutor
import joblib
import numpy as np
from headstart.extract import scan
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.work.readahead import look_ahead
photos, name, weights, size, seconds = sys.argv[1:]
rates = {}
for precision in ("f32", "bf16"):
    request = Request.checked(backbone=name, weights=weights, size=int(size), precision=precision)
    embedding = Embedding(request, "openvino")
    arrays = np.random.default_rng(0).integers(0, 256, (64, int(size), int(size), 3), np.uint8)
    engine = embedding.engine
    batches = [arrays[k : k + engine.batch] for k in range(0, 64 - engine.batch + 1, engine.batch)]
    calls = collections.deque(engine.submit(batch) for batch in batches[:8])  # it never runs dry
    def one_call():
        count = len(calls.popleft().result())
        calls.append(engine.submit(batches[len(batches) // 2]))
        return count

    for _ in range(8):
        one_call()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(seconds):
        done += one_call()
    rates["ceiling " + precision] = done / (time.perf_counter() - started)
images = scan(photos)
threads = ThreadPoolExecutor(joblib.cpu_count())
started = time.perf_counter()
done = sum(1 for _ in look_ahead(images, None, request, threads))
rates["decode"] = done / (time.perf_counter() - started)
print(json.dumps(rates))
"""

PREPARE = """
import sys
import keras
from headstart.extract.backbones.build import build
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
name, size, weights, whole = sys.argv[1:]
if whole == "new":
    graph = build(Request.checked(backbone=name, weights="random", size=int(size))).graph
    inner = next(layer for layer in graph.layers if layer.name.startswith(name.lower()))
    inner.save_weights(weights)
request = Request.checked(backbone=name, weights=weights, size=int(size))
Embedding(request, "openvino").provenance  # converts it
operations = 0
for layer in getattr(keras.applications, name)(
    include_top=False, weights=None, input_shape=(int(size), int(size), 3)
).layers:
    for variable in layer.weights:
        if "kernel" in variable.name and len(variable.shape) == 4:
            height, width = layer.output.shape[1:3]
            operations += 2 * int(height * width) * variable.numpy().size
print(operations)
"""

CASES = (("Xception", 299), ("Xception", 150), ("MobileNetV2", 224))


def run(program: list[str], **environment: str) -> tuple[float, str]:
    """Run a whole process; seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        program, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return time.perf_counter() - started, done.stdout


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


def photographs(source: Path, folder: Path, count: int) -> int:
    """`count` JPEGs of which no two have the same bytes; the number of those that are not cut."""
    from PIL import Image

    # Turn by turn from every class, so that few have them all.
    folders = sorted({path.parent for path in source.rglob("*.jpg")})
    turns = itertools.zip_longest(*(sorted(folder.glob("*.jpg")) for folder in folders))
    found = [path for turn in turns for path in turn if path is not None]
    for number in range(count):
        path = found[number % len(found)]
        place = folder / path.parent.name / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if number < len(found):
            place.write_bytes(path.read_bytes())
        else:
            image = Image.open(path).convert("RGB")
            cut = number // len(found)
            image.crop((cut, 0, image.width, image.height)).save(place, "JPEG", quality=90)
    return min(count, len(found))


def roofline(operations: int, seconds: float = 3.0) -> float:
    """Images per second if the machine did nothing but multiply large float32 matrices."""
    side = 3072
    matrix = np.ones((side, side), np.float32)
    matrix @ matrix
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        matrix @ matrix
        done += 1
    return done * 2 * side**3 / (time.perf_counter() - started) / operations


def case(name: str, size: int, given: str | None, photos: Path, folder: Path, repeats: int) -> dict:
    """All rates of one backbone at one size, a list for each."""
    images = sum(1 for _ in photos.rglob("*.jpg"))
    weights = given or str(folder / f"{name}-{size}.weights.h5")
    out = folder / "out.h5"
    _, said = run(python(PREPARE, name, size, weights, "given" if given else "new"))
    operations = int(said.split()[-1])

    def programs(photos: Path) -> dict[str, list[str]]:
        ours = [sys.executable, "-m", "headstart.cli", "extract", str(photos), "-o", str(out)]
        ours += ["--backbone", name, "--size", str(size), "--weights", weights, "--engine"]
        return {
            "tutorial": python(TUTORIAL, photos, name, weights, size, out),
            "keras": [*ours, "keras"],
            "f32": [*ours, "openvino"],
            "bf16": [*ours, "openvino", "--precision", "bf16"],
        }

    for program in programs(folder / "40").values():
        out.unlink(missing_ok=True)
        run(program)
    rates: dict[str, list[float]] = {}
    for round_ in range(1, repeats + 1):
        measured = {}
        for key, program in programs(photos).items():
            out.unlink(missing_ok=True)
            seconds, _ = run(program)
            measured[key] = images / seconds
        _, said = run(python(ALONE, photos, name, weights, size, 8))
        measured |= json.loads(said.splitlines()[-1])
        measured["roofline"] = roofline(operations)
        shown = ", ".join(f"{key} {rate:.1f}" for key, rate in measured.items())
        print(f"{name} {size}, round {round_}: {shown}", file=sys.stderr, flush=True)
        for key, rate in measured.items():
            rates.setdefault(key, []).append(round(rate, 2))
    return {"backbone": name, "size": size, "images": images, "rates": rates}


def ratios(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """What the issue is about: each a list with one ratio a round."""
    rounds = [dict(zip(rates, values, strict=True)) for values in zip(*rates.values(), strict=True)]
    found = {f"{key} / tutorial": [one[key] / one["tutorial"] for one in rounds] for key in OURS}
    for precision in ("f32", "bf16"):
        found[f"{precision} / ceiling"] = [
            one[precision] / one[f"ceiling {precision}"] for one in rounds
        ]
        found[f"{precision} / (decode + ceiling)"] = [
            one[precision] * (1 / one["decode"] + 1 / one[f"ceiling {precision}"]) for one in rounds
        ]
    found["ceiling f32 / roofline"] = [one["ceiling f32"] / one["roofline"] for one in rounds]
    return found


OURS = ("keras", "f32", "bf16")


def spread(values: list[float], digits: int = 2) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(result: dict) -> str:
    """Markdown: rates, then ratios."""
    cases = result["cases"]
    head = [f"{one['backbone']} {one['size']} px" for one in cases]
    lines = ["| images per second | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for key in cases[0]["rates"]:
        cells = [spread(one["rates"][key], 1) for one in cases]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    lines += ["", "| ratio | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    found = [ratios(one["rates"]) for one in cases]
    for key in found[0]:
        lines.append(f"| {key} | " + " | ".join(spread(one[key]) for one in found) + " |")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [f"model name: {platform.processor()}"]
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "machine": f"{processor}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("headstart", "tensorflow", "keras", "openvino")},
    }


def options(parser: argparse.ArgumentParser, table: Callable[[dict], str]) -> argparse.Namespace:
    """What was asked for, with the options that all benchmarks have; --table ends the program."""
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.table:
        print(table(json.loads(asked.table.read_text())))
        raise SystemExit
    return asked


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--mobilenet-weights")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--small-images", type=int, default=4000, help="for MobileNetV2")
    parser.add_argument("--only")
    asked = options(parser, table)
    result = {
        **machine(),
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        for count in {40, asked.images, asked.small_images}:
            whole = photographs(asked.photos, folder / str(count), count)
            result[f"of {count} images"] = f"{whole} as they are, any others cut from them"
        for name, size in CASES:
            if asked.only in (None, f"{name}{size}"):
                small = name == "MobileNetV2"
                count = asked.small_images if small else asked.images
                weights = asked.mobilenet_weights if small else None
                result["cases"].append(
                    case(name, size, weights, folder / str(count), folder, asked.repeats)
                )
                if asked.json:
                    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
