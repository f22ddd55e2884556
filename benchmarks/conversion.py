"""Peak memory of the first run with each backbone at its default size, with random weights.

    python benchmarks/conversion.py [--only NAME,NAME,...] [--engine openvino] [--json FILE]

A whole process embeds one image: for ``openvino`` the graph is built, calibrated and converted,
which a process of its own does; for ``keras`` it is built and calibrated. Given is the larger peak
of the two processes, and the graph's weights, one backbone after another, the large ones last; what
the JSON has already is not run again. `python benchmarks/conversion.py --table FILE` prints the
table again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from extraction import machine, options
from headstart.extract.backbones.architectures import ARCHITECTURES
from PIL import Image

LARGE = ("NASNetLarge", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2L", "ConvNeXtXLarge")


def first_run(name: str, engine: str, folder: Path) -> dict:
    """Peaks in MB of a process and its children, with an empty cache."""
    image = folder / "one" / "image.png"
    image.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        os.environ["HEADSTART_CACHE"] = cache
        command = [sys.executable, "-m", "headstart.cli", "extract", str(image.parent)]
        command += ["-o", str(Path(cache) / "one.h5"), "--labels", "none", "--backbone", name]
        command += ["--weights", "random", "--engine", engine]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        weights = sum(path.stat().st_size for path in Path(cache).glob("graphs/*/graph.bin"))
    return {
        "backbone": name,
        "size": ARCHITECTURES[name].size,
        "engine": engine,
        "failed": bool(status),
        "peak": round(usage.ru_maxrss * 1024 / 1e6),
        "weights": round(weights / 1e6, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


def table(result: dict) -> str:
    """Markdown, a line for each backbone."""
    lines = ["| backbone | pixels | weights, MB | peak of the first run, GB |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for one in sorted(result["backbones"], key=lambda one: one["backbone"]):
        peak = "fails" if one["failed"] else f"{one['peak'] / 1000:.1f}"
        cells = [one["backbone"], str(one["size"]), f"{one['weights']:.0f}", peak]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(ARCHITECTURES))
    parser.add_argument("--engine", default="openvino")
    asked = options(parser, table)
    result = {**machine(), "backbones": []}
    if asked.json and asked.json.exists():
        result["backbones"] = json.loads(asked.json.read_text())["backbones"]
    done = {one["backbone"] for one in result["backbones"]}
    names = [name for name in asked.only.split(",") if name not in done]
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(names, key=lambda name: (name in LARGE, ARCHITECTURES[name].size)):
            result["backbones"].append(first_run(name, asked.engine, Path(folder)))
            print(result["backbones"][-1], file=sys.stderr, flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
