"""What reaches the terminal, and what becomes of it where there is none."""

import io
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from headstart.cli import main
from headstart.extract.pipeline import run
from headstart.features.errors import printable, say

SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")
ODD = "d\x1b[31mo\x07g\rx\ny\x9b2J\u202ez\u2028w"
"""Colours, a bell, ends of lines, a control sequence in one character, right to left."""

posix = pytest.mark.skipif(os.name == "nt", reason="streams are closed by a POSIX shell")


@pytest.fixture
def here(photos, stub, tmp_path, monkeypatch):
    """A working folder with a feature file of two labels, one of which cp1252 does not have."""
    (photos / "red").rename(photos / "γάτα")
    monkeypatch.chdir(tmp_path)
    run(stub, photos, "pets.h5")
    return tmp_path


def command(*arguments, redirect="", **environment):
    """Run the command line in a shell that redirects its streams."""
    line = '"$0" -P -m headstart.cli "$@" ' + redirect
    return subprocess.run(
        ["sh", "-c", line, sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@posix
@pytest.mark.parametrize(
    "redirect", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>&1", "2>&1 | true"]
)
def test_a_head_is_trained_whatever_the_streams_are(here, redirect):
    done = command("train", "pets.h5", "-o", "pets.joblib", "--folds", "3", redirect=redirect)
    assert done.returncode == 0, done.stderr
    assert Path("pets.joblib").exists()
    assert done.stderr == b""


@posix
def test_a_full_output_is_said_and_is_a_failure_only_where_the_output_was_all(here):
    done = command("train", "pets.h5", "-o", "x.joblib", "--folds", "3", redirect=">/dev/full")
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "headstart: standard output cannot be written: No space left on device; the work itself is "
        "done\n"
    )
    for arguments in (["info", "pets.h5"], ["info", "pets.h5", "--json"], ["--help"]):
        done = command(*arguments, redirect=">/dev/full")
        assert done.returncode == 1
        assert done.stderr.decode() == (
            "headstart: standard output cannot be written: No space left on device\n"
        )


def closed_pipe(*arguments):
    """Run the command with an output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        return subprocess.run(
            [sys.executable, "-P", "-m", "headstart.cli", *arguments],
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
        )


def test_a_reader_that_has_gone_ends_a_command_quietly_with_its_own_exit_code(here):
    import h5py

    for arguments in (["--help"], ["info", "pets.h5"], ["verify", "pets.h5"]):
        done = closed_pipe(*arguments)
        assert (done.returncode, done.stderr) == (0, b"")
    with h5py.File("pets.h5", "a") as file:
        file["splits"][3] = 9
    done = closed_pipe("verify", "pets.h5")
    assert (done.returncode, done.stderr) == (1, b"")


@posix
def test_no_file_is_opened_under_the_number_of_a_closed_stream(here):
    program = """
import os, sys
from headstart.cli import main
try:
    main(["info", "pets.h5"])
except SystemExit:
    nowhere = os.stat(os.devnull).st_rdev
    sys.exit(any(os.fstat(number).st_rdev != nowhere for number in range(3)))
"""
    line = '"$0" -P -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", line, sys.executable, program], check=False).returncode == 0


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_what_the_output_cannot_show_is_escaped(here, encoding):
    done = command("info", "pets.h5", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    shown = "γάτα".encode("utf-8" if encoding == "utf-8" else "ascii", "backslashreplace")
    assert b"        9  " + shown + b"\n" in done.stdout.replace(b"\r\n", b"\n")
    done = command("info", "γάτα.h5", PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert done.stderr.startswith(b"headstart: " + shown + b".h5: no such file")


def test_names_that_are_not_text_come_out_as_they_are(capfdbinary):
    for arguments in (["info", "caf\udce9.h5"], ["info", "caf\udce9.h5", "--debug"]):
        with pytest.raises((SystemExit, Exception)):
            main(arguments)
        if "--debug" not in arguments:
            assert capfdbinary.readouterr().err.startswith(b"headstart: caf\xe9.h5: no such file")


def acted_on(text):
    """The characters that a terminal, or a reader of lines, does not simply show."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        one
        for one in text
        if (unicodedata.category(one) in ("Cc", "Zl", "Zp") and one != "\t")
        or unicodedata.bidirectional(one) in turning
    }


def test_a_printable_line_has_no_character_that_a_terminal_acts_on():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    line = printable(every)
    assert not acted_on(line)
    assert printable(line) == line
    plain = "".join(one for one in every if not acted_on(one) and not "\udc80" <= one <= "\udc9f")
    assert printable(plain) == plain


@posix
def test_no_command_hands_names_to_the_terminal_as_they_are(
    photos, tmp_path, stand_in, cli, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    stand_in("extract.pipeline", "apply.predict")
    (photos / "red").rename(photos / ODD)
    (photos / ODD / f"{ODD}.png").write_bytes(b"no image")
    file, head = f"{ODD}.h5", f"{ODD}.skops"
    outputs = [
        cli("extract", "photos", "-o", file, *SMALL),
        cli("info", file),
        cli("info", file, "--skipped"),
        cli("verify", file),
        cli("train", file, "-o", head, "--folds", "3", "--plots", ODD),
        cli("info", head),
        cli("compare", file, file),
        cli("predict", head, "photos", "-o", f"{ODD}.csv"),
        cli("extract", "photos", "-o", file, "--size", "33", *SMALL[:2], *SMALL[4:]),
        cli("info", f"{ODD}\x1b.h5"),
        cli(ODD),
        cli("info", file, f"--{ODD}"),
    ]
    shown = "d\\x1b[31mo\\x07g\\rx\\ny\\x9b2J\\u202ez\\u2028w"
    for done in outputs:
        assert acted_on(done.out + done.err) <= {"\n"}
        assert shown in done.out + done.err
    assert [done.code for done in outputs] == [0] * 8 + [1, 1, 2, 2]


class OnlyWrites:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Failing(io.StringIO):
    def write(self, *text):
        raise OSError(28, "No space left on device")

    isatty = flush = write


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "absent": lambda: None,
    "one that only writes": OnlyWrites,
    "closed": closed,
    "failing": Failing,
    "no stream": object,
}


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_images_are_embedded_whatever_standard_error_is(photos, tmp_path, stub, monkeypatch, make):
    monkeypatch.setattr(sys, "stderr", make())
    assert len(run(stub, photos, tmp_path / "pets.h5", progress=True)) == 18


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_the_command_line_works_whatever_the_streams_are(here, monkeypatch, make):
    monkeypatch.setattr(sys, "stdout", make())
    monkeypatch.setattr(sys, "stderr", make())
    with pytest.raises(SystemExit) as done:
        main(["train", "pets.h5", "-o", "pets.joblib", "--folds", "3"])
    assert done.value.code == 0
    with pytest.raises(SystemExit) as done:
        main(["info", "missing.h5"])
    assert done.value.code == 1


def test_what_is_said_without_standard_error_does_not_get_into_standard_output(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    say("loading ...")
    with pytest.raises(SystemExit):
        main(["info", "missing.h5"])
    assert capfd.readouterr() == ("", "")


def test_a_stream_that_only_writes_gets_the_whole_report(here, monkeypatch):
    stream = OnlyWrites()
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit):
        main(["info", "pets.h5"])
    assert "        9  γάτα\n" in stream.text
