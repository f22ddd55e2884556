"""Where the time of a run went, and the advice that follows."""

import json

import pytest
from headstart.extract import engines, machine
from headstart.extract.work import summary
from headstart.extract.work.summary import limiting

FEW = dict.fromkeys(("total", "load", "read", "decode", "embed", "write", "waiting"), 0.0)


@pytest.mark.parametrize(
    ("seconds", "limits"),
    [
        ({"total": 4, "embed": 4}, ""),
        ({"total": 100, "embed": 95, "decode": 30}, "embed"),
        ({"total": 100, "embed": 95, "decode": 110}, "decode"),
        ({"total": 100, "embed": 50, "waiting": 45, "decode": 60, "read": 1}, "decode"),
        ({"total": 100, "embed": 50, "waiting": 45, "decode": 10, "read": 80}, "read"),
        ({"total": 100, "embed": 60, "waiting": 35, "write": 30, "decode": 50}, "write"),
        ({"total": 100, "load": 60, "embed": 30}, "load"),
        ({"total": 100, "embed": 20, "write": 70}, "write"),
    ],
)
def test_what_limits_a_run_follows_from_where_its_time_went(seconds, limits):
    assert limiting(FEW | seconds, workers=1, cores=2) == limits


def test_workers_that_wait_for_pixels_are_limited_by_decoding():
    seconds = FEW | {"total": 100, "embed": 200, "waiting": 180, "decode": 150, "read": 2}
    assert limiting(seconds, workers=4, cores=4) == "decode"


def test_the_advice_names_what_is_missing(photos, tmp_path, stub, monkeypatch):
    from headstart.extract.pipeline import run

    monkeypatch.setattr(summary, "_LITTLE_S", 0.0)
    monkeypatch.setattr(engines, "installed", lambda library: False)
    monkeypatch.setattr(machine, "has_bf16", lambda: True)
    monkeypatch.setattr(
        type(stub), "environment", {"engine": "keras", "device": "CPU", "weights": {}}
    )
    monkeypatch.setattr(summary, "limiting", lambda *_: "embed")
    done = run(stub, photos, tmp_path / "out.h5")
    assert done.engine == "keras"
    assert 'pip install "headstart[openvino]"' in done.advice
    assert "--precision bf16" in done.advice
    monkeypatch.setattr(summary, "limiting", lambda *_: "decode")
    done = run(type(stub)(), photos, tmp_path / "other.h5")
    assert "scaled down to 284 pixels" in done.advice
    assert json.dumps(done.seconds)
