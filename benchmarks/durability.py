"""What it costs that no work is ever lost: units, sealing and the look at what is known already.

    python benchmarks/durability.py [RUNS]

1. Units and sealing beside the same rows written straight into one HDF5 file, as a share of the
   time that Xception takes for as many images at 299 pixels (timed in the same run, on noise).
2. Memory of the process that has 200,000 x 2,048 rows sealed, and of the child that writes them.
3. `headstart extract` as a whole process over a folder of 10,000 files that it has seen.

Writing alternates between the two ways, after one round that is not counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import made
import numpy as np
from headstart.features.journal import units
from headstart.features.journal.known import Known
from headstart.features.journal.lock import exclusive
from headstart.features.journal.seal import seal
from headstart.features.records import FileStat, Listed, SeenFile

DIMENSION = 2048
UNIT_ROWS = 256
ORIGIN = made.origin(DIMENSION)


def listing(rows: int) -> list[SeenFile]:
    """Files as a large folder has them: paths of about 30 bytes."""
    return [
        SeenFile(
            FileStat(b"class_%03d/image_%09d.jpg" % (row * 100 // rows, row), 1, 1, row),
            digest(row),
            1,
            1,
        )
        for row in range(rows)
    ]


def digest(row: int) -> bytes:
    return row.to_bytes(32, "little")


def blocks(rows: int) -> Iterator[np.ndarray]:
    """Vectors of one unit after another."""
    generator = np.random.default_rng(0)
    for start in range(0, rows, UNIT_ROWS):
        shape = (min(UNIT_ROWS, rows - start), DIMENSION)
        yield generator.standard_normal(shape, np.float32)


def in_units(out: Path, rows: int) -> None:
    """The way of headstart."""
    files = listing(rows)
    with exclusive(out):
        publish(out, files)
        listed = [Listed(file.stat, "a", "none") for file in files]
        seal(Known(out), listed)


def publish(out: Path, files: list[SeenFile]) -> None:
    for number, block in enumerate(blocks(len(files))):
        part = files[number * UNIT_ROWS :][: len(block)]
        vectors = {file.key: row for file, row in zip(part, block, strict=True)}
        units.publish(units.folder_of(out), ORIGIN, part, vectors)


def straight(out: Path, rows: int) -> None:
    """The way that one would write by hand: one file, open until the end."""
    with h5py.File(out, "w") as file:
        features = file.create_dataset("features", (rows, DIMENSION), np.float32)
        file["paths"] = [one.path for one in listing(rows)]
        start = 0
        for block in blocks(rows):
            features[start : start + len(block)] = block
            start += len(block)


def timed(action, *arguments) -> float:
    started = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - started


def overhead(folder: Path, runs: int, rows: int = 2000) -> None:
    from headstart.extract.backbones.request import Request
    from headstart.extract.embedding import Embedding

    ours, theirs = [], []
    for number in range(runs + 1):
        ours.append(timed(in_units, folder / f"ours{number}.h5", rows))
        theirs.append(timed(straight, folder / f"theirs{number}.h5", rows))
    embedding = Embedding(Request.checked(weights="random"))
    images = np.random.default_rng(0).integers(0, 256, (32, 299, 299, 3), np.uint8)
    embedding.embed(images)
    rate = len(images) / statistics.median(timed(embedding.embed, images) for _ in range(3))
    extra = [one - other for one, other in zip(ours[1:], theirs[1:], strict=True)]
    shares = sorted(100 * seconds / (rows / rate) for seconds in extra)
    print(
        f"units and sealing, {rows:,} x {DIMENSION:,}: {statistics.median(ours[1:]):.2f} s; "
        f"straight into one file: {statistics.median(theirs[1:]):.2f} s; the difference is "
        f"{statistics.median(shares):.2f}% ({shares[0]:.2f} to {shares[-1]:.2f}) of embedding them "
        f"at {rate:.1f} images per second"
    )


def memory(folder: Path, rows: int = 200_000) -> None:
    out = folder / "large.h5"
    program = f"""
import resource, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from durability import *
out, rows = Path({str(out)!r}), {rows}
with exclusive(out):
    files = listing(rows)
    listed = [Listed(file.stat, "a", "none") for file in files]
    del files
    seconds = timed(lambda: seal(Known(out), listed))
print(seconds, *(resource.getrusage(who).ru_maxrss / 1024
      for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""
    publish(out, listing(rows))
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    seconds, parent, child = map(float, done.stdout.split())
    print(
        f"sealing {rows:,} x {DIMENSION:,}: {seconds:.1f} s; at most {parent:.0f} MiB in the "
        f"process that has it done, {child:.0f} MiB in the one that writes"
    )
    out.unlink()


def second_run(folder: Path, runs: int, files: int = 10_000) -> None:
    from PIL import Image

    photos = folder / "photos"
    generator = np.random.default_rng(0)
    for number in range(files):
        path = photos / f"class{number % 10}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    settings = ["--backbone", "MobileNetV2", "--weights", "random", "--size", "32"]
    command = [sys.executable, "-m", "headstart.cli", "extract", photos, "-o", folder / "seen.h5"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, *settings], check=True, **quiet)
    seconds = [
        timed(lambda: subprocess.run([*command, *settings], check=True, **quiet))
        for _ in range(runs + 1)
    ][1:]
    print(
        f"extract over {files:,} files seen before, whole process: "
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    )


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        second_run(Path(folder), runs)
        memory(Path(folder))
        overhead(Path(folder), runs)


if __name__ == "__main__":
    main()
