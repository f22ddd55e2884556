"""Several worker processes: real ones, with a stand-in for the backbone."""

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import loky
import numpy as np
import pytest
from headstart.extract import pipeline, scan
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.sources.image import ImageReference
from headstart.features import (
    BackboneError,
    FeatureStore,
    HeadstartError,
    ProvenanceMismatch,
    WrongUsage,
    verify,
)
from headstart.features.journal import units


@pytest.fixture(autouse=True)
def _workers_have_the_classes_of_this_file(send_whole):
    send_whole(__name__)


run = functools.partial(pipeline.run, unit_images=5)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def engine(make_stub):
    """A stand-in whose engine does something else after a number of images in one process."""

    def make(change, after=8):  # the canary is of 8 images
        stub = make_stub()
        stub.engine = _Changed(stub.engine, change, after)
        return stub

    return make


class _Changed:
    batch = 4
    calls = 1

    def __init__(self, engine, change, after):
        self.engine, self.change, self.after, self.images = engine, change, after, 0

    def embed(self, images):
        self.images += len(images)
        vectors = self.engine.embed(images)
        return vectors if self.images <= self.after else self.change(vectors)


def not_finite(vectors):
    return vectors * np.float32("nan")


def die(vectors):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_number_of_workers_does_not_show_in_the_file(photos, out, stub, make_stub):
    (photos / "blue" / "page.png").write_bytes(b"<html>")
    (photos / "red" / "twin.png").write_bytes((photos / "blue" / "blue00.png").read_bytes())
    run(stub, photos, out)
    four = make_stub()
    summary = run(four, photos, out.with_name("four.h5"), workers=4).summary
    assert (summary.embedded, summary.duplicates, summary.skipped) == (18, 1, 1)
    assert four.loads == 0  # this process only reads
    one, other = FeatureStore(out), FeatureStore(out.with_name("four.h5"))
    assert one.content_digest == other.content_digest
    assert one.skipped == other.skipped
    assert verify(other.path) == []


def test_workers_are_not_started_when_nothing_is_new(photos, out, stub, make_stub, monkeypatch):
    run(stub, photos, out)
    (photos / "red" / "red00.png").rename(photos / "red" / "renamed.png")
    monkeypatch.setattr(loky.ProcessPoolExecutor, "submit", None)
    summary = run(make_stub(), photos, out, workers=2).summary
    assert (summary.embedded, summary.reused) == (0, 18)


def test_an_error_in_a_worker_is_the_error_of_the_run(photos, out, engine):
    with pytest.raises(BackboneError, match="not finite"):
        run(engine(not_finite), photos, out, workers=2)
    assert not out.exists()


def test_workers_that_would_compute_other_vectors_are_refused(
    photos, out, stub, make_stub, write_image
):
    run(stub, photos, out)
    write_image(photos / "blue" / "new.png", 1)
    with pytest.raises(ProvenanceMismatch, match="weights_digest"):
        run(make_stub("1" * 64), photos, out, workers=2)


class _OnlyInOneProcess:
    """An engine that computes something else in every process but the first that asks."""

    batch = 4
    calls = 1

    def __init__(self, engine, marker):
        self.engine, self.marker = engine, marker

    def embed(self, images):
        try:
            with open(self.marker, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass
        time.sleep(0.3)  # so that the others get work too
        other = self.marker.read_text() != str(os.getpid())
        return self.engine.embed(images) * np.float32(1.01 if other else 1)


def test_a_worker_that_computes_other_vectors_publishes_none_of_them(
    photos, out, make_stub, tmp_path
):
    stub = make_stub()
    stub.engine = _OnlyInOneProcess(stub.engine, tmp_path / "marker")
    with pytest.raises(ProvenanceMismatch, match="test images come out differently"):
        run(stub, photos, out, workers=2, unit_images=1)
    run(make_stub(), photos, out)
    run(make_stub(), photos, out.with_name("one.h5"))
    digests = {FeatureStore(out.with_name(name)).content_digest for name in (out.name, "one.h5")}
    assert len(digests) == 1


class _Buggy(ImageReference):
    def read(self):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_while_reading_ends_the_run_and_does_not_hang_it(photos, out, stub, workers):
    listing = scan(photos)
    images = [*listing[:13], _Buggy(listing[13].path, listing[13].location), *listing[14:]]
    listing = dataclasses.replace(listing, images=images)
    with pytest.raises(RuntimeError, match="a bug"):
        run(stub, listing, out, workers=workers, unit_images=2)


def test_units_that_race_for_the_same_bytes_end_in_the_same_file(
    photos, out, make_stub, monkeypatch
):
    """Every image three times, so that each process meets what others are embedding too."""
    for path in sorted(photos.rglob("*.png")):
        for twin in "ab":
            (path.parent / f"{twin}-{path.name}").write_bytes(path.read_bytes())
    seal, published = pipeline.seal, []

    def seal_and_count(known, listed):
        published.append(sum(len(unit.keys) for unit in known.units))
        return seal(known, listed)

    monkeypatch.setattr(pipeline, "seal", seal_and_count)
    stores = []
    for workers in (1, 3):
        stub = make_stub()
        stub.engine = _Slow(stub.engine)
        file = out.with_name(f"by{workers}.h5")
        stores.append(run(stub, photos, file, workers=workers, unit_images=4))
        summary = stores[-1].summary
        assert (summary.embedded, summary.duplicates) == (18, 36)
    one, other = stores
    assert published[0] == 18
    assert published[1] > 18  # some were embedded by two
    np.testing.assert_array_equal(one.features, other.features)
    assert one.content_digest == other.content_digest


class _Slow:
    """An engine slow enough for every process to get work."""

    batch = 1
    calls = 1

    def __init__(self, engine):
        self.engine = engine

    def embed(self, images):
        time.sleep(0.1)
        return self.engine.embed(images)


def test_a_killed_worker_is_one_line_and_what_was_finished_is_kept(photos, out, engine, make_stub):
    with pytest.raises(HeadstartError, match=r"a worker process died.*same command again") as error:
        run(engine(die, after=8 + 5), photos, out, workers=2)
    assert "\n" not in str(error.value)
    kept = sum(len(unit.keys) for unit in units.verified(units.folder_of(out)))
    assert kept >= 5
    summary = run(make_stub(), photos, out).summary
    assert (summary.embedded, summary.reused) == (18 - kept, kept)


def test_a_real_backbone_gives_the_same_vectors_in_any_number_of_processes(photos, out):
    request = Request.checked(backbone="MobileNetV2", weights="random", size=32)
    run(Embedding(request), photos, out)
    run(Embedding(request), photos, out.with_name("two.h5"), workers=2)
    one, other = FeatureStore(out), FeatureStore(out.with_name("two.h5"))
    np.testing.assert_array_equal(one.features, other.features)
    assert one.content_digest == other.content_digest


def test_no_workers_at_all_is_wrong_usage(photos, out, stub):
    with pytest.raises(WrongUsage, match="workers 0"):
        run(stub, photos, out, workers=0)


KILLED = Path(__file__).parent / "faults" / "slow_run.py"
IMAGES = 240


def processes(session: int) -> dict[int, str]:
    """The processes of a run and their command lines, without those that only tidy up."""
    found = subprocess.run(["pgrep", "-a", "-s", str(session)], capture_output=True, text=True)
    lines = (line.split(" ", 1) for line in found.stdout.splitlines())
    return {int(number): command for number, command in lines if "tracker" not in command}


def wait_for(process, out, published):
    """Until so many units are published, or all are and the file is being sealed."""
    while process.poll() is None:
        found = len(list(units.folder_of(out).glob("*.h5")))
        if found >= published or list(out.parent.glob(f".{out.name}.*.tmp")):
            return
        time.sleep(0.005)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes by session")
@pytest.mark.parametrize("kills", [4, pytest.param(250, marks=pytest.mark.sweep)])
def test_killing_any_process_of_a_run_at_any_moment_loses_nothing(
    fill_photos, tmp_path, make_stub, kills
):
    """Parent, worker or sealing child, at a random moment; the next run ends in the same file."""
    photos = fill_photos(tmp_path / "photos", count=IMAGES // 2)
    whole = tmp_path / "whole.h5"
    run(make_stub(), photos, whole)
    expected = FeatureStore(whole).content_digest

    chance = np.random.default_rng(0)
    outcomes = []
    for number in range(kills):
        out = tmp_path / f"out{number}.h5"
        process = start(photos, out, workers=1 + number % 2)
        wait_for(process, out, chance.integers(0, 35))
        time.sleep(chance.uniform(0, 0.1))
        running = processes(process.pid)
        helpers = sorted(set(running) - {process.pid})
        victim = chance.choice(helpers) if number % 4 > 1 and helpers else process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(victim), signal.SIGKILL)
        code = process.wait()
        while code < 0 and processes(process.pid):  # none may outlive it, or this never ends
            time.sleep(0.01)
        unfinished = units.verified(units.folder_of(out))
        kept = {digest for unit in unfinished for digest, _ in unit.keys}
        if out.exists():
            kept |= {bytes(digest) for digest in FeatureStore(out).digests}
        outcomes.append((code, len(kept)))
        assert run(make_stub(), photos, out).summary.embedded == IMAGES - len(kept)
        assert FeatureStore(out).content_digest == expected
        assert sorted(path.name for path in tmp_path.glob(f"*{out.name}*")) == [out.name]
        out.unlink()
    print(outcomes)
    assert any(code for code, _ in outcomes)


def start(photos, out, workers):
    return subprocess.Popen(
        [sys.executable, KILLED, KILLED.parent.parent / "conftest.py", photos, out, str(workers)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
