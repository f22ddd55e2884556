"""What people are told to install: right from a checkout as well as from an index."""

import re
import tomllib
from pathlib import Path

import pytest
from headstart.features.errors import PACKAGES, install_command, reinstall_command

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


DEVELOPERS = {"docs", "lint", "test"}
"""Extras that no message asks for."""


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - DEVELOPERS))
def test_the_packages_of_a_message_are_those_of_the_extra_with_its_bounds(extra):
    assert list(PACKAGES[extra]) == EXTRAS[extra]
    first, _, second = install_command(extra).partition("; ")
    assert re.findall('"(.+?)"', first) == EXTRAS[extra]
    assert first.startswith("python3 -m pip install ")
    assert second.endswith(f'python3 -m pip install "headstart[{extra}]"')
    assert "\n" not in second


def test_what_mends_a_broken_library_has_the_bounds_of_the_project():
    assert set(PACKAGES["keras"]) <= set(PROJECT["dependencies"])
    named = re.findall('"(.+?)"', reinstall_command("keras", "tensorflow", "nncf", "onnxruntime"))
    onnxruntime = next(one for one in EXTRAS["onnx"] if one.startswith("onnxruntime"))
    nncf = next(one for one in EXTRAS["int8"] if one.startswith("nncf"))
    assert named == [*PACKAGES["keras"], nncf, onnxruntime]


def test_no_other_place_of_the_library_has_the_name_of_an_extra_in_a_command():
    for folder in ("features", "extract", "classify", "apply", "pages", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            told = path.name != "errors.py" and "headstart[" in path.read_text()
            assert not told, f"{path} names an extra of a package that pip may not know"
