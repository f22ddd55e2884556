"""Several worker processes: real ones, with a stand-in for the backbone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from headstart.extract import distribute, work
from headstart.extract.pipeline import run
from headstart.features import (
    BackboneError,
    FeatureStore,
    HeadstartError,
    ProvenanceMismatch,
    WrongUsage,
    units,
    verify,
)


@pytest.fixture(autouse=True)
def _small_units_for_workers(send_whole, monkeypatch):
    send_whole(__name__)
    monkeypatch.setattr(work, "UNIT_IMAGES", 5)


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

    def __init__(self, engine, change, after):
        self.engine, self.change, self.after, self.images = engine, change, after, 0

    def embed(self, images):
        self.images += len(images)
        vectors = self.engine.embed(images)
        return vectors if self.images <= self.after else self.change(vectors)


def not_finite(vectors):
    return vectors * np.float32("nan")


def die(vectors):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_the_number_of_workers_does_not_show_in_the_file(photos, out, stub, make_stub):
    (photos / "blue" / "page.png").write_bytes(b"<html>")
    (photos / "red" / "twin.png").write_bytes((photos / "blue" / "blue00.png").read_bytes())
    run(stub, photos, out)
    four = make_stub()
    summary = run(four, photos, out.with_name("four.h5"), workers=4)
    assert (summary.embedded, summary.duplicates, summary.skipped) == (18, 1, 1)
    assert four.loads == 0  # this process only reads
    one, other = FeatureStore(out), FeatureStore(out.with_name("four.h5"))
    assert one.content_digest == other.content_digest
    assert one.skipped == other.skipped
    assert verify(other.path) == []


def test_workers_are_not_started_when_nothing_is_new(photos, out, stub, make_stub, monkeypatch):
    run(stub, photos, out)
    (photos / "red" / "red00.png").rename(photos / "red" / "renamed.png")
    monkeypatch.setattr(distribute.joblib, "Parallel", None)
    summary = run(make_stub(), photos, out, workers=2)
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


def test_an_error_while_reading_ends_the_run_and_does_not_hang_it(photos, out, stub, monkeypatch):
    original, looked = work.read, []

    def read(location):
        looked.append(location)
        if len(looked) > 12:
            raise RuntimeError("a bug")
        return original(location)

    monkeypatch.setattr(work, "read", read)
    monkeypatch.setattr(work, "_DECODED_AHEAD", 1)
    monkeypatch.setattr(distribute, "_UNITS_WAITING", 0)
    monkeypatch.setattr(work, "UNIT_IMAGES", 2)
    with pytest.raises(RuntimeError, match="a bug"):
        run(stub, photos, out, workers=2)


def test_a_killed_worker_is_one_line_and_what_was_finished_is_kept(photos, out, engine, make_stub):
    with pytest.raises(HeadstartError, match=r"a worker process died.*same command again") as error:
        run(engine(die, after=8 + 5), photos, out, workers=2)
    assert "\n" not in str(error.value)
    kept = sum(len(unit.digests) for unit in units.verified(units.folder_of(out)))
    assert kept >= 5
    summary = run(make_stub(), photos, out)
    assert (summary.embedded, summary.reused) == (18 - kept, kept)


def test_no_workers_at_all_is_wrong_usage(photos, out, stub):
    with pytest.raises(WrongUsage, match="workers 0"):
        run(stub, photos, out, workers=0)


KILLED = Path(__file__).parent / "faults" / "slow_run.py"
IMAGES = 240


def survivors(session: int) -> list[int]:
    """The processes of a run, itself first."""
    found = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True)
    return sorted(int(line) for line in found.stdout.split())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes by session")
@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.sweep)])
def test_killing_any_process_of_a_run_at_any_moment_loses_nothing(
    fill_photos, tmp_path, make_stub, kills
):
    """Parent, worker or sealing child, at a random moment; the next run ends in the same file."""
    photos = fill_photos(tmp_path / "photos", count=IMAGES // 2)
    whole = tmp_path / "whole.h5"
    started = time.monotonic()
    start(photos, whole, workers=3).wait()
    longest = time.monotonic() - started
    expected = FeatureStore(whole).content_digest

    chance = np.random.default_rng(0)
    outcomes = []
    for number in range(kills):
        out = tmp_path / f"out{number}.h5"
        process = start(photos, out, workers=3 if number % 4 else 1)
        time.sleep(chance.uniform(0.2, 1.0) * longest)
        running = survivors(process.pid)
        victim = running[chance.integers(len(running)) if number % 2 else 0] if running else 0
        if victim:
            os.kill(victim, signal.SIGKILL)
        code = process.wait(timeout=120)
        deadline = time.monotonic() + 10
        while survivors(process.pid) and code < 0:
            assert time.monotonic() < deadline, "workers outlive a killed run"
            time.sleep(0.05)
        kept = {bytes(d) for unit in units.verified(units.folder_of(out)) for d in unit.digests}
        if out.exists():
            kept |= {bytes(digest) for digest in FeatureStore(out).digests}
        outcomes.append((code, len(kept)))
        summary = run(make_stub(), photos, out)
        assert summary.embedded == IMAGES - len(kept)
        assert FeatureStore(out).content_digest == expected
        assert sorted(path.name for path in tmp_path.glob(f"*{out.name}*")) == [out.name]
        out.unlink()
    print(outcomes)
    assert sum(code != 0 for code, _ in outcomes) > kills // 4


def start(photos, out, workers):
    return subprocess.Popen(
        [sys.executable, KILLED, KILLED.parent.parent / "conftest.py", photos, out, str(workers)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
