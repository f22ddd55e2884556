"""Where the time of a run went, and the advice that follows."""

import dataclasses
import json
import sys

import pytest
from headstart.extract import machine
from headstart.extract.backbones.request import Request
from headstart.extract.pipeline import run
from headstart.extract.work.summary import Tally, advice, limiting, summarise
from headstart.extract.work.unit import Done

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


def test_the_advice_names_what_is_missing(monkeypatch):
    request = Request.checked(weights="random", size=71)
    environment = {"engine": "keras", "device": "CPU"}
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(machine, "has_bf16", lambda: True)
    said = advice("embed", request, environment, 100.0)
    assert 'pip install "headstart[openvino]"' in said
    assert "--precision bf16" in said
    assert "scaled down to 284 pixels" in advice("decode", request, environment, 100.0)


def test_a_summary_sums_up_the_units_of_all_workers(photos, tmp_path, stub):
    store = run(stub, photos, tmp_path / "out.h5")
    contents = [digest.tobytes() for digest in store.digests]
    tally = Tally()
    how = {"environment": {"engine": "keras", "device": "CPU"}, "decoded": 9, "decode_seconds": 0.1}
    for worker in "ab":
        for busy in (40.0, 20.0):  # the later unit of a worker may be counted first
            tally.add(Done(worker, busy_seconds=busy, embedded=contents, load_seconds=2.0, **how))
    summary = summarise(
        store, stub, tally, workers=2, removed=3, unreachable=0, sealing=1.0, total=50.0
    )
    assert (summary.engine, summary.embedded, summary.removed) == ("keras", 18, 3)
    assert summary.seconds["embed"] == 40 + 40
    assert (summary.seconds["load"], summary.seconds["write"]) == (2.0, 1.0)
    assert summary.rates["decode"] == pytest.approx(4 * 9 / 0.4)
    assert summary.limits == "embed"


def test_a_run_says_what_it_did_and_with_what(photos, tmp_path, stub):
    summary = run(stub, photos, tmp_path / "out.h5").summary
    assert (summary.images, summary.embedded, summary.weights) == (18, 18, "random")
    assert summary.seconds["total"] >= summary.seconds["embed"] > 0
    assert summary.limits == summary.advice == ""  # it took too short
    json.dumps(dataclasses.asdict(summary))
