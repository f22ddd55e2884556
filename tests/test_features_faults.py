"""A disk that fails, tears, fills up or takes the process with it, at every call that writes, cuts,
syncs, links, renames or removes a file or a folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from headstart.extract.pipeline import run
from headstart.features import FeatureStore

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """The library that makes calls fail."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("faults are injected by a small C library, on Linux, and need a C compiler")
    library = tmp_path_factory.mktemp("faults") / "disk.so"
    source = HERE / "faults" / "disk.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def grown(photos, tmp_path, stub, make_stub, write_image):
    """A sealed file of 18 images, the digest of one with 8 more, and those in the folder."""
    old = tmp_path / "old.h5"
    run(stub, photos, old)
    for number in range(8):
        write_image(photos / "green" / f"new{number}.png", 1000 + number)
    whole = tmp_path / "whole.h5"
    run(make_stub(), photos, whole)
    return old, FeatureStore(whole).content_digest


OF_WRITES = ["torn", "short", "interrupted"]
FAULTS = ["full", "broken", *OF_WRITES]
QUICK = [("run", "full", 2), ("run", "broken", 2), *(("run", fault, 1) for fault in OF_WRITES)]
QUICK += [("seal", fault, 4) for fault in FAULTS]
WHOLE = [("run", "full", 1), ("run", "broken", 1), *(("seal", fault, 1) for fault in FAULTS)]


@pytest.mark.parametrize(
    ("phase", "fault", "step"),
    [
        ("run", "kill", 1),
        ("seal", "kill", 1),
        *QUICK,
        *(pytest.param(*case, marks=pytest.mark.sweep) for case in WHOLE),
    ],
)
def test_no_fault_of_the_disk_at_any_call_loses_work_or_tells_a_lie(
    disk, grown, photos, tmp_path, phase, fault, step
):
    folder = tmp_path / "attempts"
    folder.mkdir()
    told = tell(disk, "sweep.py", photos, *grown, folder, phase, fault, step)
    assert told["wrong"] == []
    assert told["faults"] >= 2
    # Of eight new images two units are written; sealing writes more often.
    assert told["tried"] > (1 if fault in OF_WRITES else 12 // step)


@pytest.mark.parametrize("checked", [1, 0], ids=["space checked first", "found out by failing"])
def test_a_file_system_that_is_really_full_loses_nothing_at_any_size(
    disk, grown, photos, tmp_path, checked
):
    mountpoint = tmp_path / "small disk"
    mountpoint.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mountpoint],
        capture_output=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    subprocess.run(["umount", mountpoint], check=True)
    told = tell(disk, "tmpfs.py", photos, *grown, mountpoint, checked, 30)
    assert told["wrong"] == []
    assert told["tried"] == 30
    assert 15 < told["failed"] < 30
    assert all("make space" in line or "ended by SIG" in line for line in told["lines"])


def tell(disk, program, *arguments):
    """Run a program of the folder `faults` with the failing disk, and return what it prints."""
    done = subprocess.run(
        [sys.executable, HERE / "faults" / program, HERE / "conftest.py", *map(str, arguments)],
        env=os.environ | {"LD_PRELOAD": str(disk)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)
