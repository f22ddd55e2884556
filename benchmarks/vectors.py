"""Memory and time of importing vectors: 1,000,000 x 768 float32 from .npy, or as many as are asked.

python benchmarks/vectors.py [ROWS [DIMENSION]]
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_BLOCK = 10_000
_UNIT = 1 << (10 if sys.platform == "linux" else 0)
"""Bytes of which `ru_maxrss` counts."""


def make(folder: Path, rows: int, dimension: int) -> None:
    """Vectors of two classes in a .npy file, block by block, and their list."""
    rng = np.random.default_rng(0)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    with open(folder / "vectors.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, _BLOCK):
            size = min(_BLOCK, rows - start)
            file.write(rng.standard_normal((size, dimension), np.float32).tobytes())
    with open(folder / "list.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "label"])
        lines.writerows((f"document-{row}", "ab"[row % 2]) for row in range(rows))


def main(rows: int = 1_000_000, dimension: int = 768) -> None:
    """Import, in a process that has done nothing else, and print what it took."""
    from headstart.extract import import_vectors

    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        make(folder, rows, dimension)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
        started = time.perf_counter()
        store = import_vectors(
            folder / "vectors.npy", folder / "out.h5", list=folder / "list.csv", encoder="noise"
        )
        seconds = time.perf_counter() - started
        peaks = {
            who: resource.getrusage(which).ru_maxrss * _UNIT
            for who, which in (
                ("import", resource.RUSAGE_SELF),
                ("its child", resource.RUSAGE_CHILDREN),
            )
        }
        print(
            json.dumps(
                {
                    "rows": len(store),
                    "dimension": store.dimension,
                    "seconds": round(seconds, 1),
                    "MB before": before // 10**6,
                    **{f"peak MB of {who}": peak // 10**6 for who, peak in peaks.items()},
                }
            )
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
