"""The labelling page: how soon it answers, and what its order of images saves.

    python benchmarks/labelling.py latency                 20,000 x 2,048 made vectors
    python benchmarks/labelling.py labels PETS.h5          labels until 95% are right, 10 seeds

PETS.h5 is a feature file of labelled photographs, extracted by a pretrained backbone. Those of its
test split, or else a third of all, say how many are right; the others are labelled one by one, as
the page would show them: in the queue `uncertain`, of which every tenth is drawn, or in `random`.
"""

import argparse
import hashlib
import http.client
import io
import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from headstart.classify.studies.learner import Learner
from headstart.features import FeatureStore
from headstart.features.journal import units
from headstart.features.journal.known import Known
from headstart.features.journal.lock import exclusive
from headstart.features.journal.seal import seal
from headstart.features.layout import TEST
from headstart.features.origin import Origin
from headstart.features.records import FileStat, Listed, SeenFile
from headstart.pages.labelling import queues
from headstart.pages.labelling.labels import SHARE, Labels
from made import embeddings, origin
from PIL import Image

ROWS, DIMENSION, CLASSES = 20_000, 2048, 10
LABELS = 100
SEEDS = 10
ENOUGH, STEADY = 0.95, 5
MOST = 300


def images(folder: Path, number: int) -> list[SeenFile]:
    """Write so many small images, and say what extraction would have found."""
    found = []
    for image in range(number):
        file = io.BytesIO()
        colour = (image % 256, image // 256, 99)
        Image.new("RGB", (128, 128), colour).save(file, "PNG")
        path = folder / f"{image:06}.png"
        path.write_bytes(file.getvalue())
        stat = FileStat(path.name.encode(), len(file.getvalue()), 1, image + 1)
        found.append(SeenFile(stat, hashlib.sha256(file.getvalue()).digest(), 128, 128))
    return found


def file_of(folder: Path, vectors: np.ndarray, labels: list[str | None]) -> Path:
    """A feature file of made vectors, whose images are there."""
    (folder / "images").mkdir()
    files, out = images(folder / "images", len(vectors)), folder / "made.h5"
    made = origin(vectors.shape[1])
    source = str(folder / "images")
    made = Origin(made.provenance, {"source": source}, made.canary)
    listed = [Listed(one.stat, label, "none") for one, label in zip(files, labels, strict=True)]
    keyed = dict(zip((one.key for one in files), vectors, strict=True))
    with exclusive(out):
        units.publish(units.folder_of(out), made, files, keyed)
        seal(Known(out, source=source), listed)
    return out


class Page:
    """Asks the server as the page does."""

    def __init__(self, folder: Path, out: Path) -> None:
        started = time.perf_counter()
        names = ",".join(f"class {k}" for k in range(CLASSES))
        command = [sys.executable, "-P", "-m", "headstart.cli", "label", out, "--classes", names]
        self.process = subprocess.Popen(
            [*command, "--no-browser"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        self.address = next(
            filter(None, (re.search(r"http\S+", one) for one in self.process.stdout))
        )[0]
        self.up = time.perf_counter() - started
        self.host, _, token = self.address.removeprefix("http://").partition("/?token=")
        self.cookie = f"headstart-{self.host.split(':')[1]}={token}"
        self.connection = http.client.HTTPConnection(self.host, timeout=120)
        self.connection.connect()
        # Else the body of a request waits 40 ms for the header to be acknowledged.
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str, values: dict | None = None) -> bytes:
        """The answer to a request."""
        headers = {"Cookie": self.cookie}
        if values is None:
            self.connection.request("GET", path, headers=headers)
        else:
            headers |= {"Origin": f"http://{self.host}", "X-Headstart": "1"}
            headers["Content-Type"] = "application/json"
            self.connection.request("POST", path, json.dumps(values), headers)
        answer = self.connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (path, answer.status, data)
        return data

    def queue(self, name: str, wait: float = 1.2, count: int = 60) -> dict:
        """A queue, when all that it needs has been found."""
        found = {"pending": True}
        while found["pending"]:
            asked = {"queue": name, "count": count, "wait": wait}
            found = json.loads(self.ask("/api/queue", asked))
        return found

    @property
    def memory(self) -> float:
        """Of the server at its peak, in GB."""
        process = psutil.Process(self.process.pid)
        text = Path(f"/proc/{process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s*(\d+) kB", text)
        return int(peak[1]) / 1e6 if peak else process.memory_info().rss / 1e9


def latency() -> dict:
    vectors, codes = embeddings(ROWS, CLASSES, dimension=DIMENSION)
    found: dict = {"rows": ROWS, "dimension": DIMENSION, "classes": CLASSES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        out = file_of(folder, vectors, [None] * ROWS)
        page = Page(folder, out)
        try:
            started = time.perf_counter()
            page.ask("/")
            asked = {"queue": "uncertain", "count": 60, "wait": 0}
            first = json.loads(page.ask("/api/queue", asked))["images"]
            for one in first[:30]:
                page.ask(f"/image/{one['image']}?side=192&of={one['digest']}")
            found["seconds until the command is up"] = round(page.up, 2)
            found["seconds from there to the first grid"] = round(time.perf_counter() - started, 2)
            page.queue("uncertain")
            found["seconds from there until it learns"] = round(time.perf_counter() - started, 2)
            answered, refreshed = [], []
            order = [one["image"] for one in first]
            for _ in range(LABELS):
                image = order[0]
                started = time.perf_counter()
                told = {"labels": [[int(codes[image]), [image]]], "queue": "uncertain"}
                page.ask("/api/label", told)
                answered.append(time.perf_counter() - started)
                order = [one["image"] for one in page.queue("uncertain")["images"]]
                refreshed.append(time.perf_counter() - started)
            milliseconds = [1000 * one for one in answered]
            found["ms until a label is answered (median, most)"] = [
                round(statistics.median(milliseconds), 1),
                round(max(milliseconds), 1),
            ]
            found["ms until the queue after it is there (median, most)"] = [
                round(1000 * statistics.median(refreshed)),
                round(1000 * max(refreshed)),
            ]
            many = np.flatnonzero(np.arange(ROWS) % 2).tolist()
            by_class = [[k, [i for i in many if codes[i] == k]] for k in range(CLASSES)]
            started = time.perf_counter()
            page.ask("/api/label", {"labels": by_class, "queue": "all"})
            found["ms until 10,000 labels at once are answered"] = round(
                1000 * (time.perf_counter() - started)
            )
            page.queue("uncertain")
            found["ms until the queue after them is there"] = round(
                1000 * (time.perf_counter() - started)
            )
            found["peak GB"] = round(page.memory, 2)
            for name in ("unfamiliar", "suspects", "near-copies"):
                started = time.perf_counter()
                page.queue(name)
                found[f"seconds until {name} are found"] = round(time.perf_counter() - started, 2)
            started = time.perf_counter()
            while "x" not in json.loads(page.ask("/api/map")):
                pass
            found["seconds until the map is drawn"] = round(time.perf_counter() - started, 2)
            found["peak GB with all queues and the map"] = round(page.memory, 2)
        finally:
            page.process.send_signal(signal.SIGINT)
            page.process.wait(60)
    return found


def needed(store: FeatureStore, way: str, seed: int) -> int | None:
    """Labels until 95% of the held-out images are right, five times in a row."""
    generator = np.random.default_rng(seed)
    everything = np.flatnonzero((store.views == 0) & (store.labels >= 0))
    truth = store.labels[everything].astype(np.int32)
    held_out = store.splits[everything] == TEST
    if not held_out.any():
        held_out = generator.permutation(len(everything)) % 3 == 0
    labels = Labels(store, everything)
    labels.names = list(store.label_names)
    # As for a file without labels, in an order of this seed; what is held out is never shown.
    labels.order = generator.permutation(np.flatnonzero(~held_out))
    labels.kept = np.zeros(len(everything), np.bool_)
    labels.kept[labels.order[: len(labels.order) // SHARE]] = True
    labels.codes = np.full(len(everything), -1, np.int32)
    learner, right = Learner.of(store, everything), []
    beliefs = None
    for number in range(1, min(MOST, len(labels.order)) + 1):
        if way == "random":
            image = int(labels.order[labels.codes[labels.order] < 0][0])
        else:
            image = int(queues.uncertain(labels, beliefs)[0])
        asked, drawn = labels.asked
        labels.asked = asked + 1, drawn + bool(labels.kept[image])
        labels.codes[image] = truth[image]
        beliefs = learner.learn(labels.codes)
        share = 0 if beliefs is None else np.mean((beliefs.predicted == truth)[held_out])
        right.append(share >= ENOUGH)
        if all(right[-STEADY:]) and len(right) >= STEADY:
            return number - STEADY + 1
    return None


def labels_needed(path: str) -> dict:
    store = FeatureStore(path)
    found = {}
    for way in ("uncertain", "random"):
        counts = [needed(store, way, seed) for seed in range(SEEDS)]
        known = [MOST if one is None else one for one in counts]
        found[way] = {
            "labels": counts,
            "median": statistics.median(known),
            "mean": round(statistics.mean(known), 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("latency", "labels"))
    parser.add_argument("file", nargs="?", help="a feature file of labelled photographs")
    asked = parser.parse_args()
    found = latency() if asked.what == "latency" else labels_needed(asked.file)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
