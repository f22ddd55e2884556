"""Ctrl-C while a decoder sits in native code: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest
from headstart.extract.work.threads import Threads
from headstart.features.journal import units

STUCK = 600
"""Seconds that the decoder takes for one image, far more than any test waits."""

# Every process that is to embed imports this with the stand-in for the backbone.
MODULE = f"""
import time
from pathlib import Path
from conftest import StubEmbedding
from headstart.extract.work import readahead

class Embedding(StubEmbedding):
    def unloaded(self, share):
        stub = super().unloaded(share)
        stub.__class__ = Embedding  # so that a worker process imports this module
        return stub

original = readahead.decode

def decode(data, size, fit):
    if data == Path("photos/red/red99.png").read_bytes():
        Path("stuck").touch()
        time.sleep({STUCK})
    return original(data, size, fit)

readahead.decode = decode
"""

COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches it off
from headstart.extract import pipeline
from headstart.cli import main
import stuck_decoder

pipeline.Embedding = lambda *_: stuck_decoder.Embedding()
pipeline.run.__wrapped__.__kwdefaults__["unit_images"] = 4
if __name__ == "__main__":
    main(["extract", "photos", "-o", "pets.h5", "--workers", sys.argv[1]])
"""


@pytest.fixture
def stuck(photos, tmp_path, write_image):
    """Start a run that comes to a standstill at its last image."""
    write_image(photos / "red" / "red99.png", 99)
    (tmp_path / "stuck_decoder.py").write_text(MODULE)
    (tmp_path / "command.py").write_text(COMMAND)
    started = []

    def start(workers: int) -> subprocess.Popen:
        paths = [str(Path(__file__).parent), str(tmp_path), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "command.py", str(workers)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        folder = units.folder_of(tmp_path / "pets.h5")
        # Four units of four images are whole; the last two images wait for each other.
        while not ((tmp_path / "stuck").exists() and len(whole(folder)) == 4):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def whole(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix == ".h5"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_waits_for_no_decoder_and_keeps_what_is_finished(stuck, tmp_path, workers):
    process = stuck(workers)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=STUCK / 10)
    assert time.monotonic() - began < STUCK / 10
    assert process.returncode == 130
    assert said.endswith("is kept, and the same command goes on from there\n")
    assert "Traceback" not in said
    assert len(whole(units.folder_of(tmp_path / "pets.h5"))) == 4


def test_the_end_of_a_process_waits_for_no_thread_that_was_let_go():
    code = f"""
import time
from headstart.extract.work.threads import Threads
threads = Threads(1, "decode")
future = threads.submit(time.sleep, {STUCK})
while not future.running():
    time.sleep(0.01)
threads.abandon()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=STUCK / 10)
    assert done.returncode == 0


def test_whoever_waits_for_a_result_that_was_let_go_hears_of_it():
    threads = Threads(1, "decode")
    futures = [threads.submit(time.sleep, STUCK), threads.submit(int, "1")]
    while not futures[0].running():
        time.sleep(0.01)
    threads.abandon()
    assert not wait(futures, timeout=STUCK / 10).not_done
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()
    with pytest.raises(CancelledError):
        threads.submit(int, "1")


def test_threads_give_results_and_errors_in_their_place_and_end():
    with Threads(3, "decode") as threads:
        assert list(threads.map(int, ["3", "1", "2"])) == [3, 1, 2]
        with pytest.raises(ValueError, match="invalid literal"):
            threads.submit(int, "x").result()
        kept = list(threads._threads)
    assert not any(thread.is_alive() for thread in kept)
    with pytest.raises(ZeroDivisionError), Threads(1, "decode") as threads:
        threads.submit(time.sleep, 0).result()
        raise ZeroDivisionError
