"""`headstart info --system`: what is said of a machine, and what that costs."""

import dataclasses
import json
import subprocess
import sys
from types import ModuleType

import pytest
from headstart.extract import engines, machine, system_info


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "may_have_gpu", lambda: False)


def test_every_engine_is_there_with_what_it_computes_in_and_on():
    found = system_info()
    assert [one.name for one in found.engines] == list(engines.TABLE)
    assert {one.name: one.precisions for one in found.engines} == {
        name: row.precisions for name, row in engines.TABLE.items()
    }
    assert found.auto == engines.choice()
    assert all(bool(one.devices) != bool(one.problem) for one in found.engines)
    assert found.cores > 0
    assert found.memory > 1 << 28


def test_an_engine_that_is_missing_or_broken_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    broken = dataclasses.replace(engines.TABLE["openvino"], available=lambda: True)
    monkeypatch.setitem(engines.TABLE, "openvino", broken)
    monkeypatch.setattr(engines, "choice", lambda: "openvino")
    monkeypatch.setitem(sys.modules, "openvino", ModuleType("openvino"))
    found = system_info()
    said = {one.name: one.problem for one in found.engines}
    assert 'pip install "headstart[onnx]"' in said["onnxruntime"]
    assert "OpenVINO is installed and cannot be imported" in said["openvino"]
    assert (said["keras"], found.auto) == ("", "keras")


def test_the_caches_are_counted(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "graphs" / "one").mkdir(parents=True)
    (tmp_path / "graphs" / "one" / "graph.bin").write_bytes(bytes(1000))
    caches = system_info().caches
    assert (caches["graphs"].entries, caches["graphs"].bytes) == (1, 1000)
    assert (caches["embeddings"].entries, caches["embeddings"].bytes) == (0, 0)
    assert caches["weights"].folder == str(tmp_path / "keras" / "models")


def test_the_command_prints_the_same_as_text_and_as_json(cli):
    values = json.loads(cli("info", "--system", "--json").out)
    assert values["auto"] == engines.choice()
    assert values["versions"]["numpy"]
    text = cli("info", "--system").out
    assert f"engines (auto takes {values['auto']})" in text
    for one in values["engines"]:
        assert one["name"] in text
    assert values["caches"]["graphs"]["folder"] in text


@pytest.mark.parametrize(
    "arguments",
    [[], ["--system", "pets.h5"], ["--system", "--skipped"]],
    ids=["neither", "both", "skipped"],
)
def test_either_a_file_or_the_system_is_asked_for(arguments, cli):
    done = cli("info", *arguments)
    assert done.code == 2
    assert "Give either a FILE.h5 or HEAD, or --system." in done.err


def test_without_a_gpu_tensorflow_is_not_imported_for_it():
    program = """
import sys
from headstart.extract import machine, system_info
machine.may_have_gpu = lambda: False
system_info()
print(sorted({"tensorflow", "keras", "jax", "torch", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
