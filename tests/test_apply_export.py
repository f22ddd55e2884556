"""`headstart export`: one model of backbone and head, which runs where headstart is not."""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from headstart.apply import export
from headstart.classify import load_head, train
from headstart.extract import machine
from headstart.extract.backbones import build, fused
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.images.synthetic import synthetic_images
from headstart.features import FeatureStore
from sklearn.neighbors import KNeighborsClassifier

SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")
HEADS = [("logistic", 3), ("svm", 2), ("svm", 3), ("prototype", 2), ("prototype", 3)]

ONNX = all(map(machine.installed, fused.ONNX_NEEDS))
needs_onnx = pytest.mark.skipif(not ONNX, reason="tf2onnx or onnxruntime is not installed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, fill_photos):
    """A folder with a head of each kind, for two and for three classes, and photos/."""
    from headstart.extract.pipeline import extract

    folder = tmp_path_factory.mktemp("trained")
    for classes in (2, 3):
        photos = fill_photos(folder / f"photos{classes}", ("blue", "green", "red")[:classes])
        store = extract(
            photos, folder / f"{classes}.h5", backbone="MobileNetV2", size=64, weights="random"
        )
        for name, number in HEADS:
            if number == classes:
                train(store, name, folds=3).save(folder / f"{name}-{classes}.skops")
    return folder


@pytest.fixture(scope="module")
def exported(trained):
    """The same folder, with Keras models of all heads, and ONNX files of those of three classes."""
    for name, classes in HEADS:
        for suffix in (".keras", ".onnx") if ONNX and classes == 3 else (".keras",):
            head = trained / f"{name}-{classes}.skops"
            done = export(head, head.with_suffix(suffix))
            assert done.difference <= 1e-4
    pixels = synthetic_images(12, 7, 64)
    np.save(trained / "pixels.npy", pixels)
    return trained


def expected(folder, name, classes):
    """What `predict` says of the pixels."""
    head = load_head(folder / f"{name}-{classes}.skops")
    request = Request.checked(backbone="MobileNetV2", size=64, weights="random")
    return head.predict(Embedding(request).embed(np.load(folder / "pixels.npy"))).probabilities


def alone(program, *without, arguments=()):
    """What a program prints as JSON in a process that cannot import some modules."""
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{hidden}{program}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


PLAIN_KERAS = """
import keras, numpy, zipfile
pixels = numpy.load("pixels.npy")
found = {}
for name in sys.argv[1:]:
    model = keras.models.load_model(name + ".keras")
    with zipfile.ZipFile(name + ".keras") as archive:
        about = json.loads(archive.read("headstart.json"))
    (base,) = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    one = {
        "layers": [type(layer).__name__ for layer in model.layers],
        "input": [model.input_shape, str(model.inputs[0].dtype)],
        "frozen": not base.trainable,
        "trained": [tuple(weight.shape) for weight in model.trainable_weights],
        "labels": about["labels"],
        "probabilities": model(pixels).numpy().tolist(),
    }
    found[name] = one
before = [weight.numpy() for weight in model.weights]
model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
model.fit(pixels, numpy.arange(len(pixels)) % 3, verbose=0)
found["moved by a step"] = [
    weight.path for old, weight in zip(before, model.weights) if (old != weight.numpy()).any()
]
print(json.dumps(found))
"""


def test_the_keras_file_is_the_classic_model_and_plain_keras_loads_and_tunes_it(
    exported, monkeypatch
):
    monkeypatch.chdir(exported)
    names = [f"{name}-{classes}" for name, classes in HEADS]
    found = alone(PLAIN_KERAS, "headstart", arguments=names)
    for name, classes in HEADS:
        one = found[f"{name}-{classes}"]
        layers = [layer for layer in one["layers"] if layer != "InputLayer"]
        of_length_one = ["Rescaling", "UnitNormalization"] if name == "prototype" else []
        assert layers == ["Rescaling", "Functional", *of_length_one, "Dense"]
        assert one["input"] == [[None, 64, 64, 3], "uint8"]
        assert one["frozen"]
        assert one["trained"] == [[1280, classes], [classes]]
        assert one["labels"] == ["blue", "green", "red"][:classes]
        np.testing.assert_allclose(
            one["probabilities"], expected(exported, name, classes), atol=1e-4
        )
    assert found["moved by a step"] == ["probabilities/kernel", "probabilities/bias"]


PLAIN_ONNX = """
import numpy, onnxruntime
pixels = numpy.load("pixels.npy")
found = {}
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name + ".onnx")
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    about = session.get_modelmeta().custom_metadata_map
    found[name] = {
        "input": [given.name, given.type, given.shape],
        "output": [answer.name, answer.shape],
        "labels": json.loads(about["labels"]),
        "size": json.loads(about["input"])["size"],
        "fingerprint": json.loads(about["fingerprint"]),
        "probabilities": session.run(None, {given.name: pixels})[0].tolist(),
        "of one": session.run(None, {given.name: pixels[:1]})[0].tolist(),
    }
print(json.dumps(found))
"""


@needs_onnx
def test_the_onnx_file_runs_with_onnxruntime_alone(exported, monkeypatch):
    monkeypatch.chdir(exported)
    names = ["logistic-3", "svm-3"]
    absent = ("headstart", "tensorflow", "keras", "sklearn", "h5py", "tf2onnx", "onnx")
    found = alone(PLAIN_ONNX, *absent, arguments=names)
    for name in ("logistic", "svm"):
        one = found[f"{name}-3"]
        assert one["input"] == ["images", "tensor(uint8)", ["N", 64, 64, 3]]
        assert one["output"] == ["probabilities", ["N", 3]]
        assert one["labels"] == ["blue", "green", "red"]
        assert one["size"] == 64
        assert one["fingerprint"] == FeatureStore(exported / "3.h5").fingerprint
        probabilities = expected(exported, name, 3)
        np.testing.assert_allclose(one["probabilities"], probabilities, atol=1e-4)
        np.testing.assert_allclose(one["of one"], probabilities[:1], atol=1e-4)


def test_the_file_says_what_made_it(exported):
    head = load_head(exported / "svm-3.skops")
    with zipfile.ZipFile(exported / "svm-3.keras") as archive:
        about = json.loads(archive.read("headstart.json"))
    assert about["provenance"] == dataclasses.asdict(head.provenance)
    assert about["training_digest"] == head.training_digest
    assert about["input"]["fit"] == "stretch"
    assert about["head"] == "svm"
    assert about["accuracy"] == head.scores.accuracy
    assert about["headstart"] == importlib.metadata.version("headstart")


class _Top:
    activation = "softmax"

    def __init__(self, dimension):
        generator = np.random.default_rng(0)
        self.kernel = generator.normal(size=(dimension, 3)) / dimension**0.5
        self.bias = np.zeros(3)


@pytest.mark.parametrize(
    ("name", "normalised_for", "suffix"),
    [
        ("VGG16", "vgg16", ".keras"),  # BGR, means subtracted
        ("MobileNetV3Small", "mobilenet_v3", ".keras"),  # pixels as they are
        # Small backbones in place of large ones with the same way of normalising.
        ("MobileNetV2", "densenet", ".keras"),  # each channel scaled otherwise
        pytest.param("MobileNetV2", "vgg16", ".onnx", marks=needs_onnx),
    ],
)
def test_every_way_of_normalising_survives_in_the_file(
    tmp_path, monkeypatch, name, normalised_for, suffix
):
    import keras

    normalise = getattr(keras.applications, normalised_for).preprocess_input
    monkeypatch.setattr(build, "normalisation", lambda *_: normalise)
    request = Request.checked(backbone=name, size=32, weights="random")
    backbone = build.build(request)
    top, images = _Top(backbone.dimension), synthetic_images(4, 7, 32)
    run = fused.write(tmp_path / f"model{suffix}", request, top, {"labels": ["a", "b", "c"]})
    sums = np.asarray(backbone.graph(images)) @ top.kernel
    each = np.exp(sums - sums.max(axis=1, keepdims=True))
    each /= each.sum(axis=1, keepdims=True)
    assert np.ptp(each, axis=0).max() > 1e-3  # images are told apart
    np.testing.assert_allclose(run(images), each, atol=1e-4)


def test_channels_are_scaled_as_every_family_of_backbones_wants_it():
    import keras
    from headstart.extract.backbones.architectures import ARCHITECTURES

    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    for name in ARCHITECTURES:
        request = Request.checked(backbone=name, weights="random")
        normalise = build.normalisation(keras, request)
        scale, offset, reverse = fused._rescaling(normalise)
        pixels = images[..., ::-1] if reverse else images
        ours = keras.layers.Rescaling(scale, offset)(pixels)
        np.testing.assert_allclose(
            ours, normalise(images.astype(np.float32)), atol=1e-4, err_msg=name
        )


@pytest.fixture
def stubbed(photos, stand_in, cli, monkeypatch):
    """A working folder with pets.h5 and pets.joblib, whose backbone is the stand-in."""
    monkeypatch.chdir(photos.parent)
    stand_in("extract.pipeline", "apply.export")
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    return photos.parent


@pytest.fixture
def written(stubbed, stub, monkeypatch):
    """Have models written whose probabilities are off by some number."""

    def off(by):
        head = load_head("pets.joblib")

        def write(path, request, top, about):
            path.write_bytes(b"a model")
            return lambda images: head.predict(stub.engine.embed(images)).probabilities + by

        monkeypatch.setattr(fused, "write", write)

    return off


def test_the_command_says_what_it_wrote(stubbed, cli, written):
    written(off_by := 5e-5)
    done = cli("export", "pets.joblib", "-o", "pets.keras")
    assert done.code == 0
    assert "pets.keras: 0.0 MB; takes uint8 RGB images of 32 x 32 pixels (fit: stretch)" in done.out
    assert "blue, red" in done.out
    assert "on 32 images: probabilities differ by at most 5e-05" in done.out
    assert (stubbed / "pets.keras").read_bytes() == b"a model"
    said = json.loads(cli("export", "pets.joblib", "-o", "pets.keras", "--json").out)
    assert said["labels"] == ["blue", "red"]
    assert said["difference"] == pytest.approx(off_by)
    assert said["bytes"] == len(b"a model")


@pytest.mark.parametrize("by", [2e-4, np.nan])
def test_a_graph_that_answers_otherwise_is_refused_and_nothing_is_left(stubbed, cli, written, by):
    written(by)
    before = sorted(stubbed.iterdir())
    line = cli("export", "pets.joblib", "-o", "pets.keras").failure()
    assert "pets.keras: not written" in line
    assert "at most 0.0001 is allowed" in line
    assert sorted(stubbed.iterdir()) == before


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("svm-rbf", "its svm-rbf head cannot be exported: it compares an image with"),
        (KNeighborsClassifier(1), "a KNeighborsClassifier cannot be folded"),
    ],
    ids=["svm-rbf", "neighbours"],
)
def test_a_head_that_cannot_be_fused_says_why(stubbed, cli, head, reason):
    train(FeatureStore("pets.h5"), head, folds=3).save("other.joblib")
    line = cli("export", "other.joblib", "-o", "other.keras").failure()
    assert reason in line
    assert "train --head logistic or --head svm" in line
    assert not (stubbed / "other.keras").exists()


def test_a_head_of_bf16_features_says_why(stubbed, cli):
    head = load_head("pets.joblib")
    provenance = dataclasses.replace(head.provenance, precision="bf16")
    origin = dataclasses.replace(head.origin, provenance=provenance)
    dataclasses.replace(head, origin=origin).save("other.joblib")
    line = cli("export", "other.joblib", "-o", "other.keras").failure()
    assert "its features were computed in bf16" in line


@pytest.mark.parametrize("absent", ["tf2onnx", "onnxruntime"])
def test_without_the_extra_one_line_gives_the_command(stubbed, cli, monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    line = cli("export", "pets.joblib", "-o", "pets.onnx").failure()
    assert f"ONNX files need {absent}; install with: " in line
    assert line.endswith('python3 -m pip install "headstart[onnx]"')


def test_an_output_that_is_a_folder_or_of_another_kind_is_one_line(stubbed, cli):
    (stubbed / "folder.keras").mkdir()
    assert "is a folder" in cli("export", "pets.joblib", "-o", "folder.keras").failure()
    line = cli("export", "pets.joblib", "-o", "pets.h5").failure(2)
    assert "NAME.keras or NAME.onnx" in line
    assert "missing.joblib" in cli("export", "missing.joblib", "-o", "pets.keras").failure()
    assert not (stubbed / "pets.keras").exists()
