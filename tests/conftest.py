"""Small images, a stand-in for the backbone, and the command line in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from headstart.extract.backbones.build import Backbone
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.images.synthetic import canary_images
from headstart.features.journal import units
from headstart.features.origin import Origin
from headstart.features.store import FeatureStore
from PIL import Image
from sklearn.preprocessing import StandardScaler

COLOURS = {"blue": (30, 60, 200), "red": (200, 40, 30), "green": (40, 180, 60)}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Graphs that the tests convert are used again by other tests, and not by the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory, monkeypatch):
    """Heads written by one test are not trusted by the next, nor by the user's own headstart."""
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def data() -> Path:
    """Real photographs and weights, where the machine has them."""
    folder = os.environ.get("HEADSTART_TEST_DATA")
    if not folder:
        pytest.skip("HEADSTART_TEST_DATA names no folder with real photographs and weights")
    return Path(folder)


def _write_image(path: Path, seed: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Path:
    """Write a noisy image of about one colour; each seed gives other bytes."""
    noise = np.random.default_rng(seed).integers(-25, 26, (24, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def write_image():
    return _write_image


@pytest.fixture(scope="session")
def fill_photos():
    return _fill_photos


@pytest.fixture
def photos(tmp_path) -> Path:
    """Nine images each of blue and red things, in a folder per class."""
    return _fill_photos(tmp_path / "photos")


def _fill_photos(folder: Path, names: tuple[str, ...] = ("blue", "red"), count: int = 9) -> Path:
    for number, name in enumerate(names):
        for index in range(count):
            _write_image(
                folder / name / f"{name}{index:02}.png", 100 * number + index, COLOURS[name]
            )
    return folder


class _MeanColour:
    """An engine of eight numbers an image, so that the pipeline can be tested without Keras."""

    batch = 4
    calls = 1

    def __init__(self) -> None:
        self.images = 0

    def embed(self, images):
        self.images += len(images)
        halves = np.array_split(images.astype(np.float32), 2, axis=1)
        means = [half.mean(axis=(1, 2)) for half in halves]
        spread = [images.std(axis=(1, 2)).mean(axis=1, keepdims=True), np.ones((len(images), 1))]
        return np.concatenate([*means, *spread], axis=1).astype(np.float32) / 100


def _ready(vectors):
    call = Future()
    call.set_result(vectors)
    return call


class StubEmbedding(Embedding):
    """An Embedding whose backbone is the mean colour of an image."""

    def __init__(self, weights_digest: str = "0" * 64, **settings) -> None:
        super().__init__(Request.checked(**{"weights": "random", "size": 71} | settings))
        self._stub = _MeanColour()
        self._canary = None
        self._weights_digest = weights_digest
        self.loads = 0

    @property
    def _loaded(self):
        self.loads += 1
        return Backbone(None, self._weights_digest, self.request.size, 8), self._stub

    @property
    def engine(self):
        return self._stub

    @engine.setter
    def engine(self, engine):
        self._stub = engine

    def submit(self, images):
        return _ready(self.engine.embed(np.stack(images)))

    @property  # a cached_property has a lock, which no other process can be sent
    def canary_calls(self):
        if self._canary is None:
            self._canary = self.engine.embed(canary_images(self.request.size, self.request.fit))
        return [_ready(self._canary)]

    def unloaded(self, share):
        stub = StubEmbedding.__new__(StubEmbedding)
        stub.__dict__.update(self.__dict__)
        stub._canary = None
        return stub

    @property
    def environment(self):
        return {"weights": self.request.weights.record(), "device": "test"}


@pytest.fixture
def stub() -> StubEmbedding:
    return StubEmbedding()


@pytest.fixture(scope="session")
def make_stub():
    return StubEmbedding


@pytest.fixture(scope="module")
def expected(photos, make_stub, tmp_path_factory):
    """The content digest that a run in one process comes to, of the photos that a module has."""
    from headstart.extract.pipeline import run

    return run(make_stub(), photos, tmp_path_factory.mktemp("whole") / "out.h5").content_digest


@pytest.fixture
def stand_in(monkeypatch, make_stub):
    """Have stand-ins made where modules name the class Embedding; a list of those made."""

    def put(*modules: str) -> list[StubEmbedding]:
        made: list[StubEmbedding] = []

        class StandIn:
            def __new__(cls, request, *how):
                stub = make_stub()
                stub.request = request
                made.append(stub)
                return stub

            @classmethod
            def of(cls, origin, **how):
                real = Embedding.of(origin, **how)
                stub = cls(real.request)
                stub.must_fit = real.must_fit
                return stub

        for module in modules:
            monkeypatch.setattr(import_module(f"headstart.{module}"), "Embedding", StandIn)
        # What is loaded ahead is a real one.
        ahead = import_module("headstart.apply.ahead")
        monkeypatch.setattr(ahead, "loading", lambda *_: contextlib.nullcontext())
        return made

    return put


@pytest.fixture
def interrupt_after():
    """Within `with interrupt_after(n):` Ctrl-C comes when n units have been published."""

    @contextlib.contextmanager
    def interrupt(count: int):
        original, published, one_at_a_time = units.publish, [], threading.Lock()

        def publish(*arguments):
            with one_at_a_time:
                if len(published) == count:
                    raise KeyboardInterrupt
                published.append(original(*arguments))
                return published[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(units, "publish", publish)
            yield

    return interrupt


@pytest.fixture
def interrupted_after(interrupt_after):
    """The same, and the interrupt arrives in the test."""

    @contextlib.contextmanager
    def interrupted(count: int):
        with interrupt_after(count), pytest.raises(KeyboardInterrupt):
            yield

    return interrupted


@pytest.fixture
def lossy(monkeypatch):
    """Have the scheduler of a Dask client go away, so many times, when it is asked for a result."""

    def put(client, times: int) -> None:
        gather, left = client.gather, iter(range(times))

        async def fails(theirs, **how):
            await theirs._state.wait()
            if next(left, None) is not None:
                raise OSError("Stream is closed")
            return await gather(theirs, **how)

        monkeypatch.setattr(client, "gather", fails)

    return put


@pytest.fixture
def send_whole():
    """Let worker processes have the classes of this file and a test's: they can import neither."""
    sent = []

    def send(*modules: str) -> None:
        for name in (__name__, *modules):
            cloudpickle.register_pickle_by_value(sys.modules[name])
            sent.append(sys.modules[name])

    yield send
    for module in sent:
        cloudpickle.unregister_pickle_by_value(module)


class ShrunkenScaler(StandardScaler):
    """The scaler that heads begin with, by its formula, for oracles of plain scikit-learn.

    Variances are shrunk towards their mean, as if that had been seen in 100 more rows.
    """

    def fit(self, features, y=None):
        super().fit(features.astype(np.float64))
        rows, common = len(features), self.var_.mean()
        self.scale_ = np.sqrt((rows * self.var_ + 100 * common) / (rows + 100))
        return self


@pytest.fixture
def shrunken_scaler():
    """A fresh one."""
    return ShrunkenScaler()


@pytest.fixture
def make_store(tmp_path):
    """Seal a feature file straight from arrays, as if its images had been embedded."""

    def make(
        features,
        labels,
        *,
        splits=None,
        groups=None,
        contents=None,
        views=(),
        views_of="training",
        name="made.h5",
        weights_digest="0" * 64,
        dtype="float32",
    ) -> FeatureStore:
        from headstart.features.journal.known import Known
        from headstart.features.journal.lock import exclusive
        from headstart.features.journal.seal import seal
        from headstart.features.provenance.augmentation import NO_AUGMENTATION, Augmentation
        from headstart.features.records import FileStat, Listed, SeenFile

        features = np.asarray(features, dtype)
        embedding = StubEmbedding(weights_digest, dtype=dtype)
        provenance = dataclasses.replace(embedding.provenance, dimension=features.shape[1])
        contents = range(len(features)) if contents is None else contents
        digests = [int(content).to_bytes(32, "little") for content in contents]
        files = [
            SeenFile(FileStat(f"{row:06}.png".encode(), 1, 1, row + 1), digest, 5, 5)
            for row, digest in enumerate(digests)
        ]
        out = tmp_path / name
        canary = np.ones((8, features.shape[1]), dtype)
        splits = ["none"] * len(files) if splits is None else splits
        groups = [None] * len(files) if groups is None else groups
        listing = [
            Listed(file.stat, *said)
            for file, *said in zip(files, labels, splits, groups, strict=True)
        ]
        vectors = dict(zip((file.key for file in files), features, strict=True))
        augmentation = NO_AUGMENTATION
        if len(views):  # (V, N, D): views 1 and up of each image
            augmentation = Augmentation(len(views) + 1, "flip=0.5;1", views_of)
            for number, of_number in enumerate(views, 1):
                rows = np.asarray(of_number, dtype)
                vectors |= {
                    (file.digest, number): row for file, row in zip(files, rows, strict=True)
                }
        with exclusive(out):
            units.publish(
                units.folder_of(out),
                Origin(provenance, embedding.environment, canary, augmentation=augmentation),
                files,
                vectors,
            )
            return seal(Known(out), listing, augmentation)

    return make


@dataclasses.dataclass
class Outcome:
    code: int
    out: str
    err: str

    def failure(self, code: int = 1) -> str:
        """The one line, after any progress, in which a command says why it failed."""
        assert self.code == code, self
        assert self.out == ""
        *before, line = self.err.strip().splitlines()
        assert line.startswith("headstart: ")
        assert not [other for other in before if other.startswith(("headstart: ", "Traceback"))]
        return line


@pytest.fixture
def cli(capfd):
    """Run the command line in this process."""
    from headstart.cli import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(exit_.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def served():
    """An S3 server on this machine."""
    import s3

    with s3.serving() as server:
        yield server


@pytest.fixture(scope="module")
def clients():
    """Those that are open."""
    return {}


@pytest.fixture
def opened_once(request, clients, monkeypatch):
    """Have clients of the server opened once a module: that takes longer than most tests."""
    import s3

    if "anew" not in request.fixturenames:
        s3.open_once(monkeypatch, clients)


@pytest.fixture
def anew():
    """Open them each time: of a test of how they are opened."""
