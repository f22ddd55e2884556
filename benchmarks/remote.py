"""How much faster images on a server are read many at a time than one by one.

    python benchmarks/remote.py [IMAGES [LATENCY]]

An S3 server on loopback, in a process of its own, waits LATENCY seconds (0.02) before each answer.
Small images (2 kB), so that answers and not bytes are waited for.

1. One by one: `cat_file` of s3fs, as it is installed, for the first 200 of them.
2. Many at a time by s3fs alone: the same, 64 under way on its own loop.
3. `look_ahead`, as every run uses it: read, hashed, found to be known.
4. A whole run that reads all images and embeds none (`rescan`), from the listing to the sealed
   file; beside the run that embedded them (with the mean colour for a backbone).
5. The same run, interrupted every few units until it is done: requests in all, and the digest.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from headstart.extract import pipeline
from headstart.extract.backbones.request import Request
from headstart.extract.sources.remote import scan as remote
from headstart.extract.work.readahead import look_ahead
from headstart.extract.work.threads import Threads
from headstart.features.journal import units
from headstart.features.records import SeenFile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import s3
from conftest import StubEmbedding

ONE_BY_ONE = 200
UNITS_TILL_INTERRUPTED = 7


def make_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 10}" / f"{number:06}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 28, 3), np.uint8)).save(path, compress_level=1)


class KnowsAll:
    """Knows every image, so that none is decoded."""

    def image(self, digest: bytes) -> SeenFile:
        """What was found in an image with these bytes."""
        return SeenFile(None, digest, 1, 1)


def one_by_one(keys: list[str]) -> float:
    import fsspec

    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    sizes = [fs.info(key)["size"] for key in keys[:1]]
    started = time.perf_counter()
    for key in keys:
        fs.cat_file(key, start=0, end=sizes[0] * 2)  # with a range it asks no size before
    return (time.perf_counter() - started) / len(keys)


def by_s3fs(keys: list[str]) -> float:
    import fsspec

    fs = fsspec.filesystem(
        "s3", skip_instance_cache=True, config_kwargs={"max_pool_connections": 64}
    )

    async def every() -> None:
        room = asyncio.Semaphore(64)

        async def one(key: str) -> None:
            async with room:
                await fs._cat_file(key, start=0, end=1 << 20)

        await asyncio.gather(*map(one, keys))

    fs.info(keys[0])
    started = time.perf_counter()
    fsspec.asyn.sync(fs.loop, every)
    return (time.perf_counter() - started) / len(keys)


def ahead(images) -> tuple[float, float]:
    request = Request.checked(weights="random", size=71)
    started, processor = time.perf_counter(), time.process_time()
    with Threads(os.cpu_count() or 1, "decode") as threads:
        looked = list(look_ahead(images, KnowsAll(), request, threads))
    assert [one.file.path for one in looked] == [image.path for image in images]
    assert not any(one.file.reason for one in looked)
    took = time.perf_counter() - started
    return took / len(looked), (time.process_time() - processor) / len(looked)


def run(out: Path, **more):
    started = time.perf_counter()
    store = pipeline.run(StubEmbedding(), remote.listed("s3://photos", {}), out, **more)
    return store, time.perf_counter() - started


def interrupted_often(out: Path):
    """Run until it is done, interrupted whenever a few units are published."""
    original, times, lock = units.publish, 0, threading.Lock()
    try:
        while True:
            published = 0

            def publish(*arguments):
                nonlocal published
                with lock:
                    if published == UNITS_TILL_INTERRUPTED:
                        raise KeyboardInterrupt
                    published += 1
                    return original(*arguments)

            units.publish = publish
            try:
                return run(out)[0], times
            except KeyboardInterrupt:
                times += 1
    finally:
        units.publish = original


def main(count: int = 10_000, latency: float = 0.02) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        make_images(folder / "photos", count)
        with s3.serving(folder / "photos", latency=latency) as server:
            os.environ.update(server.environment())
            started = time.perf_counter()
            images = remote.listed("s3://photos", {})
            listing = time.perf_counter() - started
            keys = [image.key for image in images]
            alone = one_by_one(keys[:ONE_BY_ONE])
            together = by_s3fs(keys[: count // 5])
            read, processor = ahead(images)
            embedded, first = run(folder / "whole.h5")
            again, second = run(folder / "whole.h5", rescan=True)
            assert again.content_digest == embedded.content_digest
            assert again.summary.embedded == 0
            server.clear()
            killed, times = interrupted_often(folder / "killed.h5")
            asked = sum(server.answered().values())
            assert killed.content_digest == embedded.content_digest
    found = {
        "images": count,
        "latency_ms": latency * 1e3,
        "listing_s": round(listing, 2),
        "one_by_one_ms": round(alone * 1e3, 2),
        "by_s3fs_ms": round(together * 1e3, 3),
        "by_s3fs_times_faster": round(alone / together, 1),
        "look_ahead_ms": round(read * 1e3, 3),
        "look_ahead_processor_ms": round(processor * 1e3, 3),
        "look_ahead_times_faster": round(alone / read, 1),
        "run_that_embeds_s": round(first, 2),
        "run_that_reads_all_again_s": round(second, 2),
        "run_that_reads_all_again_times_faster": round(alone * count / second, 1),
        "interrupted_times": times,
        "answers_of_the_interrupted_run": asked,
        "digest_is_the_same": True,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(*(float(one) if "." in one else int(one) for one in sys.argv[1:]))
