"""The real backbones, at their smallest size, against Keras itself."""

import inspect

import h5py
import numpy as np
import pytest
from headstart.classify import train
from headstart.extract.backbones import build as backbones
from headstart.extract.backbones.architectures import ARCHITECTURES, architecture
from headstart.extract.backbones.request import Request
from headstart.extract.backbones.weights import digest
from headstart.extract.embedding import Embedding
from headstart.extract.engines.engine import Tuning
from headstart.extract.engines.keras import KerasEngine
from headstart.extract.images.decode import decode
from headstart.extract.machine import import_keras
from headstart.extract.pipeline import run
from headstart.features import BackboneError, WrongUsage

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 71, 71, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def keras():
    return import_keras()


@pytest.fixture(scope="module")
def xception():
    return backbones.build(Request.checked(weights="random", size=71))


@pytest.fixture(scope="module")
def vectors(xception):
    return KerasEngine(xception).embed(IMAGES)


def plain_xception(keras, xception):
    """Keras' own model with the weights of ours."""
    model = keras.applications.Xception(
        include_top=False, weights=None, input_shape=(71, 71, 3), pooling="avg"
    )
    inner = next(layer for layer in xception.graph.layers if layer.name.startswith("xception"))
    model.set_weights(inner.get_weights())
    return model


def relative(a, b):
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def applications(keras):
    return {
        name: function
        for name, function in vars(keras.applications).items()
        if callable(function) and "include_top" in inspect.signature(function).parameters
    }


def test_every_classifier_of_keras_can_be_asked_for_by_name(keras):
    assert set(ARCHITECTURES) == set(applications(keras))
    for known in ARCHITECTURES.values():
        assert callable(getattr(keras.applications, known.module).preprocess_input)


@pytest.mark.parametrize("name", ["Xception", "MobileNetV2", "InceptionV3"])
def test_the_smallest_size_is_the_one_keras_accepts(keras, name):
    build = applications(keras)[name]
    least = ARCHITECTURES[name].minimum
    assert build(include_top=False, weights=None, input_shape=(least, least, 3)) is not None
    with pytest.raises(ValueError, match=f"at least {least}"):
        build(include_top=False, weights=None, input_shape=(least - 1, least - 1, 3))


@pytest.mark.sweep
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_backbone_builds_at_its_default_and_its_smallest_size(keras, name):
    known = ARCHITECTURES[name]
    whole = applications(keras)[name](weights=None)
    # MobileNetV3 takes any size as it stands; its weights were trained at 224.
    assert whole.input_shape[1] == (None if "MobileNetV3" in name else known.size)
    keras.backend.clear_session()
    built = backbones.build(Request.checked(backbone=name, weights="random", size=known.minimum))
    images = np.random.default_rng(0).integers(0, 256, (3, known.minimum, known.minimum, 3))
    found = KerasEngine(built, Tuning(batch=3)).embed(images.astype(np.uint8))
    assert np.isfinite(found).all()
    assert found.std(axis=0).max() > 1e-3
    keras.backend.clear_session()


def test_an_unknown_backbone_suggests_the_nearest_name():
    with pytest.raises(WrongUsage, match="unknown backbone 'xceptoin'; did you mean Xception"):
        architecture("xceptoin")
    with pytest.raises(WrongUsage, match="did you mean MobileNetV2"):
        architecture("mobilenetv2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 70}, "size 70 is too small for Xception: at least 71"),
        ({"fit": "squash"}, "fit 'squash'"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"weights": "nowhere.h5"}, "weights 'nowhere.h5': no such file"),
        ({"weights": __file__}, "ending in .h5"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(WrongUsage, match=message):
        Request.checked(**settings)


def test_vectors_are_those_of_plain_keras(keras, xception, vectors):
    """Oracle: the same weights in keras.applications, with its own preprocessing and predict."""
    plain = plain_xception(keras, xception)
    expected = plain.predict(
        keras.applications.xception.preprocess_input(IMAGES.astype("float32")), verbose=0
    )
    assert vectors.shape == (37, 2048)
    assert vectors.dtype == np.float32
    assert relative(vectors, expected).max() < 1e-5


def test_convnext_is_normalised_after_pooling_as_keras_has_it(keras):
    request = Request.checked(backbone="ConvNeXtTiny", weights="random", size=32)
    ours = backbones.build(request)
    plain = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    plain.set_weights(ours.graph.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        ours.graph(images), plain(images.astype(np.float32), training=False), atol=1e-4
    )


def test_a_vector_does_not_depend_on_batch_size_neighbours_or_order(xception, vectors):
    for batch in (1, 5, 64):
        assert (
            relative(KerasEngine(xception, Tuning(batch=batch)).embed(IMAGES), vectors).max() < 1e-5
        )
    order = np.random.default_rng(1).permutation(len(IMAGES))
    engine = KerasEngine(xception)
    assert relative(engine.embed(IMAGES[order]), vectors[order]).max() < 1e-5
    assert relative(engine.embed(IMAGES[7:8]), vectors[7:8]).max() < 1e-5


def test_random_weights_are_the_same_every_time_and_tell_images_apart(xception, vectors):
    again = backbones.build(Request.checked(weights="random", size=71))
    assert again.weights_digest == xception.weights_digest
    assert relative(KerasEngine(again).embed(IMAGES), vectors).max() < 1e-5
    # Without calibration the values fade to 1e-5 or explode to 1e4.
    assert 0.01 < vectors.mean() < 10
    assert (vectors.std(axis=0) > 1e-3).mean() > 0.9


def write_official_layout(path, model):
    """The layout of xception_weights_tf_dim_ordering_tf_kernels_notop.h5: HDF5 as Keras 1 and 2
    wrote it, a group per layer with a list of its weights, in the order of the model."""
    numbered = {"conv2d": 0, "batch_normalization": 0}
    with h5py.File(path, "w") as file:
        names = []
        for layer in model.layers:
            name = layer.name
            for kind in numbered:
                if name.startswith(kind):
                    numbered[kind] += 1
                    name = f"{kind}_{numbered[kind]}"
            names.append(name.encode())
            group = file.create_group(name)
            weights = [f"{name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = weights
            for weight, value in zip(weights, layer.get_weights(), strict=True):
                group.create_dataset(weight.decode(), data=value)
        file.attrs["layer_names"] = names
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.0.5"


@pytest.mark.parametrize("layout", ["official .h5", ".weights.h5"])
def test_a_weights_file_gives_the_vectors_of_the_same_weights_set_in_memory(
    keras, tmp_path, vectors, xception, layout
):
    model = plain_xception(keras, xception)
    if layout == "official .h5":
        path = tmp_path / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
        write_official_layout(path, model)
    else:
        path = tmp_path / "xception.weights.h5"
        model.save_weights(path)
    loaded = backbones.build(Request.checked(weights=path, size=71))
    assert relative(KerasEngine(loaded).embed(IMAGES), vectors).max() < 1e-6
    assert loaded.weights_digest == digest(model)


def test_the_weights_of_another_model_are_refused(keras, tmp_path):
    other = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    for name in ("other.weights.h5", "other.h5"):
        path = tmp_path / name
        if name == "other.h5":
            write_official_layout(path, other)
        else:
            other.save_weights(path)
        with pytest.raises(BackboneError, match=f"{name}: not the weights of xception"):
            backbones.build(Request.checked(weights=path, size=71))
    path.write_bytes(b"no HDF5")
    with pytest.raises(BackboneError, match=r"other\.h5: not the weights of xception"):
        backbones.build(Request.checked(weights=path, size=71))


@pytest.mark.parametrize(
    ("backbone", "file", "checksum"),
    [
        (
            "Xception",
            "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "(md5 b0042744bf5b25fce3cb969f33bebb97)",
        ),
        (
            "MobileNetV2",
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5",
            "(Keras knows no checksum of it)",
        ),
    ],
)
def test_imagenet_weights_that_are_not_available_name_file_place_checksum_and_choices(
    keras, monkeypatch, tmp_path, backbone, file, checksum
):
    def refuse(*arguments, **options):
        raise OSError("network is unreachable")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(BackboneError) as error:
        backbones.build(Request.checked(backbone=backbone, size=96))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"ImageNet weights for {backbone} are not available: network is ")
    assert f"Put {file} {checksum} into {tmp_path / 'models'}" in message
    assert "--weights FILE" in message
    assert "--weights random" in message


def test_settings_of_keras_do_not_change_a_vector_and_are_left_as_they_were(keras, vectors):
    settings = keras.config
    settings.set_floatx("float16")
    settings.set_dtype_policy("mixed_bfloat16")
    try:
        built = backbones.build(Request.checked(weights="random", size=71))
        assert settings.floatx() == "float16"
        assert settings.dtype_policy().name == "mixed_bfloat16"
    finally:
        settings.set_floatx("float32")
        settings.set_dtype_policy("float32")
    assert relative(KerasEngine(built).embed(IMAGES), vectors).max() < 1e-5


def test_official_weights_already_in_place_need_no_network(
    keras, monkeypatch, tmp_path, xception, vectors
):
    """Keras finds the file by name and checksum; here the checksum is that of a file made now."""
    model = plain_xception(keras, xception)
    path = tmp_path / "models" / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir()
    write_official_layout(path, model)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *_, **__: True)
    loaded = backbones.build(Request.checked(size=71))
    assert relative(KerasEngine(loaded).embed(IMAGES), vectors).max() < 1e-6


@pytest.mark.parametrize("name", ["InceptionV3", "VGG16", "VGG19", "ResNet50", "ResNet50V2"])
def test_backbones_that_introductions_name_embed_and_train_as_their_authors_normalise(
    keras, name, tmp_path, fill_photos
):
    known = ARCHITECTURES[name]
    photos = fill_photos(tmp_path / "photos", count=6)
    request = Request.checked(backbone=name, weights="random", size=known.minimum)
    embedding = Embedding(request, "keras")
    store = run(embedding, photos, tmp_path / "out.h5")
    assert train(store).scores.rows == 12
    graph = embedding._loaded[0].graph
    (inner,) = (layer for layer in graph.layers if isinstance(layer, keras.Model))
    shape = (known.minimum, known.minimum, 3)
    plain = applications(keras)[name](
        include_top=False, weights=None, input_shape=shape, pooling="avg"
    )
    plain.set_weights(inner.get_weights())
    pixels = [decode((photos / path).read_bytes(), known.minimum).pixels for path in store.paths]
    normalise = getattr(keras.applications, known.module).preprocess_input
    theirs = plain.predict(normalise(np.stack(pixels).astype(np.float32)), verbose=0)
    assert relative(store.features, theirs).max() < 1e-4
    assert np.ptp(theirs, axis=0).max() > 1e-3
    keras.backend.clear_session()
