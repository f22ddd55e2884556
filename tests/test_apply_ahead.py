"""While a head is loaded, so is its backbone: only time is saved by it, whatever is remembered."""

import dataclasses
import json
import subprocess
import sys
import threading

import pytest
from headstart.apply import ahead, predict
from headstart.classify import load_head
from headstart.extract import cache, engines, machine
from headstart.extract.backbones.weights import sha256
from headstart.extract.embedding import Embedding
from headstart.extract.engines import int8

pytestmark = pytest.mark.skipif(
    not machine.installed("openvino"), reason="openvino is not installed"
)
SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")


@pytest.fixture
def trained(photos, cli, monkeypatch, tmp_path):
    """A working folder with a head whose graph is in the cache, and a note of the head."""
    monkeypatch.chdir(tmp_path)
    assert cli("extract", photos, "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    predict("pets.joblib", photos)
    return cache.folder("heads") / f"{sha256(tmp_path / 'pets.joblib')}.json"


@pytest.fixture
def loads(monkeypatch):
    """The threads that loaded a backbone, in order."""
    found = []
    original = Embedding.canary_calls.func

    def load(self):
        found.append(threading.current_thread().name)
        return original(self)

    monkeypatch.setattr(Embedding.canary_calls, "func", load)
    return found


def test_a_head_that_was_met_has_its_backbone_loaded_by_a_thread(trained, photos, loads):
    found = predict("pets.joblib", photos)
    assert loads == ["ahead_0"]
    trained.unlink()
    again = predict("pets.joblib", photos)
    assert loads[1:] == ["MainThread"]
    assert again == found
    assert trained.exists()


@pytest.mark.parametrize("damage", ["{", "[]", '{"provenance": 1, "environment": {}}', "other"])
def test_a_note_that_is_wrong_costs_time_alone(trained, photos, loads, damage):
    expected = predict("pets.joblib", photos)
    if damage == "other":
        known = json.loads(trained.read_text())
        known["provenance"]["precision"] = "bf16"
        damage = json.dumps(known)
    trained.write_text(damage)
    del loads[:]
    assert predict("pets.joblib", photos) == expected
    assert loads[-1] == "MainThread"
    del loads[:]
    assert predict("pets.joblib", photos) == expected  # by now it is put right
    assert loads == ["ahead_0"]


def test_nothing_is_loaded_for_a_feature_file_or_where_a_graph_is_not_converted(
    trained, photos, loads, monkeypatch
):
    predict("pets.joblib", "pets.h5")
    assert loads == []
    monkeypatch.setitem(
        engines.TABLE,
        "openvino",
        dataclasses.replace(engines.TABLE["openvino"], ready=lambda _: False),
    )
    with ahead.loading("pets.joblib", None, "auto") as early:
        assert early._loaded is None
    with ahead.loading(load_head("pets.joblib"), None, "auto") as early:
        assert early is None


def test_the_engine_that_is_named_decides_what_is_loaded_ahead(trained, monkeypatch):
    monkeypatch.setattr(engines, "choice", lambda: pytest.fail("keras was asked for its GPUs"))
    for engine, early in (("openvino", True), ("keras", False), ("onnxruntime", False)):
        with ahead.loading("pets.joblib", None, engine) as found:
            assert (found._loaded is not None) == early


@pytest.mark.skipif(not machine.installed("nncf"), reason="nncf is not installed")
def test_a_quantised_backbone_is_loaded_ahead_too(cli, fill_photos, loads, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(int8, "LEAST_COSINE", -1.0)  # of random weights at 32 pixels
    photos = fill_photos(tmp_path / "photos", count=20)
    assert cli("extract", photos, "-o", "pets.h5", *SMALL, "--precision", "int8").code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    expected = predict("pets.joblib", photos)
    del loads[:]
    assert predict("pets.joblib", photos) == expected
    assert loads == ["ahead_0"]


def test_what_a_head_is_embedded_for_is_known_without_scikit_learn(trained, tmp_path):
    program = """
import sys
from headstart.apply import ahead
with ahead.loading("pets.joblib", None, "auto") as early:
    print(early._loaded.result().request)
assert not {"sklearn", "scipy", "tensorflow", "keras"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "MobileNetV2 at 32 pixels, random weights\n"


def test_a_head_that_cannot_be_loaded_says_so_all_the_same(trained, photos, cli):
    with open("pets.joblib", "ab") as file:
        file.write(b"x")
    line = cli("predict", "pets.joblib", photos, "-o", "a.csv").failure(1)
    assert "this machine did not write it" in line
