"""The engines against each other, and what each does when something is missing or runs out."""

import dataclasses
import importlib.machinery
import logging
import os
import platform
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from headstart.extract import engines, machine
from headstart.extract.backbones import build as backbones
from headstart.extract.backbones.architectures import ARCHITECTURES
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines.engine import Tuning
from headstart.extract.images.synthetic import synthetic_images
from headstart.features import BackboneError, MissingExtra, WrongUsage
from headstart.features.origin import TOLERANCES, distance

# White noise would not do: random weights of EfficientNetV2 answer one bit of one pixel of it with
# a fifth of the vector.
IMAGES = synthetic_images(19, 7, 71)
needs_openvino = pytest.mark.skipif(
    not machine.installed("openvino"), reason="openvino is not installed"
)
needs_onnx = pytest.mark.skipif(
    not engines.TABLE["onnxruntime"].available(), reason="the extra onnx is not installed"
)
CONVERTING = [
    pytest.param("openvino", marks=needs_openvino),
    pytest.param("onnxruntime", marks=needs_onnx),
]


def request(backbone="Xception", size=71, **settings):
    return Request.checked(**{"backbone": backbone, "weights": "random", "size": size} | settings)


def embedded(engine, tuning=None, images=IMAGES, **settings):
    return Embedding(request(**settings), engine, tuning).embed(images)


def cosine(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def by_keras():
    return embedded("keras")


@pytest.mark.parametrize("backbone", ["Xception", "MobileNetV2"])
def test_every_engine_gives_the_vectors_of_keras(backbone):
    expected = embedded("keras", backbone=backbone)
    for engine in ("openvino", "onnxruntime"):
        if engines.TABLE[engine].available():
            vectors = embedded(engine, backbone=backbone)
            assert vectors.dtype == np.float32
            assert distance(vectors, expected) < 2e-4, engine


@pytest.mark.sweep
@pytest.mark.parametrize("engine", CONVERTING)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_backbone_gives_the_same_vectors_by_every_engine(name, engine, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    size = max(ARCHITECTURES[name].minimum, 71)
    ours, theirs = (Embedding(request(name, size), one).canary for one in (engine, "keras"))
    assert distance(ours, theirs) < TOLERANCES["f32"]
    machine.import_keras().backend.clear_session()


@needs_openvino
@pytest.mark.sweep
def test_bf16_of_xception_at_its_own_size_has_a_cosine_of_three_nines_to_f32():
    full, half = (
        Embedding(request(size=299, precision=precision), "openvino").canary
        for precision in ("f32", "bf16")
    )
    assert cosine(half, full).min() > 0.999


@pytest.mark.parametrize("engine", CONVERTING)
@pytest.mark.parametrize(
    "tuning", [Tuning(batch=1), Tuning(batch=5), Tuning(streams=1), Tuning(threads=1)], ids=str
)
def test_batch_streams_and_threads_change_no_vector(tuning, engine):
    if tuning.streams and not engines.TABLE[engine].streams:
        tuning = Tuning(threads=3)
    usual = embedded(engine)
    assert distance(embedded(engine, tuning), usual) < 1e-6
    order = np.random.default_rng(1).permutation(len(IMAGES))
    assert distance(embedded(engine, tuning, IMAGES[order]), usual[order]) < 1e-6


@pytest.mark.parametrize("engine", ["keras", pytest.param("openvino", marks=needs_openvino)])
def test_bf16_is_near_f32_and_has_the_same_weights_but_another_provenance(engine, by_keras):
    half = Embedding(request(precision="bf16"), engine)
    full = Embedding(request(), engine)
    assert half.provenance.weights_digest == full.provenance.weights_digest
    assert half.provenance.fingerprint != full.provenance.fingerprint
    vectors = half.embed(IMAGES)
    assert vectors.dtype == np.float32
    assert cosine(vectors, by_keras).min() > 0.998
    if engine == "keras" or machine.has_bf16():
        assert not np.array_equal(vectors, by_keras)


def test_bf16_vectors_are_compared_with_a_tolerance_of_their_own():
    assert TOLERANCES["f32"] < TOLERANCES["bf16"] < 0.1
    with pytest.raises(WrongUsage, match="precision 'fp8': use one of f32, bf16"):
        request(precision="fp8")


def test_a_weights_file_that_was_exchanged_is_refused(tmp_path):
    model = machine.import_keras().applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    model.save_weights(tmp_path / "w.weights.h5")
    asked = request("MobileNetV2", 32, weights=tmp_path / "w.weights.h5")
    weights = model.get_weights()
    weights[0] = weights[0] + 1
    model.set_weights(weights)
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(BackboneError, match=r"not the weights file that was asked for.*--weights"):
        backbones.build(asked)


def test_bf16_normalises_with_the_statistics_of_the_weights_file(tmp_path):
    """EfficientNet keeps mean and variance of its input among the weights."""
    keras = machine.import_keras()
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    layer = next(one for one in model.layers if one.name.startswith("normalization"))
    weights = layer.get_weights()
    layer.set_weights([weights[0] + 0.4, weights[1] * 9, *weights[2:]])
    model.save_weights(tmp_path / "w.weights.h5")
    images = IMAGES[:4, :32, :32]
    full, half = (
        embedded(
            "keras",
            images=images,
            backbone="EfficientNetB0",
            size=32,
            weights=tmp_path / "w.weights.h5",
            precision=precision,
        )
        for precision in ("f32", "bf16")
    )
    assert cosine(full, half).min() > 0.99


def test_an_engine_that_is_not_installed_is_one_line_with_the_command(monkeypatch):
    for name, extra in (("openvino", "openvino"), ("onnxruntime", "onnx")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra) as error:
            Embedding(request(), name)
        assert f'python3 -m pip install "headstart[{extra}]"' in str(error.value)
    assert Embedding(request("MobileNetV2", size=32)).engine.name == "keras"


def test_auto_is_keras_on_a_gpu_and_openvino_on_a_cpu_that_has_it(monkeypatch):
    import tensorflow

    openvino = ModuleType("openvino")
    openvino.__spec__ = importlib.machinery.ModuleSpec("openvino", None)
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    asked, gpus = [], []

    def list_physical_devices(kind):
        asked.append(kind)
        return gpus

    monkeypatch.setattr(tensorflow.config, "list_physical_devices", list_physical_devices)
    monkeypatch.setattr(machine, "may_have_gpu", lambda: True)
    assert engines.choice() == "openvino"
    gpus.append(SimpleNamespace(name="GPU:0"))
    assert engines.choice() == "keras"
    assert asked == ["GPU", "GPU"]
    monkeypatch.setattr(machine, "may_have_gpu", lambda: False)
    assert engines.choice() == "openvino"
    assert len(asked) == 2  # there TensorFlow is not asked


def test_auto_is_onnxruntime_where_openvino_is_not_installed_and_it_was_measured(monkeypatch):
    monkeypatch.setattr(machine, "may_have_gpu", lambda: False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    there = dataclasses.replace(engines.TABLE["onnxruntime"], available=lambda: True)
    monkeypatch.setitem(engines.TABLE, "onnxruntime", there)
    chosen = {}
    for name in ("x86_64", "AMD64", "aarch64", "arm64"):
        monkeypatch.setattr(platform, "machine", lambda name=name: name)
        chosen[name] = engines.choice()
    assert chosen == dict.fromkeys(("x86_64", "AMD64"), "onnxruntime") | dict.fromkeys(
        ("aarch64", "arm64"), "keras"
    )
    # And not for what it does not compute in.
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    by_keras = dataclasses.replace(engines.TABLE["keras"], load=lambda *_: "by keras")
    monkeypatch.setitem(engines.TABLE, "keras", by_keras)
    assert engines.load(request(precision="bf16"), "auto", Tuning()) == "by keras"


@pytest.mark.parametrize(
    ("engine", "tuning", "message"),
    [
        ("tensorrt", Tuning(), "engine 'tensorrt': use one of auto, keras, openvino, onnxruntime"),
        ("keras", Tuning(streams=2), "streams are a setting of the openvino engine"),
        ("auto", Tuning(streams=2), "streams are a setting of the openvino engine"),
        ("onnxruntime", Tuning(streams=2), "streams are a setting of the openvino engine"),
        ("keras", Tuning(batch=0), "batch 0: at least 1"),
        ("keras", Tuning(batch=257), "batch 257: at most 256, the images of a unit"),
    ],
)
def test_settings_that_an_engine_has_not_are_refused(engine, tuning, message):
    with pytest.raises(WrongUsage, match=message):
        Embedding(request(), engine, tuning)


def test_bf16_on_a_processor_without_it_is_said_to_be_slower(monkeypatch, caplog):
    monkeypatch.setattr(machine, "has_bf16", lambda: False)
    monkeypatch.setattr(machine, "may_have_gpu", lambda: False)
    with caplog.at_level(logging.WARNING, "headstart"):
        engines.warn_of_slow_bf16("f32")
        engines.warn_of_slow_bf16("bf16")
    assert [record.getMessage() for record in caplog.records] == [machine.SLOW_BF16]


FAKE_KERAS = """
class backend:
    backend = staticmethod(lambda: "tensorflow")
"""


def test_tensorflow_takes_gpu_memory_only_as_it_needs_it(monkeypatch, tmp_path):
    import tensorflow

    machine.import_keras()  # there is one to be put back afterwards
    (tmp_path / "keras.py").write_text(FAKE_KERAS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keras")
    growing = []
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: [f"{kind}:0"])
    monkeypatch.setattr(
        tensorflow.config.experimental, "set_memory_growth", lambda *pair: growing.append(pair)
    )
    assert machine.import_keras().__file__ == str(tmp_path / "keras.py")
    assert growing == [("GPU:0", True)]


def test_a_worker_takes_its_share_of_threads_where_it_can(by_keras):
    assert Embedding(request("MobileNetV2", 32), "keras").unloaded(share=1).engine.name == "keras"


def test_threads_cannot_be_changed_once_tensorflow_runs(by_keras):
    with pytest.raises(WrongUsage, match="threads 3: TensorFlow has started"):
        _ = Embedding(request(), "keras", Tuning(threads=3)).engine


JAX = """
import sys
import numpy as np
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
images, weights, out = sys.argv[1:]
embedding = Embedding(Request.checked(weights=weights, size=71), "auto")
assert embedding.engine.environment()["backend"] == "jax"
np.save(out, embedding.embed(np.load(images)))
"""


@pytest.mark.skipif(not machine.installed("jax"), reason="jax is not installed")
def test_jax_gives_the_vectors_of_tensorflow_and_is_what_auto_takes_there(tmp_path, by_keras):
    graph = backbones.build(request()).graph
    inner = next(layer for layer in graph.layers if layer.name.startswith("xception"))
    inner.save_weights(tmp_path / "x.weights.h5")
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [tmp_path / name for name in ("images.npy", "x.weights.h5", "out.npy")]
    subprocess.run(
        [sys.executable, "-c", JAX, *arguments],
        check=True,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert distance(np.load(tmp_path / "out.npy"), by_keras) < 1e-4


FIRST_LOOK = """
import sys
import numpy as np
from headstart.extract.backbones.build import Backbone
from headstart.extract.engines.openvino import OpenVINOEngine
from headstart.extract.machine import import_openvino
openvino = import_openvino()
from openvino import opset13
images = opset13.parameter([-1, 32, 32, 3], np.uint8)
mean = opset13.reduce_mean(opset13.convert(images, "f32"), np.array([1, 2]))
openvino.save_model(openvino.Model([mean], [images]), sys.argv[1])
engine = OpenVINOEngine(Backbone(sys.argv[1], "", 32, 3), "f32")
print(engine.embed(np.full((64, 32, 32, 3), 7, np.uint8)).mean())
"""


@needs_openvino
def test_threads_that_are_the_first_to_use_openvino_do_not_wait_for_each_other(tmp_path):
    """Without `_initialise_binding` about one fresh process in five hangs."""
    for number in range(8):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_LOOK, tmp_path / f"{number}.xml"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert float(done.stdout) == 7
