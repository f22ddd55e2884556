"""Bars of long steps, on a terminal only, and Ctrl-C in the midst of each."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from headstart.classify import train
from headstart.cli import main
from headstart.extract import pipeline
from headstart.features import showing_progress, verify
from headstart.features.journal import progress, units

pty = pytest.importorskip("pty")  # not on Windows

WAIT = 120
"""Seconds after which a process that should have ended has failed the test."""


@pytest.fixture
def store(make_store):
    """Two clouds of 60 vectors."""
    generator = np.random.default_rng(0)
    codes = np.arange(120) % 2
    features = generator.normal(size=(120, 40)) + codes[:, None]
    return make_store(features, [("cat", "dog")[code] for code in codes], name="pets.h5")


class Terminal:
    """A pseudo-terminal of 100 columns in the place of standard error."""

    def __init__(self):
        import fcntl
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.stream = os.fdopen(slave, "w")
        self.shown = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self):
        while True:
            try:
                self.shown += os.read(self._master, 65536)
            except OSError:  # nobody has it open any more
                return

    def close(self):
        """All that was written to it."""
        self.stream.close()
        self._reading.join(WAIT)
        os.close(self._master)
        return self.shown.decode()


@pytest.fixture
def terminal(monkeypatch):
    """One on which bars appear at once."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    return Terminal()


def command(stream, *arguments):
    """The exit code, with this as standard error."""
    with contextlib.redirect_stderr(stream), pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def left(shown):
    """What is to be read on the terminal in the end."""
    lines = []
    for line in shown.split("\n"):
        row = []
        for text in line.split("\r"):
            text = re.sub("\x1b\\[A", "", text)
            row[: len(text)] = text
        lines.append("".join(row).rstrip())
    return "\n".join(lines).strip()


def test_every_long_step_has_a_bar_on_a_terminal_which_leaves_nothing(
    terminal, store, make_store, photos, stand_in, tmp_path, monkeypatch
):
    stand_in("extract.pipeline")
    monkeypatch.chdir(tmp_path)
    make_store(store.features[:, :30], [store.label_names[k] for k in store.labels])
    for arguments in (
        ("extract", photos, "-o", "photos.h5"),
        ("verify", "pets.h5"),
        ("train", "pets.h5", "-o", "pets.joblib", "--head", "all"),
        ("audit", "pets.h5"),
        ("compare", "pets.h5", "made.h5"),
        ("train", "photos.h5", "-o", "photos.joblib", "--folds", "3"),
        ("report", "photos.joblib", "photos.h5", "-o", "photos.html"),
    ):
        assert command(terminal.stream, *arguments) == 0
    shown = terminal.close()
    assert left(shown) == "loading Xception at 299 pixels, imagenet weights ..."
    bars = {
        re.sub(r"C = \S+", "C", found)
        for found in re.findall(r"\r([^\r\n%\[]+?): +[0-9]+(?:%|:)", shown)
    }
    assert bars >= {
        "sealing",
        "digest of features",
        "checksums of features",
        "values",
        "near-copies",
        "logistic, C",
        "prototype, folds",
        "svm, C",
        "svm-rbf, gamma and C",
        "logistic, the fit to all images",
        "pets.h5, logistic, C",
        "made.h5, logistic, C",
        "learning curve, C",
        "thumbnails",
        "map of the images",
    }


def test_a_step_that_is_short_has_no_bar(terminal, store, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 3600.0)
    assert command(terminal.stream, "verify", store.path) == 0
    assert terminal.close() == ""


def test_where_there_is_no_terminal_nothing_is_shown(store, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    said = io.StringIO()
    for arguments in (("verify", store.path), ("train", store.path, "-o", tmp_path / "x.joblib")):
        assert command(said, *arguments) == 0
    assert said.getvalue() == ""


def test_a_call_of_the_library_shows_bars_only_if_it_is_asked_to(terminal, store):
    with contextlib.redirect_stderr(terminal.stream):
        train(store, "prototype")
        terminal.stream.flush()
        before = len(terminal.shown)
        with showing_progress(), showing_progress(False):
            verify(store.path)
        with pytest.raises(ZeroDivisionError), showing_progress():
            for _ in parts_of_a_loop():
                1 / 0  # noqa: B018
        verify(store.path)
    assert before == 0
    assert left(terminal.close()) == ""
    assert "checksums of features" in terminal.shown.decode()


def parts_of_a_loop():
    with progress.step("loop", 3) as done:
        for _ in range(3):
            yield
            done.add(1)


STUCK = """
import hashlib, os, signal, sys, time
from pathlib import Path
from headstart.features.journal import progress, seal

add, write = progress.Progress.add, seal._write
what, deaf = os.environ["STUCK"], os.environ.get("DEAF")

def stuck(self, number):
    if what in self._what:
        Path("there").touch()
        if deaf:  # in a library, where no signal is heard
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        time.sleep(3600)
    add(self, number)

def sealing(rows):  # in a process that imports this file
    write(rows)

progress.Progress.add = stuck
seal._write = sealing
"""

COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches it off
from headstart.cli import run
from headstart.extract import pipeline
import stuck

def stub(*_):
    from conftest import StubEmbedding

    return StubEmbedding()

pipeline.Embedding = stub
run()
"""


@pytest.fixture
def stuck(tmp_path, monkeypatch):
    """Start a command that comes to a standstill in a step, in a folder of its own."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "stuck.py").write_text(STUCK)
    (modules / "command.py").write_text(COMMAND)
    paths = [str(Path(__file__).parent), str(modules), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    started = []

    def start(step, *arguments):
        process = subprocess.Popen(
            [sys.executable, str(modules / "command.py"), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "STUCK": step},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        while not (tmp_path / "there").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        (tmp_path / "there").unlink()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("step", "deaf", "arguments"),
    [
        ("near-copies", "", ("audit", "pets.h5", "-o", "pets.csv")),
        ("svm-rbf", "deaf", ("train", "pets.h5", "-o", "pets.joblib", "--head", "svm-rbf")),
        ("made.h5, logistic", "", ("compare", "pets.h5", "made.h5")),
        ("checksums", "deaf", ("verify", "pets.h5")),
    ],
)
def test_an_interrupt_in_the_midst_of_a_step_leaves_the_folder_as_it_was(
    step, deaf, arguments, stuck, store, make_store, tmp_path, monkeypatch
):
    make_store(store.features[:, :30], [store.label_names[k] for k in store.labels])
    (tmp_path / "pets.joblib").write_text("what was there before")
    monkeypatch.setenv("DEAF", deaf)
    before = everything(tmp_path)
    process = stuck(step, *arguments)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=WAIT)
    assert (process.returncode, out, said.strip()) == (130, "", "headstart: interrupted")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("alone", [False, True])
def test_an_interrupt_while_a_file_is_sealed_keeps_the_units_and_nothing_else(
    alone, stuck, photos, make_stub, tmp_path
):
    process = stuck("sealing", "extract", photos, "-o", "out.h5")
    assert list(tmp_path.glob(".out.h5.*.tmp"))
    if alone:
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "headstart: interrupted; what is finished is kept, and the same command goes on from there"
    )
    assert "Traceback" not in said
    out = tmp_path / "out.h5"
    assert not out.exists()
    assert not list(tmp_path.glob(".*.tmp"))
    assert len(list(units.folder_of(out).glob("*.h5"))) == 1
    assert pipeline.run(make_stub(), photos, out).summary.embedded == 0
