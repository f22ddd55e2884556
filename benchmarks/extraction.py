"""Extraction beside what one would write by hand, and beside what the machine can do at most.

    python benchmarks/extraction.py PHOTOS [--mobilenet-weights FILE] [--repeats 3]
        [--images 600] [--small-images 4000] [--only NAME] [--torch PYTHON] [--json FILE]

PHOTOS is a folder of JPEGs in a folder per class. Where more images are asked for than there are,
further ones are cut and encoded from those, so that each has bytes of its own. For each of Xception
at 299 and 150 pixels and MobileNetV2 at 224, in turn and after a round over 40 images that is not
counted:

tutorial   image_dataset_from_directory, model.predict, h5py, as tutorials have it; whole process
keras      headstart extract --engine keras; whole process
f32, bf16, int8  headstart extract --engine openvino, with a cached graph; whole process
onnxruntime  headstart extract --engine onnxruntime, with a cached graph; whole process
onnx by hand  the same graph in the loop that one would write: Pillow, batches of 32, session.run
torch      timm's nearest, channels_last, a DataLoader with workers, bf16 by autocast or not, by a
           Python that has torch and timm; whole process
ceiling    an engine alone on random arrays: what a pipeline could reach at most
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
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from extraction_programs import ALONE, ONNX_BY_HAND, PREPARE, TORCH, TUTORIAL
from headstart.extract.machine import versions

if TYPE_CHECKING:
    from collections.abc import Callable

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


def case(
    name: str,
    size: int,
    given: str | None,
    photos: Path,
    folder: Path,
    repeats: int,
    torch: str | None,
) -> dict:
    """All rates of one backbone at one size, a list for each."""
    images = sum(1 for _ in photos.rglob("*.jpg"))
    weights = given or str(folder / f"{name}-{size}.weights.h5")
    out = folder / "out.h5"
    _, said = run(python(PREPARE, name, size, weights, "given" if given else "new"))
    graph, operations = said.splitlines()[-2:]

    def programs(photos: Path) -> dict[str, list[str]]:
        ours = [sys.executable, "-m", "headstart.cli", "extract", str(photos), "-o", str(out)]
        ours += ["--backbone", name, "--size", str(size), "--weights", weights, "--engine"]
        found = {
            "tutorial": python(TUTORIAL, photos, name, weights, size, out),
            "keras": [*ours, "keras"],
            "f32": [*ours, "openvino"],
            "bf16": [*ours, "openvino", "--precision", "bf16"],
            "int8": [*ours, "openvino", "--precision", "int8"],
            "onnxruntime": [*ours, "onnxruntime"],
            "onnx by hand": python(ONNX_BY_HAND, photos, graph, size, out),
        }
        for precision in ("f32", "bf16") if torch else ():
            program = [torch, "-c", TORCH, str(photos), name, str(size), precision, str(out)]
            found[f"torch {precision}"] = program
        return found

    quantised = folder / f"{name}-{size}.int8.h5"
    for program in programs(folder / "40").values():
        out.unlink(missing_ok=True)
        run(program)
    out.unlink()
    run(programs(photos)["int8"])  # quantised once by these images, as the rounds find it
    out.replace(quantised)
    rates: dict[str, list[float]] = {}
    for round_ in range(1, repeats + 1):
        measured = {}
        for key, program in programs(photos).items():
            out.unlink(missing_ok=True)
            seconds, _ = run(program)
            measured[key] = images / seconds
        _, said = run(python(ALONE, photos, name, weights, size, 8, quantised))
        measured |= json.loads(said.splitlines()[-1])
        measured["roofline"] = roofline(int(operations))
        shown = ", ".join(f"{key} {rate:.1f}" for key, rate in measured.items())
        print(f"{name} {size}, round {round_}: {shown}", file=sys.stderr, flush=True)
        for key, rate in measured.items():
            rates.setdefault(key, []).append(round(rate, 2))
    return {"backbone": name, "size": size, "images": images, "rates": rates}


def ratios(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """What the issue is about: each a list with one ratio a round."""
    rounds = [dict(zip(rates, values, strict=True)) for values in zip(*rates.values(), strict=True)]
    found = {
        f"{key} / tutorial": [one[key] / one["tutorial"] for one in rounds]
        for key in (*OURS, *PEERS)
        if key in rates
    }
    for precision in ("f32", "bf16", "int8"):
        found[f"{precision} / ceiling"] = [
            one[precision] / one[f"ceiling {precision}"] for one in rounds
        ]
        found[f"{precision} / (decode + ceiling)"] = [
            one[precision] * (1 / one["decode"] + 1 / one[f"ceiling {precision}"]) for one in rounds
        ]
    found["int8 / bf16"] = [one["int8"] / one["bf16"] for one in rounds]
    found["ceiling f32 / roofline"] = [one["ceiling f32"] / one["roofline"] for one in rounds]
    return found


OURS = ("keras", "f32", "bf16", "int8", "onnxruntime")
PEERS = ("onnx by hand", "torch f32", "torch bf16")


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
        **versions("headstart", "tensorflow", "keras", "openvino", "onnxruntime", "nncf"),
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
    parser.add_argument("--torch", metavar="PYTHON", help="one that has torch and timm")
    asked = options(parser, table)
    result = {**machine(), "cases": []}
    if asked.torch:
        shown = "import timm, torch; print(torch.__version__, timm.__version__)"
        result["torch, timm"] = run([asked.torch, "-c", shown])[1].strip()
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
                photos = folder / str(count)
                result["cases"].append(
                    case(name, size, weights, photos, folder, asked.repeats, asked.torch)
                )
                if asked.json:
                    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
