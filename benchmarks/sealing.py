"""Seconds of units, of sealing, opening and verifying, for few rows and for many.

    python benchmarks/sealing.py FOLDER [--rows 100000 1000000] [--json FILE]

Made-up vectors of 2,048 float32 in units of 256, published one by one as a run does, then sealed.
For each number of rows, in a process of its own: what a unit takes, what sealing takes (the process
that writes counted in), opening, verifying, reading all vectors, and the peak memory. A million
rows take 16.4 GB of the disk of FOLDER until they are sealed, and 8.2 GB then; all is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import made
import numpy as np
from headstart.features import FeatureStore, verify
from headstart.features.journal import units
from headstart.features.journal.known import Known
from headstart.features.journal.lock import exclusive
from headstart.features.journal.seal import seal
from headstart.features.records import FileStat, Listed, SeenFile

DIMENSION, UNIT = 2048, 256


class Clock:
    """Seconds since it was made: wall clock, and of this process and its children."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), self._processor()

    def seconds(self) -> dict[str, float]:
        """Both."""
        wall, processor = self._began
        now = time.perf_counter() - wall, self._processor() - processor
        return dict(zip(("wall", "processor"), (round(one, 2) for one in now), strict=True))

    @staticmethod
    def _processor() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def sealed(folder: Path, rows: int) -> dict[str, Any]:
    """Make a feature file of so many rows, look at it, and remove it."""
    found: dict[str, Any] = {"rows": rows}
    path, origin = folder / "made.h5", made.origin(DIMENSION)
    block = np.random.default_rng(0).standard_normal((UNIT, DIMENSION), np.float32)
    listing: list[Listed] = []
    took: list[float] = []
    with exclusive(path):
        for start in range(0, rows, UNIT):
            numbers = range(start, min(start + UNIT, rows))
            files = [
                SeenFile(
                    FileStat(f"class{row // 1000:04}/{row:010}.jpg".encode(), 1, row + 1, row + 1),
                    row.to_bytes(32, "little"),
                    640,
                    480,
                )
                for row in numbers
            ]
            block[:, 0] = start
            vectors = dict(zip((file.key for file in files), block, strict=False))
            listing += [
                Listed(file.stat, f"class{row % 1000}", "none")
                for row, file in zip(numbers, files, strict=True)
            ]
            clock = Clock()
            units.publish(units.folder_of(path), origin, files, vectors)
            took.append(clock.seconds())
        unit = next(iter(units.folder_of(path).glob("*.h5"))).stat().st_size
        found |= {"units": len(took), "bytes of a unit": unit}
        for clock_of in ("wall", "processor"):
            found[f"seconds a unit, {clock_of}"] = round(
                sum(one[clock_of] for one in took) / len(took), 4
            )
        clock = Clock()
        known = Known(path)
        found["reading units"] = clock.seconds()
        clock = Clock()
        seal(known, listing)
        found["sealing"] = clock.seconds()
    found["bytes a row"] = round(path.stat().st_size / rows)
    clock = Clock()
    store = FeatureStore(path)
    found["opening"] = clock.seconds()
    del known, listing
    clock = Clock()
    if verify(path):
        raise SystemExit("what was sealed is damaged")
    found["verifying"] = clock.seconds()
    clock = Clock()
    for start in range(0, rows, 4096):
        store.read_features(np.arange(start, min(start + 4096, rows)))
    found["reading all vectors"] = clock.seconds()
    for name, who in (("", resource.RUSAGE_SELF), (" of the child", resource.RUSAGE_CHILDREN)):
        found[f"peak MB{name}"] = round(resource.getrusage(who).ru_maxrss * 1024 / 1e6)
    return found


def main() -> None:
    """Measure all numbers of rows, or one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            print(json.dumps(sealed(Path(folder), given.rows[0])))
        return
    results: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    results["cases"] = []
    for rows in given.rows:
        command = [sys.executable, __file__, str(given.folder), "--one", "--rows", str(rows)]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        results["cases"].append(json.loads(said))
        print(said, flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
