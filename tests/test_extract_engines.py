"""The engines against each other, and what each does when something is missing or runs out."""

import logging
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from headstart.extract import backbones, engines, graphs, hardware, libraries
from headstart.extract.architectures import ARCHITECTURES
from headstart.extract.canary import synthetic_images
from headstart.extract.embedding import Embedding
from headstart.extract.engines.engine import Engine, Tuning, out_of_memory
from headstart.extract.request import Request
from headstart.features import BackboneError, MissingExtra, WrongUsage
from headstart.features.canary import TOLERANCES, distance

# White noise would not do: random weights of EfficientNetV2 answer one bit of one pixel of it with
# a fifth of the vector.
IMAGES = synthetic_images(19, 7, 71)
HAS_OPENVINO = engines.installed("openvino")
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")


def request(backbone="Xception", size=71, **settings):
    return Request.checked(**{"backbone": backbone, "weights": "random", "size": size} | settings)


def embedded(engine, tuning=None, images=IMAGES, **settings):
    return Embedding(request(**settings), engine, tuning).embed(images)


def cosine(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def by_keras():
    return embedded("keras")


@needs_openvino
@pytest.mark.parametrize("backbone", ["Xception", "MobileNetV2", "EfficientNetV2B0"])
def test_openvino_gives_the_vectors_of_keras(backbone):
    vectors = [embedded(engine, backbone=backbone) for engine in ("keras", "openvino")]
    assert vectors[1].dtype == np.float32
    assert distance(vectors[1], vectors[0]) < 2e-4


@needs_openvino
@pytest.mark.sweep
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_backbone_gives_the_same_vectors_by_both_engines(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    size = max(ARCHITECTURES[name].minimum, 71)
    ours, theirs = (
        Embedding(request(name, size), engine).canary for engine in ("openvino", "keras")
    )
    assert distance(ours, theirs) < TOLERANCES["f32"]
    backbones.import_keras().backend.clear_session()


@needs_openvino
@pytest.mark.sweep
def test_bf16_of_xception_at_its_own_size_has_a_cosine_of_three_nines_to_f32():
    full, half = (
        Embedding(request(size=299, precision=precision), "openvino").canary
        for precision in ("f32", "bf16")
    )
    assert cosine(half, full).min() > 0.999


@needs_openvino
@pytest.mark.parametrize(
    "tuning", [Tuning(batch=1), Tuning(batch=5), Tuning(streams=1), Tuning(threads=1)], ids=str
)
def test_batch_streams_and_threads_change_no_vector(tuning):
    usual = embedded("openvino")
    assert distance(embedded("openvino", tuning), usual) < 1e-6
    order = np.random.default_rng(1).permutation(len(IMAGES))
    assert distance(embedded("openvino", tuning, IMAGES[order]), usual[order]) < 1e-6


@pytest.mark.parametrize("engine", ["keras", pytest.param("openvino", marks=needs_openvino)])
def test_bf16_is_near_f32_and_has_the_same_weights_but_another_provenance(engine, by_keras):
    half = Embedding(request(precision="bf16"), engine)
    full = Embedding(request(), engine)
    assert half.provenance.weights_digest == full.provenance.weights_digest
    assert half.provenance.fingerprint != full.provenance.fingerprint
    vectors = half.embed(IMAGES)
    assert vectors.dtype == np.float32
    assert cosine(vectors, by_keras).min() > 0.998
    if engine == "keras" or hardware.has_bf16():
        assert not np.array_equal(vectors, by_keras)


def test_bf16_vectors_are_compared_with_a_tolerance_of_their_own():
    assert TOLERANCES["f32"] < TOLERANCES["bf16"] < 0.1
    with pytest.raises(WrongUsage, match="precision 'fp8': use one of f32, bf16"):
        request(precision="fp8")


@needs_openvino
def test_a_graph_is_converted_once_and_read_afterwards(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    first = Embedding(request("MobileNetV2"), "openvino")
    vectors = first.embed(IMAGES)
    monkeypatch.setattr(backbones, "build", None)  # nothing is built any more
    again = Embedding(request("MobileNetV2"), "openvino")
    assert again.provenance == first.provenance
    assert distance(again.embed(IMAGES), vectors) < 1e-6
    half = Embedding(request("MobileNetV2", precision="bf16"), "openvino")
    assert half.provenance.weights_digest == first.provenance.weights_digest
    with pytest.raises(TypeError):
        _ = Embedding(request("MobileNetV2", size=72), "openvino").provenance
    (place,) = (tmp_path / "graphs").iterdir()
    assert place.name.startswith("MobileNetV2-71-")


TINY = {"backbone": "MobileNetV2", "size": 32}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A cache that holds one sound graph."""
    cache = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(cache))
        graphs.convert(request(**TINY))
    return cache


@needs_openvino
@pytest.mark.parametrize("file", ["graph.bin", "graph.xml", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_graph_is_not_used_and_said_in_one_line(
    file, damage, converted, monkeypatch, tmp_path, caplog
):
    shutil.copytree(converted, tmp_path / "cache")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    path = graphs.cached(request(**TINY)).graph.parent / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-9])
    else:
        path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    with caplog.at_level(logging.WARNING, "headstart"):
        assert graphs.cached(request(**TINY)) is None
    (record,) = caplog.records
    assert "damaged" in record.getMessage()
    assert "\n" not in record.getMessage()


@needs_openvino
def test_a_damaged_graph_is_replaced_by_the_next_run(converted, monkeypatch, tmp_path):
    shutil.copytree(converted, tmp_path / "cache")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    sound = graphs.cached(request(**TINY))
    sound.graph.write_bytes(b"")
    assert Embedding(request(**TINY), "openvino").provenance.weights_digest == sound.weights_digest
    assert graphs.cached(request(**TINY)) == sound
    assert list(sound.graph.parents[1].iterdir()) == [sound.graph.parent]


@needs_openvino
def test_a_cache_that_cannot_be_written_costs_a_line_and_no_run(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "headstart"):
        vectors = embedded("openvino", backbone="MobileNetV2", size=71)
    assert distance(vectors, embedded("keras", backbone="MobileNetV2", size=71)) < 2e-4
    (record,) = caplog.records
    assert "HEADSTART_CACHE can name another folder" in record.getMessage()


@needs_openvino
def test_a_graph_converted_for_bf16_serves_f32_as_well(monkeypatch, tmp_path, by_keras):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    half = embedded("openvino", precision="bf16")
    assert distance(embedded("openvino"), by_keras) < 2e-4
    assert distance(half, by_keras) > 1e-3 or not hardware.has_bf16()


@needs_openvino
def test_conversions_that_were_killed_leave_nothing_for_ever(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    old, new = (tmp_path / "graphs" / f".{name}.tmp" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    graphs.convert(request("MobileNetV2", size=32))
    assert not old.exists()
    assert new.exists()  # somebody may be at work on it


def test_a_weights_file_that_was_exchanged_is_refused(tmp_path):
    model = backbones.import_keras().applications.MobileNetV2(
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
    keras = backbones.import_keras()
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
    monkeypatch.setattr(engines, "installed", lambda library: False)
    with pytest.raises(MissingExtra) as error:
        Embedding(request(), "openvino")
    assert 'python3 -m pip install "headstart[openvino]"' in str(error.value)
    assert Embedding(request("MobileNetV2", size=32)).engine.name == "keras"


def test_auto_is_keras_on_a_gpu_and_openvino_on_a_cpu_that_has_it(monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda library: True)
    gpu = []
    monkeypatch.setattr("headstart.extract.engines.keras.gpus", lambda: gpu)
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: True)
    assert engines._chosen() == "openvino"
    gpu.append("GPU:0")
    assert engines._chosen() == "keras"
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: False)  # then nobody is asked
    assert engines._chosen() == "openvino"


@pytest.mark.parametrize(
    ("engine", "tuning", "message"),
    [
        ("tensorrt", Tuning(), "engine 'tensorrt': use one of auto, keras, openvino"),
        ("keras", Tuning(streams=2), "streams are a setting of the openvino engine"),
        ("keras", Tuning(batch=0), "batch 0: at least 1"),
        ("keras", Tuning(batch=257), "batch 257: at most 256, the images of a unit"),
    ],
)
def test_settings_that_an_engine_has_not_are_refused(engine, tuning, message):
    with pytest.raises(WrongUsage, match=message):
        Embedding(request(), engine, tuning)


def test_bf16_on_a_processor_without_it_is_said_to_be_slower(monkeypatch, caplog):
    monkeypatch.setattr(hardware, "has_bf16", lambda: False)
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: False)
    with caplog.at_level(logging.WARNING, "headstart"):
        engines.warn_of_slow_bf16("f32")
        engines.warn_of_slow_bf16("bf16")
    assert [record.getMessage() for record in caplog.records] == [hardware.SLOW_BF16]


class Small(Engine):
    """Gives each image its sum, and has no memory for more than `most` images at once."""

    name = "small"

    def __init__(self, most, batch, error=MemoryError):
        self.most, self.error, self.compiled = most, error, []
        super().__init__(SimpleNamespace(size=4, dimension=1), batch)

    def environment(self):
        return {}

    def _compile(self, batch):
        self.compiled.append(batch)

        def run(images):
            assert images.shape == (batch, 4, 4, 3)
            if batch > self.most:
                raise self.error
            return images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None]

        return run


SMALL = np.random.default_rng(2).integers(0, 256, (11, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes"),
        RuntimeError("std::bad_alloc"),
        type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
    ],
    ids=["Python", "JAX", "C++", "TensorFlow"],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does_with_a_line_each(error, caplog):
    engine = Small(most=2, batch=8, error=error)
    with caplog.at_level(logging.WARNING, "headstart"):
        vectors = engine.embed(SMALL)
    assert vectors[:, 0].tolist() == SMALL.sum(axis=(1, 2, 3)).tolist()
    assert engine.batch == 2
    assert engine.compiled == [8, 4, 2]
    assert [record.args for record in caplog.records] == [(8, 4, 4), (4, 2, 2)]


def test_no_memory_for_a_single_image_and_other_errors_end_the_run():
    with pytest.raises(BackboneError, match="not enough memory to embed a single image"):
        Small(most=0, batch=2).embed(SMALL)
    with pytest.raises(RuntimeError, match="a bug"):
        Small(most=0, batch=2, error=RuntimeError("a bug")).embed(SMALL)
    assert not out_of_memory(ValueError("shapes do not match"))


def test_a_batch_too_large_to_be_compiled_is_halved_as_well():
    class Large(Small):
        def _compile(self, batch):
            if batch > self.most:
                raise MemoryError
            return super()._compile(batch)

    assert Large(most=2, batch=8).batch == 2


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_a_short_batch_is_filled_up_and_nothing_is_compiled_again(count):
    engine = Small(most=8, batch=4)
    assert engine.embed(SMALL[:count])[:, 0].tolist() == SMALL[:count].sum(axis=(1, 2, 3)).tolist()
    assert engine.submit(SMALL[:count]).result().shape == (count, 1)
    assert engine.compiled == [4]


def test_tensorflow_takes_gpu_memory_only_as_it_needs_it(monkeypatch):
    import tensorflow

    growing = []
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: [f"{kind}:0"])
    monkeypatch.setattr(
        tensorflow.config.experimental, "set_memory_growth", lambda *pair: growing.append(pair)
    )
    libraries._let_gpu_memory_grow()
    assert growing == [("GPU:0", True)]


def test_a_worker_takes_its_share_of_threads_where_it_can(by_keras):
    assert Embedding(request("MobileNetV2", 32), "keras").unloaded(share=1).engine.name == "keras"


def test_threads_cannot_be_changed_once_tensorflow_runs(by_keras):
    with pytest.raises(WrongUsage, match="threads 3: TensorFlow has started"):
        _ = Embedding(request(), "keras", Tuning(threads=3)).engine


JAX = """
import sys
import numpy as np
from headstart.extract.architectures import ARCHITECTURES
from headstart.extract.canary import synthetic_images
from headstart.extract.embedding import Embedding
from headstart.extract.request import Request
images, weights, out = sys.argv[1:]
embedding = Embedding(Request.checked(weights=weights, size=71), "keras")
assert embedding.engine.environment()["backend"] == "jax"
np.save(out, embedding.embed(np.load(images)))
"""


@pytest.mark.skipif(not engines.installed("jax"), reason="jax is not installed")
def test_jax_gives_the_vectors_of_tensorflow(tmp_path, by_keras):
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
import sys, threading
import numpy as np
from headstart.extract.backbones import Backbone
from headstart.extract.engines.openvino import OpenVINOEngine
from headstart.extract.libraries import import_openvino
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
