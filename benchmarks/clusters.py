"""Two workers of a Dask cluster against one, each with a core of its own.

    python benchmarks/clusters.py PHOTOS [--images 1200] [--size 150] [--repeats 3] [--json FILE]

A scheduler and its workers are started anew for every run, each worker bound to one core with one
thread. Xception with random weights at 150 pixels embeds the photographs; which of the two goes
first alternates. The rate is of all images over the time from the command to the sealed file, less
that in which the first worker loads the backbone, for which the others wait: it is the same for a
thousand images and for a million.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from extraction import machine, options, photographs
from headstart.extract import extract


@contextlib.contextmanager
def cluster(workers: int, folder: Path) -> Iterator[str]:
    """The address of a scheduler with so many workers, each on a core of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    cores = sorted(os.sched_getaffinity(0))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    with contextlib.ExitStack() as started:
        port = address.rsplit(":", 1)[1]
        command = [*dask, "--host", "127.0.0.1", "--port", port]
        started.callback(subprocess.Popen(command, **quiet).kill)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
        for number in range(workers):
            process = subprocess.Popen([*worker, "--no-nanny", "--no-dashboard"], **quiet)
            started.callback(process.kill)
            os.sched_setaffinity(process.pid, {cores[number % len(cores)]})
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=120)
        yield address


def rate(workers: int, photos: Path, folder: Path, size: int) -> float:
    """Images a second."""
    with cluster(workers, folder) as address:
        store = extract(
            photos,
            folder / f"{workers}.h5",
            weights="random",
            size=size,
            fresh=True,
            executor=f"dask:{address}",
        )
    seconds = store.summary.seconds
    return len(store) / (seconds["total"] - seconds["load"])


def table(result: dict) -> str:
    """Markdown, a line for each run."""
    lines = ["| run | one worker, images/s | two | ratio |", "| --- | ---: | ---: | ---: |"]
    for number, (one, two) in enumerate(zip(result["one"], result["two"], strict=True), 1):
        lines.append(f"| {number} | {one:.1f} | {two:.1f} | {two / one:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--size", type=int, default=150)
    asked = options(parser, table)
    result = {**machine(), "images": asked.images, "size": asked.size, "one": [], "two": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = folder / "photos"
        photographs(asked.photos, photos, asked.images)
        for number in range(asked.repeats):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                found = rate(workers, photos, folder, asked.size)
                result["one" if workers == 1 else "two"].append(found)
                print(f"{workers}: {found:.1f} images/s", file=sys.stderr, flush=True)
    print(table(result))
    ratios = [two / one for one, two in zip(result["one"], result["two"], strict=True)]
    print(f"two workers / one: {statistics.median(ratios):.2f}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
