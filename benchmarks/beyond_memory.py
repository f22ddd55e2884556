"""Heads for a feature file that does not fit into memory: memory, time and what it costs.

    python benchmarks/beyond_memory.py FOLDER [--rows 1000000] [--few 100000] [--json FILE]

Made-up embeddings of 2,048 numbers and two classes, written straight into feature files (one of a
million rows takes 8.2 GB of the disk of FOLDER, one of 100,000 another 0.8; all are removed at the
end). Then, in a process each, with its peak memory (VmHWM: of that program alone, and only on
Linux), its minutes on the clock and its seconds of processor time:

open       opening the large file
train      `headstart train --head logistic` on the large file, from the vectors to the saved head
in memory  the same on the few
in blocks  the same on the few, with vectors read in blocks although they would fit

and the log loss of each head on 20,000 further rows of the same distribution.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import made
import numpy as np
from headstart.classify import load_head
from headstart.features import FeatureStore, layout
from headstart.features.provenance.augmentation import NO_AUGMENTATION
from headstart.features.verification import content_digest

DIMENSION, HIDDEN, BLOCK = 2048, 400, 8192
FURTHER = 20_000

OPEN = """
import sys, time
from headstart.features import FeatureStore
started = time.perf_counter()
store = FeatureStore(sys.argv[1])
print(time.perf_counter() - started, len(store))
"""

PEAK = """
import atexit
def told():
    with open("/proc/self/status") as status:
        print(*(line for line in status if line.startswith("VmHWM:")), flush=True)
atexit.register(told)
"""

TRAIN = """
import sys
from headstart.classify.examples import stored
stored.SHARE = float(sys.argv[1])
if not stored.SHARE:
    stored.LEAST = 0
from headstart.cli import main
main(["train", sys.argv[2], "-o", sys.argv[3], "--json"])
"""


class Distribution:
    """Vectors as of `made.embeddings`, of two classes that overlap, in any number of blocks."""

    def __init__(self, dimension: int = DIMENSION, hidden: int = HIDDEN) -> None:
        generator = np.random.default_rng(0)
        self.dimension = dimension
        self._centres = generator.normal(size=(2, hidden)).astype(np.float32)
        self._centres *= 0.15 * (np.arange(hidden) >= min(20, hidden // 4))
        self._falling = (np.arange(1, hidden + 1) ** -0.5).astype(np.float32)
        self._mixed = generator.normal(size=(hidden, dimension)).astype(np.float32)
        self._mixed /= np.sqrt(np.square(self._falling).sum())
        self._scales = generator.lognormal(-1.5, 0.7, dimension).astype(np.float32)

    def block(self, codes: np.ndarray, seed: int) -> np.ndarray:
        """(n, D) float32 of (n,) classes; the same for the same seed."""
        generator = np.random.default_rng(seed)
        latent = generator.standard_normal((len(codes), len(self._falling)), np.float32)
        latent = (latent + self._centres[codes]) * self._falling
        vectors = latent @ self._mixed
        vectors += 0.3 * generator.standard_normal(vectors.shape, np.float32)
        vectors *= 2
        vectors -= 1.5
        np.exp(vectors, out=vectors)
        np.log1p(vectors, out=vectors)
        vectors *= self._scales
        return vectors

    def blocks(self, codes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
        """The same for any number of rows."""
        for start in range(0, len(codes), BLOCK):
            yield self.block(codes[start : start + BLOCK], seed + start)


def write(
    path: Path, codes: np.ndarray, blocks: Iterator[np.ndarray], dimension: int, first: int = 0
) -> None:
    """A feature file of (N,) sorted classes and their vectors, as FORMAT.md describes it.

    Images are numbered from `first` on: no two of one number are in two files by chance.
    """
    rows, origin = len(codes), made.origin(dimension)
    paths = np.char.add(
        np.array([b"cat/", b"dog/"])[codes], np.char.zfill(np.arange(rows).astype("S9"), 9)
    )
    digests = np.zeros((rows, layout.DIGEST_BYTES), np.uint8)
    digests.view(">u8")[:, 0] = np.arange(first, first + rows)
    columns = {
        layout.PATHS: paths,
        layout.LABELS: codes.astype(np.int32),
        layout.LABEL_NAMES: np.array([b"cat", b"dog"]),
        layout.SPLITS: np.zeros(rows, np.int8),
        layout.GROUPS: np.full(rows, layout.NO_GROUP, np.int32),
        layout.GROUP_NAMES: np.zeros(0, "S1"),
        layout.VIEWS: np.zeros(rows, np.int16),
        layout.DIGESTS: digests,
        layout.STATS: np.ones(rows, layout.STATS_DTYPE),
        layout.SKIPPED: np.zeros(0, layout.files_dtype(1, 1)),
        layout.CANARY: origin.canary,
    }
    with h5py.File(path, "w", libver=layout.HDF5_VERSION) as file:
        provenance = origin.provenance.to_json()
        layout.set_head(file, layout.FORMAT, provenance, NO_AUGMENTATION.to_json(), {})
        layout.set_text(file, layout.FINGERPRINT_ATTRIBUTE, origin.provenance.fingerprint)
        for name, array in columns.items():
            layout.create(file, name, array.shape, array.dtype)[...] = array
        dtype = np.dtype(np.float32)
        features = layout.create(file, layout.FEATURES, (rows, dimension), dtype)
        start = 0
        for block in blocks:
            features[start : start + len(block)] = block
            start += len(block)
        layout.set_text(
            file, layout.CONTENT_DIGEST_ATTRIBUTE, content_digest(file, origin.provenance)
        )


def measured(program: str, *arguments: object) -> dict[str, Any]:
    """Run a program in a process of its own; what it printed, its peak memory and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PEAK + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments} failed with status {status}")
    printed, _, peak = printed.rpartition("VmHWM:")
    return {
        "printed": printed,
        "peak_gb": int(peak.split()[0]) * 1024 / 1e9,
        "seconds": time.perf_counter() - started,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown, a line for each training."""
    lines = [
        "| rows | vectors | peak | minutes | log loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, rows, how in (
        ("train", found["rows"], "in blocks"),
        ("in blocks", found["few"], "in blocks"),
        ("in memory", found["few"], "in memory"),
    ):
        one, vectors = found[name], rows * DIMENSION * 4 / 1e9
        lines.append(
            f"| {rows:,} {how} | {vectors:.1f} GB | {one['peak_gb']:.2f} GB "
            f"| {one['seconds'] / 60:.1f} | {one['log_loss']:.5f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": options.rows, "few": options.few}
    distribution = Distribution()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        os.environ["HEADSTART_STATE"] = str(folder)
        further = (np.arange(FURTHER) % 2).astype(np.intp)
        vectors = np.concatenate(list(distribution.blocks(further, 10**9)))

        def log_loss(head: Path) -> float:
            probabilities = load_head(head).predict(vectors).probabilities
            return float(-np.log(probabilities[np.arange(FURTHER), further]).mean())

        for name, rows, seed in (("large", options.rows, 0), ("few", options.few, 10**8)):
            started = time.perf_counter()
            codes = np.sort(np.arange(rows) % 2)
            write(folder / f"{name}.h5", codes, distribution.blocks(codes, seed), DIMENSION, seed)
            size = (folder / f"{name}.h5").stat().st_size
            seconds = time.perf_counter() - started
            print(f"{name}: {rows:,} rows, {size / 1e9:.2f} GB, written in {seconds:.0f} s")
        runs = {
            "open": (OPEN, folder / "large.h5"),
            "train": (TRAIN, 0, folder / "large.h5", folder / "large.joblib"),
            "in memory": (TRAIN, 1, folder / "few.h5", folder / "memory.joblib"),
            "in blocks": (TRAIN, 0, folder / "few.h5", folder / "blocks.joblib"),
        }
        for name, (program, *arguments) in runs.items():
            found[name] = one = measured(program, *arguments)
            line = f"{name}: peak {one['peak_gb']:.2f} GB, {one['seconds'] / 60:.2f} minutes"
            line += f" ({one['processor_seconds']:.1f} s of processor time)"
            printed = one.pop("printed")
            if name == "open":
                one["open_seconds"] = float(printed.split()[0])
                line += f"; FeatureStore() took {one['open_seconds']:.3f} s"
            else:
                scores = json.loads(printed)
                one |= {key: scores[key] for key in ("parameters", "accuracy", "rows", "notes")}
                one["scored_log_loss"] = scores["log_loss"]
                one["log_loss"] = log_loss(arguments[-1])
                line += f"; log loss {one['log_loss']:.5f} on further rows"
                line += f", {one['scored_log_loss']:.5f} by its own scores; {one['parameters']}"
            print(line, flush=True)
        print(table(found))
        loss, fitting = (found[name]["log_loss"] for name in ("train", "in memory"))
        print(f"log loss of all in blocks to that of the few in memory: {loss / fitting - 1:+.2%}")
        blocks = found["in blocks"]["log_loss"]
        print(f"log loss of the few in blocks to that in memory: {blocks / fitting - 1:+.2%}")
        print(f"opened: {FeatureStore(folder / 'large.h5')!r}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
