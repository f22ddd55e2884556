"""Inputs from the field that once failed, each with its right answer in its EXPECTED.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CASES.glob("*/case.py")))
def test_the_right_answer_is_given(name, tmp_path):
    done = subprocess.run(
        [sys.executable, CASES / name / "case.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
