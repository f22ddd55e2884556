"""Peak memory of `headstart extract` over few and over many images: it should not grow.

    python benchmarks/memory.py [FEW] [MANY]

Synthetic JPEGs of 320 x 240, each with bytes of its own, through MobileNetV2 at 96 pixels by each
engine, as whole processes (the child that seals counted in), after one run that fills the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def draw(folder: Path, count: int) -> None:
    """Write `count` JPEGs, a tenth in each of ten classes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (15, 20, 3), np.uint8)
        path = folder / f"class{number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path)


def peak(photos: Path, out: Path, engine: str) -> float:
    """Peak memory of one run in MB."""
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "headstart.cli", "extract", photos, "-o", out]
    command += ["--backbone", "MobileNetV2", "--size", "96", "--weights", "random"]
    process = subprocess.Popen(
        [*command, "--engine", engine], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"extract failed with status {status}")
    return usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    few, many = (int(sys.argv[k]) if len(sys.argv) > k else n for k, n in ((1, 2000), (2, 20_000)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        for count in (8, few, many):
            draw(folder / str(count), count)
        for engine in ("openvino", "keras"):
            peak(folder / "8", folder / "out.h5", engine)
            found = [peak(folder / str(count), folder / "out.h5", engine) for count in (few, many)]
            print(
                f"{engine}: {few:,} images {found[0]:.0f} MB, {many:,} images {found[1]:.0f} MB, "
                f"{found[1] - found[0]:+.0f} MB"
            )


if __name__ == "__main__":
    main()
