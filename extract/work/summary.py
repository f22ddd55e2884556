"""What a run did, where its time went, and what would make the next one faster."""

import array
import dataclasses
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import joblib
import numpy as np

from ...features.errors import install_command
from ...features.layout import DIGEST_BYTES
from ...features.records import UNREAD, FileStat, Key, SeenFile
from ...features.store import FeatureStore
from .. import machine
from ..backbones.request import Request
from ..embedding import Embedding
from ..engines import OPENVINO
from ..images.decode import KEPT
from .unit import Done

_LITTLE_S: Final = 5.0
"""A shorter run needs no advice."""

_IDLE: Final = 0.2
"""Share of the time that an engine may wait for images before they are what limits."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did; each image is counted once as embedded, reused, duplicate or skipped."""

    images: int
    """Listed by the source."""
    embedded: int
    """Distinct contents that went through the backbone as they are."""
    views: int
    """Further, augmented views that went through it."""
    reused: int
    """Distinct contents whose vectors were known from earlier runs."""
    duplicates: int
    """Further files with the bytes of one of those."""
    removed: int
    """Images that the file held before and the source lists no more."""
    skipped: int
    """Listed in the file with the reason."""
    unreachable: int
    """Of those reused or duplicate: images that could not be read now, whose vectors are kept."""
    weights: str
    """``"imagenet"``, ``"random"``, ``"quantised"`` or the weights file."""
    engine: str
    """What ran the backbone; empty if nothing had to be embedded."""
    seconds: dict[str, float]
    """``total``: wall time. ``load``: of the backbone. ``embed``: in which the engine was at work.
    ``waiting``: in which it had no images, between its first and its last. ``write``: of units,
    beside embedding, and sealing. ``read`` and ``decode`` are summed over the reading threads,
    which work beside all that: waiting for bytes, and processor time for hashing, decoding and
    resizing. With several workers ``embed``, ``waiting`` and ``write`` are summed over them, and
    ``load`` is that of the first."""
    rates: dict[str, float]
    """Per second: images in ``total``, views through the backbone of one worker (``embed``), and
    images that one core decodes (``decode``)."""
    limits: str
    """What took most of the time: ``"embed"``, ``"read"``, ``"decode"``, ``"write"`` or ``"load"``;
    empty after a short run."""
    advice: str
    """What follows from that; may be empty."""


@dataclasses.dataclass(frozen=True)
class ShardSummary:
    """What a shard did."""

    shard: str
    """Such as ``"3/8"``."""
    images: int
    """Those that are its own."""
    of: int
    """All images of the source."""
    embedded: int
    """Distinct contents that went through the backbone."""
    views: int
    """Further, augmented views that did."""
    skipped: int
    """Of its images: those that cannot be used."""
    seconds: float
    file: str = ""
    """Of one that is a file of its own: its name."""


class Tally:
    """What the units of a run came to."""

    def __init__(self) -> None:
        self._embedded: list[bytes] = []  # of each unit, joined: there may be millions
        self.views: set[Key] = set()
        self.decoded = 0
        self.environment: Mapping[str, Any] = {}
        self._seconds = dict.fromkeys(("read", "decode", "write"), 0.0)
        self._workers: dict[str, Done] = {}

    def add(self, done: Done) -> None:
        """Count a unit."""
        self._embedded.append(b"".join(done.embedded))
        self.views.update(done.views)
        self.decoded += done.decoded
        self.environment = done.environment or self.environment
        self._seconds["read"] += done.read_seconds
        self._seconds["decode"] += done.decode_seconds
        self._seconds["write"] += done.write_seconds
        before = self._workers.get(done.worker, done)
        # The clocks of a worker run on, and units may be heard of in another order.
        if done.worker and done.busy_seconds >= before.busy_seconds:
            self._workers[done.worker] = done

    @property
    def embedded(self) -> set[bytes]:
        """Digests of the contents that went through the backbone as they are."""
        size = DIGEST_BYTES
        return {unit[at : at + size] for unit in self._embedded for at in range(0, len(unit), size)}

    @property
    def workers(self) -> int:
        """How many made them."""
        return len(self._workers)

    @property
    def cores(self) -> int:
        """How many these have together; 0 if none said."""
        return sum(one.cores for one in self._workers.values())

    @property
    def seconds(self) -> dict[str, float]:
        """``load``, ``read``, ``decode``, ``embed``, ``write``, ``waiting``: see `Summary`."""
        workers = self._workers.values()
        return self._seconds | {
            "load": next((one.load_seconds for one in workers if one.load_seconds), 0.0),
            "embed": sum(one.busy_seconds for one in workers),
            "waiting": sum(one.idle_seconds for one in workers),
        }


class Found:
    """What units said of their images: no more than a few bytes are kept of each."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._said = array.array("q")

    def add(self, done: Done, stats: MutableMapping[bytes, FileStat]) -> None:
        """Take note of a unit, and in `stats` of images that were others than when listed."""
        self._tally.add(done)
        for file in done.files:
            self._said.append(hash((file.path, file.digest)))
            if stats.get(file.path) != file.stat:
                stats[file.path] = file.stat

    def lost(self, kept: Iterable[SeenFile | None]) -> int:
        """How many of them are not among the files that are `kept`."""
        there = array.array("q")
        for file in kept:
            if file is not None:  # what could not be read may be known from before
                there.append(hash((file.path, file.digest)))
                there.append(hash((file.path, UNREAD)))
        return int(np.count_nonzero(~np.isin(np.array(self._said), np.array(there))))


def summarise(
    store: FeatureStore,
    embedding: Embedding,
    tally: Tally,
    *,
    workers: int,
    removed: int,
    unreachable: int,
    sealing: float,
    total: float,
) -> Summary:
    """Sum a finished run up; `sealing` and `total` are seconds, the others images."""
    keys, images = set(store.keys), store.images
    contents = {digest for digest, _ in keys}
    embedded, views = len(contents & tally.embedded), len(keys & tally.views)
    skipped = len(store.skipped_files)
    seconds = {"total": total, **tally.seconds}
    seconds["load"] = seconds["load"] or embedding.load_seconds
    seconds["write"] += sealing
    counts = {"total": images + skipped, "embed": embedded + views, "decode": tally.decoded}
    rates = {
        name: round(count / seconds[name], 1) if seconds[name] else 0.0
        for name, count in counts.items()
    }
    cores = tally.cores or joblib.cpu_count()
    limits = limiting(seconds, workers, cores) if embedded + views else ""
    return Summary(
        images=images + skipped,
        embedded=embedded,
        views=views,
        reused=len(contents) - embedded,
        duplicates=images - len(contents),
        removed=removed,
        skipped=skipped,
        unreachable=unreachable,
        weights=str(embedding.request.weights),
        engine=str(tally.environment.get("engine", "")) if embedded + views else "",
        seconds={name: round(value, 3) for name, value in seconds.items()},
        rates=rates,
        limits=limits,
        advice=advice(limits, embedding.request, tally.environment, rates["decode"]),
    )


def together(parts: Sequence[Summary]) -> Summary:
    """What several runs did, one after the other."""
    numbers = ("images", "embedded", "views", "reused", "duplicates", "removed", "skipped")
    longest = max(parts, key=lambda one: one.seconds["total"])
    seconds, rates = dict.fromkeys(longest.seconds, 0.0), {}
    for name in seconds:
        seconds[name] = round(sum(one.seconds[name] for one in parts), 3)
    for name in longest.rates:
        done = sum(one.rates[name] * one.seconds[name] for one in parts)
        rates[name] = round(done / seconds[name], 1) if seconds[name] else 0.0
    return dataclasses.replace(
        longest,
        **{name: sum(getattr(one, name) for one in parts) for name in (*numbers, "unreachable")},
        engine=next((one.engine for one in parts if one.engine), ""),
        seconds=seconds,
        rates=rates,
    )


def limiting(seconds: Mapping[str, float], workers: int, cores: int) -> str:
    """What took most of the time of a run, whose workers shared so many cores; see `Summary`."""
    if seconds["total"] < _LITTLE_S:
        return ""
    if seconds["load"] > seconds["total"] / 2:
        return "load"
    if seconds["write"] > seconds["embed"]:
        return "write"
    there = seconds["embed"] + seconds["waiting"]
    if seconds["waiting"] > _IDLE * there:
        if seconds["write"] > seconds["waiting"] / 2:
            return "write"  # while this process wrote, the engine ran out of images
        return "read" if seconds["read"] > seconds["decode"] else "decode"
    # Where decoding and embedding share the cores neither waits; the one that uses more limits.
    if seconds["decode"] > cores * there / workers / 2:
        return "decode"
    return "embed"


def advice(
    limits: str, request: Request, environment: Mapping[str, Any], decode_rate: float
) -> str:
    """What follows from where the time went; may be empty."""
    if limits == "load":
        return "that costs the same for any number of images"
    if limits == "write":
        return "put the output on a faster disk"
    if limits == "read":
        return "the files come slowly; copy them to a faster disk first"
    if limits == "decode":
        return (
            f"one core decodes {decode_rate:.0f} images per second; a copy of them scaled down to "
            f"{KEPT * request.size} pixels is decoded faster every time"
        )
    faster = []
    engine = environment.get("engine")
    on_cpu = engine == OPENVINO or environment.get("device") == "CPU"
    if limits == "embed" and on_cpu and request.precision == "f32" and machine.has_bf16():
        faster.append("--precision bf16 is about twice as fast on this CPU, into a file of its own")
    elif limits == "embed" and on_cpu and request.precision == "f32" and machine.has_int8():
        faster.append("--precision int8 is faster on this CPU, into a file of its own")
    if limits == "embed" and on_cpu and not machine.installed(OPENVINO):
        faster.append(f"the openvino engine is faster on a CPU: {install_command(OPENVINO)}")
    return "; ".join(faster)
