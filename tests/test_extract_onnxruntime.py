"""The ONNX Runtime engine: its graphs, where they are kept, and the devices that it may use."""

import importlib
import logging
import os
import sys

import numpy as np
import pytest
from headstart.extract import engines, machine
from headstart.extract.backbones import onnx as as_onnx
from headstart.extract.backbones.build import Backbone
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines import onnxruntime as engine
from headstart.extract.engines.kept import NotConvertible
from headstart.extract.images.synthetic import synthetic_images
from headstart.features import BackboneError
from headstart.features.origin import distance

pytestmark = pytest.mark.skipif(
    not engines.TABLE["onnxruntime"].available(), reason="the extra onnx is not installed"
)
SIZE = 32
IMAGES = synthetic_images(7, 7, SIZE)
TINY = Request.checked(backbone="MobileNetV2", weights="random", size=SIZE)
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def odd_graph():
    """What tf2onnx does not know, or takes for something else, in a small graph."""
    keras = machine.import_keras()
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    values = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(images)
    values = keras.layers.Conv2D(8, 3, strides=2)(values)
    values = keras.layers.Conv2D(8, 3, groups=8, activation="gelu")(values)  # compiled by XLA
    values = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(values))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(values), name="odd")


@pytest.fixture(scope="module")
def odd():
    keras = machine.import_keras()
    keras.utils.set_random_seed(4)
    graph = odd_graph()
    for variable in graph.weights:
        if variable.dtype == "float32":
            variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    return graph, engine._converted(Backbone(graph, "", SIZE, 8))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder that holds one converted graph; and the vectors that it gave."""
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder))
        return folder, Embedding(TINY, "onnxruntime").embed(IMAGES)


def test_functions_of_xla_gelu_and_constants_of_keras_are_converted(odd):
    graph, data = odd
    vectors = engine.ONNXRuntimeEngine(Backbone(data, "", SIZE, 8)).embed(IMAGES)
    assert distance(vectors, np.asarray(graph(IMAGES, training=False))) < 1e-5


def test_a_graph_holds_its_weights_once_and_asks_for_images_and_standard_operators_alone(odd):
    graph, data = odd
    model = importlib.import_module("onnx").load_from_string(data)
    assert [one.name for one in model.graph.input] == ["images"]
    assert [one.domain for one in model.opset_import] == [""]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == as_onnx.BATCH
    held = sum(np.prod(one.dims) for one in model.graph.initializer)
    assert held < 1.2 * graph.count_params()
    # The batch normalisation has become part of the convolution before it.
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "Sqrt"})


def test_a_graph_that_comes_out_different_is_not_convertible(odd, monkeypatch):
    graph, _ = odd
    right = as_onnx.converted(graph, "vectors")
    right.graph.initializer[0].raw_data = b"\1" * len(right.graph.initializer[0].raw_data)
    for convert in (lambda *_: right, lambda *_: 1 / 0):
        monkeypatch.setattr(as_onnx, "converted", convert)
        with pytest.raises(NotConvertible, match="cannot have odd, which tf2onnx does not convert"):
            engine._converted(Backbone(graph, "", SIZE, 8))


def test_a_graph_is_converted_once_and_read_without_tensorflow(cache, monkeypatch):
    folder, vectors = cache
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    for library in ("keras", "tensorflow", "tf2onnx"):
        monkeypatch.setitem(sys.modules, library, None)
    backbone = engine.GRAPHS.cached(TINY)
    again = engine.ONNXRuntimeEngine(backbone)
    assert distance(again.embed(IMAGES), vectors) < 1e-6
    assert again.environment()["device"] == "CPU"
    (place,) = (folder / "graphs").iterdir()
    assert sorted(os.listdir(place)) == ["about.json", "graph.onnx"]


def test_a_damaged_graph_is_reported_and_converted_again(cache, monkeypatch, caplog):
    folder, vectors = cache
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    path = engine.GRAPHS.cached(TINY).graph
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes(9))
    with caplog.at_level(logging.WARNING, "headstart"):
        embedding = Embedding(TINY, "onnxruntime")
        assert distance(embedding.embed(IMAGES), vectors) < 1e-6
    (record,) = caplog.records
    assert "damaged (graph.onnx has another checksum" in record.getMessage()
    assert engine.GRAPHS.cached(TINY) is not None


def test_without_a_place_for_graphs_the_graph_stays_in_memory(cache, monkeypatch, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file is in the way")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING, "headstart"):
        vectors = Embedding(TINY, "onnxruntime").embed(IMAGES)
    assert "HEADSTART_CACHE can name another folder" in caplog.text
    assert distance(vectors, cache[1]) < 1e-6


def test_a_graph_is_read_from_a_folder_whose_name_is_no_text(cache, tmp_path):
    (place,) = (cache[0] / "graphs").iterdir()
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("names must be text here")
    (odd / "graph.onnx").write_bytes((place / "graph.onnx").read_bytes())
    backbone = Backbone(odd / "graph.onnx", "", SIZE, 1280)
    assert distance(engine.ONNXRuntimeEngine(backbone).embed(IMAGES), cache[1]) < 1e-6


def test_another_backend_of_keras_is_named_with_the_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    monkeypatch.setattr(machine.import_keras().backend, "backend", lambda: "jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(BackboneError, match=r"the onnxruntime engine converts.*KERAS_BACKEND=jax"):
        _ = Embedding(TINY, "onnxruntime").engine


@pytest.fixture
def with_device(odd, monkeypatch):
    """Engines of an ONNX Runtime that was built for CUDA, whose vectors are changed by `change`."""
    _, data = odd
    runtime, session = machine.import_onnxruntime(), engine._session
    monkeypatch.setattr(runtime, "get_available_providers", lambda: [CUDA, CPU])

    class OnDevice:
        def __init__(self, inner, change):
            self.inner, self.change = inner, change

        def get_providers(self):
            return [CUDA, CPU] if self.change else [CPU]

        def run(self, *asked):
            return [self.change(self.inner.run(*asked)[0])]

    def made(change):
        monkeypatch.setattr(
            engine,
            "_session",
            lambda graph, provider, *how: (
                OnDevice(session(graph, CPU, *how), change)
                if provider == CUDA
                else session(graph, provider, *how)
            ),
        )
        return engine.ONNXRuntimeEngine(Backbone(data, "", SIZE, 8))

    return made


def test_a_device_is_used_where_it_gives_the_vectors_of_the_processor(with_device, caplog):
    made = with_device(lambda vectors: vectors * np.float32(1 + 1e-5))
    assert (made.environment()["device"], made.calls) == ("CUDA", 1)
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda vectors: vectors * np.float32(1.01), "its vectors are 0.01 from those"),
        (lambda vectors: vectors * np.float32("nan"), "its vectors are nan from those"),
        (None, "its libraries cannot be loaded"),
    ],
    ids=["half precision", "nonsense", "no libraries"],
)
def test_a_device_that_gives_other_vectors_or_none_is_named_and_not_used(
    change, why, with_device, caplog
):
    with caplog.at_level(logging.WARNING, "headstart"):
        made = with_device(change)
    assert made.environment()["device"] == "CPU"
    assert f"the onnxruntime engine cannot use CUDA: {why}" in caplog.text


def test_a_device_that_this_onnxruntime_does_not_have_leaves_standard_output_alone(
    odd, monkeypatch, capfd
):
    runtime = machine.import_onnxruntime()
    monkeypatch.setattr(runtime, "get_available_providers", lambda: [CUDA, CPU])
    made = engine.ONNXRuntimeEngine(Backbone(odd[1], "", SIZE, 8))
    assert made.environment()["device"] == "CPU"
    assert capfd.readouterr().out == ""
