"""What the driver of a cluster has to do for ten million images and a thousand workers.

    python benchmarks/scale.py [--images 10000000] [--workers 1000] [--whole 250000] [--json FILE]

No image is read and nothing is embedded: workers are simulated, the scheduling is the real one
(`extract/work/catch_up`, `extract/work/clusters`). A worker answers after the time that 256 images
take at 30 images/s, give or take a tenth; some die over their unit, and some units are the death of
every worker. Time is simulated: the next worker answers when the driver has given out all it may.
What is measured is the processor time of the driver, the reading of answers included, and the peak
memory of the whole process, the thousand simulated workers included. In a process each:

schedule   all images are given out, and what workers say of them is kept. The references come into
           being when a unit is cut, as does what is known of a file before it is read
whole      `headstart extract` of a smaller source, from the listing to the sealed file, with units
           of short vectors really published, once with a tenth of the images and once with all:
           what an image takes in the memory of the driver, and how many fit into 1 GB
"""

from __future__ import annotations

import argparse
import contextlib
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

from headstart.extract.backbones.request import Request
from headstart.extract.pipeline import run
from headstart.extract.sources.listing import Listing
from headstart.extract.work import catch_up, clusters, unit
from headstart.extract.work.clusters.parts import Parts
from headstart.extract.work.progress import Progress
from headstart.extract.work.summary import Found, Tally
from headstart.features.journal.known import Known
from simulated import RATE, UNIT, References, Simulated, Stats, Stub


def peak(who: int = resource.RUSAGE_SELF) -> int:
    """Of the memory of this process, in MB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(who).ru_maxrss * scale / 1e6)


def begun(workers: int, *, publish: bool) -> tuple[Simulated, Stub]:
    """A simulated cluster in the place of any other, and an embedding for it."""
    crew = Simulated(workers, publish=publish)
    clusters.crew = lambda _: contextlib.nullcontext(crew)
    return crew, Stub(Request.checked(backbone="Xception", weights="random"))


def schedule(images: int, workers: int) -> dict[str, Any]:
    """Give out so many images, and take back what became of them."""
    crew, embedding = begun(workers, publish=False)
    before, came_back = peak(), 0
    with tempfile.TemporaryDirectory() as folder:
        known = Known(Path(folder) / "out.h5", source="/data/photographs")
        job = unit.Job(embedding, known.out, known.source, False, (), None, known.turn)
        found, stats = Found(Tally()), Stats()
        parts, shown = Parts(References(images), UNIT, workers), Progress(images, shown=False)
        number = len(parts)
        wall, cpu = time.perf_counter(), time.thread_time()
        for done in catch_up._by_cluster(known, job, parts, "simulated", shown, lambda: None):
            found.add(done, stats)
            came_back += len(done.files)
        driver = time.thread_time() - cpu + crew.reading
        wall = time.perf_counter() - wall
    if came_back != images:
        raise SystemExit(f"{came_back} of {images} images came back")
    return {
        "images": images,
        "workers": workers,
        "units": number,
        "given out": crew.given_out,
        "deaths": crew.deaths,
        "driver, processor seconds": round(driver, 1),
        "units per second of the driver": round(number / driver, 1),
        "units per second of the workers": round(workers * RATE / UNIT, 1),
        "simulated seconds": round(crew.clock),
        "wall seconds, with the simulation": round(wall),
        "peak MB": peak(),
        "peak MB before": before,
    }


def whole(images: int, workers: int) -> dict[str, Any]:
    """A whole run of so many images."""
    crew, embedding = begun(workers, publish=True)
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.thread_time()
        listing = Listing("/data/photographs", list(References(images)))
        listed = peak()
        store = run(embedding, listing, Path(folder) / "out.h5", executor=crew)
        driver, wall = time.thread_time() - cpu + crew.reading, time.perf_counter() - wall
        if len(store) != images:
            raise SystemExit(f"{len(store)} of {images} images were sealed")
    return {
        "images": images,
        "deaths": crew.deaths,
        "driver, processor seconds": round(driver, 1),
        "wall seconds, with the simulation": round(wall),
        "peak MB": peak(),
        "peak MB before": before,
        "peak MB when listed": listed,
        "peak MB of the process that seals": peak(resource.RUSAGE_CHILDREN),
    }


def apart(part: str, images: int, workers: int) -> dict[str, Any]:
    """One part, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--images", str(images)]
    command += ["--workers", str(workers)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(part, json.dumps(found, indent=1), flush=True)
    return found


def main() -> None:
    """Measure all of it, or one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--whole", type=int, default=250_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=["schedule", "whole"])
    given = parser.parse_args()
    if given.part:
        part = schedule if given.part == "schedule" else whole
        print(json.dumps(part(given.images, given.workers)))
        return
    results: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    results["schedule"] = apart("schedule", given.images, given.workers)
    few, many = (apart("whole", count, given.workers) for count in (given.whole // 10, given.whole))
    each = 1e6 * (many["peak MB"] - few["peak MB"]) / (many["images"] - few["images"])
    fixed = many["peak MB"] - each * many["images"] / 1e6
    results |= {"whole, a tenth": few, "whole": many, "bytes an image": round(each)}
    results["images of a whole run in 1 GB"] = round((1000 - fixed) / each * 1e6)
    print(json.dumps(results, indent=1))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
