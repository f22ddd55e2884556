"""One run after another, each meeting one fault of the disk more than the last; run with disk.so
preloaded. Prints what was tried and what went wrong as JSON.

    LD_PRELOAD=disk.so python sweep.py CONFTEST PHOTOS OLD.h5 EXPECTED FOLDER PHASE FAULT STEP

PHASE is "run" (everything but the writing of the sealed file) or "seal" (only that). Each attempt
is a fork of this process, so that thousands cost no interpreter start.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import itertools
import json
import mmap
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

from headstart.cli.main import _report
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, child, verify
from headstart.features.journal import units

FAULTS = ("off", "kill", "torn", "full", "broken", "short", "interrupted")
DISK = ctypes.CDLL(None)
FORK = mmap.mmap(-1, 16)  # shared with forks: calls and faults that the one that seals has met


def load_helpers(path: str):
    spec = importlib.util.spec_from_file_location("helpers", path)
    module = sys.modules["helpers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arm(fault: str, number: int, folder: Path) -> None:
    DISK.disk_arm(FAULTS.index(fault), ctypes.c_long(number), os.fsencode(folder))


def in_fork(action) -> tuple[int, bytes]:
    """Exit code (negative: signal) of a fork, and the bytes that `action` returned in it."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        code, data = action()
        os.write(writing, data)
        os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), data


def sealing_in_fork(fault: str, number: int, folder: Path):
    """Stands in for `subprocess.run`: the child that seals, forked instead of started."""

    def sealing(_, *, input, **options):
        def action() -> tuple[int, bytes]:
            given = io.BytesIO(input)
            pickle.load(given)  # sys.path, which is ours
            sys.stdin = io.TextIOWrapper(given)
            sys.stderr = io.TextIOWrapper(io.BytesIO(), write_through=True)
            arm(fault, number, folder)
            code = 0
            try:
                child.main()
            except SystemExit as error:
                code = error.code
            share_what_was_met()
            return code, sys.stderr.buffer.getvalue()

        code, said = in_fork(action)
        return subprocess.CompletedProcess([], code, b"", said)

    return sealing


def share_what_was_met() -> None:
    FORK[:] = struct.pack("qq", DISK.disk_seen(), DISK.disk_faults())


def attempt(helpers, photos: Path, out: Path, phase: str, fault: str, number: int) -> dict:
    """Run with the fault; how it ended, what it printed, and whether the fault was met."""
    FORK[:] = struct.pack("qq", number, 1)  # a fork that is killed has met it

    def action() -> tuple[int, bytes]:
        sealed = (fault, number) if phase == "seal" else ("off", 0)
        child.prepare = lambda _: None
        child.subprocess.run = sealing_in_fork(*sealed, out.parent)
        said = io.StringIO()
        code = embedded = 0
        with contextlib.redirect_stderr(said):
            if phase == "run":
                arm(fault, number, out.parent)
            try:
                store = run(helpers.StubEmbedding(), photos, out, unit_images=5)
                embedded = store.summary.embedded
            except Exception as error:  # noqa: BLE001 - the command line reports them all too
                code = _report(error)
        if phase == "run":
            share_what_was_met()
        seen, faults = struct.unpack("qq", FORK[:])
        told = {
            "embedded": embedded,
            "said": said.getvalue(),
            "met": seen >= number,
            "faults": faults,
        }
        return code, json.dumps(told).encode()

    code, data = in_fork(action)
    return {"code": code, **json.loads(data or b'{"said": "", "met": true, "faults": 1}')}


def judge(
    helpers,
    photos: Path,
    out: Path,
    before: bytes,
    expected: str,
    fault: str,
    first: dict,
    make_space=lambda: None,
):
    """What is against the rules after a run that met a fault; the next one, for which the user has
    made space, meets none."""
    killed = fault in ("kill", "torn")
    if first["code"] < 0 and not (killed and first["code"] == -signal.SIGKILL):
        yield f"ended by signal {-first['code']}"
    if fault in ("short", "interrupted") and first["code"]:
        yield f"failed though the system call did not: {first['said']}"
    if first["code"] > 0:
        line = first["said"]
        if line.count("\n") != 1 or str(out) not in line or "internal error" in line:
            yield f"not one line that names the file: {line!r}"
    if out.read_bytes() != before and (verify(out) or FeatureStore(out).content_digest != expected):
        yield "the old file is neither as it was nor replaced whole"
    sealed = {bytes(digest) for digest in FeatureStore(out).digests}
    unfinished = units.verified(units.folder_of(out))
    kept = sealed | {digest for unit in unfinished for digest, _ in unit.keys}
    make_space()
    again = attempt(helpers, photos, out, "run", "off", 0)
    if again["code"] != 0:
        yield f"the next run failed: {again['said']}"
        return
    store = FeatureStore(out)
    if store.content_digest != expected or verify(out):
        yield "the next run did not end in the same file"
    if again["embedded"] != len({bytes(d) for d in store.digests} - kept):
        yield f"embedded {again['embedded']} anew though {len(kept)} vectors were kept"
    if [path.name for path in out.parent.iterdir()] != [out.name]:
        yield f"litter: {sorted(path.name for path in out.parent.iterdir())}"


class Tally:
    """Counts what was tried, and collects what went wrong and what was printed."""

    def __init__(self) -> None:
        self.told = {"tried": 0, "faults": 0, "failed": 0, "wrong": [], "lines": []}

    def add(self, name: str, first: dict, wrong: list[str], home: Path) -> None:
        self.told["tried"] += 1
        self.told["faults"] += first["faults"] > 0
        self.told["failed"] += first["code"] != 0
        self.told["wrong"] += [f"{name}: {problem}" for problem in wrong]
        line = first["said"].replace(str(home), "").strip()
        if line and line not in self.told["lines"]:
            self.told["lines"].append(line)

    def print(self) -> None:
        print(json.dumps(self.told))


def main() -> None:
    helpers = load_helpers(sys.argv[1])
    photos, old, expected, folder = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
    phase, fault, step = sys.argv[6], sys.argv[7], int(sys.argv[8])
    before = old.read_bytes()
    tally = Tally()
    for number in itertools.count(1, step):
        home = Path(folder) / f"{phase}-{fault}-{number}"
        home.mkdir()
        out = home / "out.h5"
        out.write_bytes(before)
        first = attempt(helpers, photos, out, phase, fault, number)
        if first["met"]:
            wrong = list(judge(helpers, photos, out, before, expected, fault, first))
            tally.add(f"{phase}, {fault} at call {number}", first, wrong, home)
        shutil.rmtree(home)
        if not first["met"]:
            break
    tally.print()


if __name__ == "__main__":
    main()
