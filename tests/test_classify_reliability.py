"""How well calibrated predictions are, and what chance alone makes of perfect ones."""

import itertools

import numpy as np
import pytest
from headstart.classify.scores.reliability import (
    calibration_error,
    calibration_noise,
    reliability,
)
from scipy.stats import binom


def directly(confidence, draws, generator):
    return np.mean([
        calibration_error(reliability(confidence, generator.random(len(confidence)) < confidence))
        for _ in range(draws)
    ])  # fmt: skip


@pytest.mark.parametrize("images", [30, 500, 30_000])
def test_the_noise_is_what_perfect_predictions_show_in_the_mean(images):
    generator = np.random.default_rng(images)
    for low in (0.0, 0.5, 0.98):
        confidence = generator.uniform(low, 1, images)
        expected = directly(confidence, 1000 if images < 1000 else 60, generator)
        assert calibration_noise(confidence, np.arange(images)) == pytest.approx(expected, rel=0.12)


def test_of_one_confidence_the_noise_is_the_mean_deviation_of_the_binomial():
    for images, share in itertools.product((1, 7, 200), (0.55, 0.9)):
        confidence = np.full(images, share)
        expected = binom(images, share).expect(lambda right, n=images, p=share: abs(right - n * p))
        found = calibration_noise(confidence, np.arange(images))
        assert found == pytest.approx(expected / images, rel=0.1)


def test_at_thirty_images_a_seventh_is_noise_and_at_five_hundred_little_is():
    generator = np.random.default_rng(0)
    confidence = 0.5 + 0.5 * generator.beta(2, 1, 500)
    assert 0.11 < calibration_noise(confidence[:30], np.arange(30)) < 0.18
    assert calibration_noise(confidence, np.arange(500)) < 0.045


def test_copies_make_the_noise_no_less():
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 40)
    once = calibration_noise(confidence, np.arange(40))
    shuffled = generator.permutation(40 * 9)
    copies, groups = np.tile(confidence, 9)[shuffled], np.tile(np.arange(40), 9)[shuffled]
    assert calibration_noise(copies, groups) == pytest.approx(once, rel=0.1)
    assert calibration_noise(copies, np.arange(360)) < 0.6 * once


def test_the_same_confidences_have_the_same_noise_and_those_of_certainty_none():
    confidence = np.random.default_rng(2).uniform(0.3, 1, 50).astype(np.float32)
    assert calibration_noise(confidence, np.arange(50)) == calibration_noise(
        confidence, np.arange(50)
    )
    assert calibration_noise(np.ones(50), np.arange(50)) == 0


def test_the_error_is_that_of_its_definition():
    confidence = np.array([0.9, 0.9, 0.7, 0.7, 0.7, 0.5, 0.9, 0.5, 0.7, 0.5])
    right = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 1], bool)
    bins = reliability(confidence, right)
    assert [one["images"] for one in bins] == [3, 4, 3]
    expected = (3 * abs(0.9 - 1) + 4 * abs(0.7 - 2 / 4) + 3 * abs(0.5 - 2 / 3)) / 10
    assert calibration_error(bins) == pytest.approx(expected)
