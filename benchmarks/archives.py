"""Extraction from archives beside that from the folder that they unpack to.

    python benchmarks/archives.py PHOTOS [RUNS] [--sizes 96 224] [--members 1000000]

1. `headstart extract` as a whole process over PHOTOS as a folder, a zip, a tar and a tar.gz:
   MobileNetV2 with random weights, a cached graph, and a new file each time. Every ratio is taken
   within one round, whose order changes, so that a busy machine disturbs all alike; it is given as
   median (lowest to highest) after a round that is not counted. The files must have the same rows.
2. What listing archives of a million small members takes, each in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from headstart.features.store import FeatureStore

LISTED = """
import resource, sys, time
from headstart.extract import scan
started = time.perf_counter()
listing = scan(sys.argv[1])
listed = time.perf_counter() - started
stats = [image.stat() for image in listing]
print(len(listing), listed, time.perf_counter() - started - listed,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def packed(photos: Path, folder: Path) -> dict[str, Path]:
    """PHOTOS in each kind of archive."""
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.relative_to(photos))
    for name, mode in (("photos.tar", "w"), ("photos.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:
            for path in paths:
                archive.add(path, path.relative_to(photos))
    kinds = {suffix: folder / f"photos.{suffix}" for suffix in ("zip", "tar", "tar.gz")}
    return {"folder": photos, **kinds}


def extracted(source: Path, out: Path, size: int) -> float:
    """Seconds of a whole process that makes a new file."""
    command = [sys.executable, "-m", "headstart.cli", "extract", source, "-o", out, "--fresh"]
    settings = ["--backbone", "MobileNetV2", "--weights", "random", "--size", str(size)]
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run(
        [*command, *settings], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def speed(photos: Path, folder: Path, runs: int, size: int) -> None:
    sources = packed(photos, folder)
    rounds = []
    for number in range(runs + 1):
        order = list(sources)
        order = order[number % len(order) :] + order[: number % len(order)]
        rounds.append(
            {kind: extracted(sources[kind], folder / f"{kind}.h5", size) for kind in order}
        )
    rows = {kind: content(folder / f"{kind}.h5") for kind in sources}
    for kind in sources:
        ratios = sorted(one["folder"] / one[kind] for one in rounds[1:])
        seconds = statistics.median(one[kind] for one in rounds[1:])
        print(
            f"{size} pixels, {kind:7}: {seconds:6.2f} s, {100 * statistics.median(ratios):.1f}% of "
            f"the folder's speed ({100 * ratios[0]:.1f} to {100 * ratios[-1]:.1f}); rows "
            f"{'the same' if rows[kind] == rows['folder'] else 'DIFFERENT'}"
        )


def content(file: Path) -> tuple[object, ...]:
    """Rows of a file, without what engines round."""
    store = FeatureStore(file)
    return list(store.paths), list(store.labels), list(store.splits), store.digests.tobytes()


def million(folder: Path, members: int) -> None:
    """Archives of many small members; those of one class lie apart."""
    names = [f"class{number % 1000:03}/{number:07}.jpg" for number in range(members)]
    with zipfile.ZipFile(folder / "many.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    with tarfile.open(folder / "many.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
            archive.members = []  # type: ignore[attr-defined]
    for name in ("many.zip", "many.tar"):
        done = subprocess.run(
            [sys.executable, "-c", LISTED, folder / name],
            check=True,
            capture_output=True,
            text=True,
        )
        number, listed, stats, memory = map(float, done.stdout.split())
        print(
            f"{name} of {number:,.0f} members: listed in {listed:.1f} s, stamped in {stats:.1f} s, "
            f"at most {memory:.0f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("runs", type=int, nargs="?", default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 224])
    parser.add_argument("--members", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            speed(options.photos.resolve(), Path(folder), options.runs, size)
        if options.members:
            million(Path(folder), options.members)


if __name__ == "__main__":
    main()
