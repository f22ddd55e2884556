"""Graphs converted for OpenVINO: kept in the cache, checked when read, in nobody's way."""

import logging
import os
import shutil
import sys
import tempfile

import numpy as np
import pytest
from headstart.extract import machine
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines import converted
from headstart.extract.images.synthetic import synthetic_images
from headstart.features import BackboneError
from headstart.features.origin import distance

pytestmark = pytest.mark.skipif(
    not machine.installed("openvino"), reason="openvino is not installed"
)
IMAGES = synthetic_images(19, 7, 71)


def request(size=71, **settings):
    return Request.checked(backbone="MobileNetV2", weights="random", size=size, **settings)


TINY = request(32)


def embedded(engine, **settings):
    return Embedding(request(**settings), engine).embed(IMAGES)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A cache that holds one sound graph."""
    cache = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(cache))
        converted.convert(TINY)
    return cache


@pytest.fixture
def cache(sound, tmp_path, monkeypatch):
    """A copy of it, in use."""
    shutil.copytree(sound, tmp_path / "cache")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_graph_is_converted_once_and_read_afterwards(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    first = Embedding(request(), "openvino")
    vectors = first.embed(IMAGES)
    for library in ("keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, library, None)  # nothing can be built any more
    again = Embedding(request(), "openvino")
    assert again.provenance == first.provenance
    assert distance(again.embed(IMAGES), vectors) < 1e-6
    half = Embedding(request(precision="bf16"), "openvino")
    assert half.provenance.weights_digest == first.provenance.weights_digest
    with pytest.raises(BackboneError, match="Keras cannot be imported"):
        _ = Embedding(request(size=72), "openvino").provenance
    (place,) = (tmp_path / "graphs").iterdir()
    assert place.name.startswith("MobileNetV2-71-")


@pytest.mark.parametrize("file", ["graph.bin", "graph.xml", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_graph_is_not_used_and_reported_in_one_line(file, damage, cache, caplog):
    path = converted.cached(TINY).graph.parent / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-9])
    else:
        path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    with caplog.at_level(logging.WARNING, "headstart"):
        assert converted.cached(TINY) is None
    (record,) = caplog.records
    assert "damaged" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_damaged_graph_is_replaced_by_the_next_run(cache):
    good = converted.cached(TINY)
    good.graph.write_bytes(b"")
    assert Embedding(TINY, "openvino").provenance.weights_digest == good.weights_digest
    assert converted.cached(TINY) == good
    assert list(good.graph.parents[1].iterdir()) == [good.graph.parent]


def fail_as_on_a_full_disk(model, path, **options):
    """Seen on a tmpfs of 4 MB."""
    path.write_bytes(b"some of it")
    raise RuntimeError("basic_ios::clear: iostream error")


@pytest.mark.parametrize("why", ["a file is in the way", "the disk is full"])
def test_a_cache_that_cannot_be_written_costs_a_line_and_no_run(why, monkeypatch, tmp_path, caplog):
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "headstart"):
        patch.setenv("HEADSTART_CACHE", str(cache))
        if why == "the disk is full":
            patch.setattr(machine.import_openvino(), "save_model", fail_as_on_a_full_disk)
        else:
            cache.write_text(why)
        vectors = embedded("openvino")
    (record,) = caplog.records
    assert "HEADSTART_CACHE can name another folder" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not list(temporary.iterdir())
    assert why != "the disk is full" or not list((cache / "graphs").iterdir())
    assert distance(vectors, embedded("keras")) < 2e-4
    np.testing.assert_array_equal(vectors, embedded("openvino"))  # as from the cache


def test_a_graph_converted_for_bf16_serves_f32_as_well(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    by_keras = embedded("keras")
    half = embedded("openvino", precision="bf16")
    assert distance(embedded("openvino"), by_keras) < 2e-4
    assert distance(half, by_keras) > 1e-3 or not machine.has_bf16()
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_conversions_that_were_killed_leave_nothing_for_ever(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    old, new = (tmp_path / "graphs" / f".{name}.tmp" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    converted.convert(TINY)
    assert not old.exists()
    assert new.exists()  # somebody may be at work on it
