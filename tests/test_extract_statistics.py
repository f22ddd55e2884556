"""Random weights are calibrated in parts, with the result of Keras' own pass over all images."""

import numpy as np
import pytest
from headstart.extract.backbones import statistics
from headstart.extract.backbones.weights import fill_random
from headstart.extract.machine import import_keras

SIZE = 64


@pytest.fixture(scope="module")
def keras():
    return import_keras()


def small(keras):
    """Branches, wide and narrow tensors, and dropout."""
    layers = keras.layers
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(32, 3, use_bias=False)(images)  # wide: 32 numbers a pixel
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(40, 3, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    side = layers.BatchNormalization()(layers.Conv2D(16, 1, strides=2, use_bias=False)(x))
    x = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(16, 1)(x))
    relu = layers.ReLU
    x = layers.Add()([relu()(layers.BatchNormalization()(x)), relu()(side)])
    x = layers.Dropout(0.5)(x)
    x = layers.Concatenate()([x, side, x * 2.0])
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(x))
    return keras.Model(images, layers.GlobalAveragePooling2D()(x))


def measured(model):
    """(mean, variance) of each layer."""
    layers = [one for one in model.layers if hasattr(one, "moving_mean")]
    return [(one.moving_mean.numpy(), one.moving_variance.numpy()) for one in layers]


def by_keras(keras, model, images):
    """As Keras measures them, by a pass over all images in training mode."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model(images, training=True)
    return measured(model)


def require_equal(found, expected, tolerance):
    """Means are compared with the deviations: many are zero but for rounding."""
    assert len(found) == len(expected) > 1
    for (mean, variance), (true_mean, true_variance) in zip(found, expected, strict=True):
        deviation = np.sqrt(true_variance + 1e-3)
        assert np.abs(mean - true_mean).max() < tolerance * deviation.max()
        np.testing.assert_allclose(variance, true_variance, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("at_once", [1, 3 * SIZE**2, 10**9])
@pytest.mark.parametrize("kept", [1, 20, 10**9])
def test_statistics_are_those_of_all_images_however_they_are_parted(
    keras, monkeypatch, at_once, kept
):
    monkeypatch.setattr(statistics, "_PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(statistics, "_KEPT_PER_PIXEL", kept)
    images = np.random.default_rng(0).normal(1, 2, (7, SIZE, SIZE, 3)).astype(np.float32)
    model = small(keras)
    fill_random(model, images)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    require_equal(measured(model), by_keras(keras, other, images), 2e-5)


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0"])
def test_backbones_get_the_statistics_that_keras_measures(keras, monkeypatch, name):
    monkeypatch.setattr(statistics, "_PIXELS_AT_ONCE", 5 * 32**2)
    build = getattr(keras.applications, name)
    images = np.random.default_rng(0).normal(0, 1, (12, 32, 32, 3)).astype(np.float32)
    model, other = (build(include_top=False, weights=None, input_shape=(32, 32, 3)) for _ in "ab")
    fill_random(model, images)
    other.set_weights(model.get_weights())
    require_equal(measured(model), by_keras(keras, other, images), 5e-4)


def test_what_only_training_uses_stays_as_keras_made_it(keras):
    model = small(keras)
    fill_random(model, np.zeros((2, SIZE, SIZE, 3), np.float32))
    assert {one.momentum for one in model.layers if hasattr(one, "momentum")} == {0.99}
    assert {one.rate for one in model.layers if hasattr(one, "rate")} == {0.5}


def test_a_model_without_normalisation_needs_no_pass(keras):
    images = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(images, keras.layers.Conv2D(4, 3)(images))
    fill_random(model, np.full((1, SIZE, SIZE, 3), np.nan, np.float32))
    assert all(np.isfinite(one).all() for one in model.get_weights())
