"""What is unfamiliar: a rate of false alarms that holds, a size that stays small."""

import os

import numpy as np
import pytest
from headstart.classify import load_head, train
from headstart.classify.folds import stratified_folds
from headstart.classify.novelty import FALSE_ALARMS, Novelty, _thresholds
from headstart.classify.persistence import SUFFIXES
from scipy import stats


def vectors(count, seed=0, dimension=40, rank=6, noise=0.1):
    """Positive vectors that vary in few directions, with a little noise in all others."""
    directions = np.random.default_rng(99).normal(size=(rank, dimension))
    generator = np.random.default_rng(seed)
    along = generator.normal(size=(count, rank)) @ directions
    return (5 + along + noise * generator.normal(size=(count, dimension))).astype(np.float32)


def learned(features, codes=None, seed=0, groups=None):
    codes = np.arange(len(features)) % 2 if codes is None else codes
    image = np.arange(len(features)) if groups is None else groups
    folds = stratified_folds(codes, image, 5, 0).held_out
    return Novelty.learned(features, folds, codes, codes.max() + 1, seed, groups)


def scores(novelty, features, codes=0):
    """Of vectors that are surely of one class."""
    certain = np.eye(len(novelty.thresholds))[np.broadcast_to(codes, len(features))]
    return novelty.scores(features, certain, np.ones(len(novelty.thresholds), int))


@pytest.mark.parametrize("count", [50, 300, 5000])
def test_one_in_a_hundred_new_images_of_the_same_kind_is_a_false_alarm(count):
    rates = []
    for seed in range(0, max(2, 3000 // count), 2):
        novelty = learned(vectors(count, seed))
        rates.append((scores(novelty, vectors(2000, seed + 1)) > 1).mean())
        assert novelty.false_alarms == FALSE_ALARMS
        assert novelty.held_out == min(count, 1000)
    assert 0.4 * FALSE_ALARMS < np.mean(rates) < 2 * FALSE_ALARMS


def test_near_copies_count_as_one_image():
    distances, codes, _ = simulated(np.random.default_rng(0), (50, 20, 1), 2)
    image = np.repeat(np.arange(71), np.arange(71) % 5 + 1)
    once = _thresholds(distances, codes, 3, np.ones(71))
    weights = 1 / np.bincount(image)[image]
    np.testing.assert_allclose(_thresholds(distances[image], codes[image], 3, weights), once)


def test_near_copies_that_are_known_to_be_copies_cause_few_false_alarms():
    image = np.concatenate([np.arange(80), *[np.arange(60)] * 5])
    rates = []
    for seed in range(0, 20, 2):
        features, further = vectors(80, seed, noise=1), vectors(500, seed + 1, noise=1)
        features = np.concatenate([features, *[features[:60] + 0.01 * k for k in range(5)]])
        both = learned(features, image % 2, groups=image), learned(features, image % 2)
        rates.append([(scores(novelty, further) > 1).mean() for novelty in both])
        assert [novelty.held_out for novelty in both] == [80, 380]
    known, unknown = np.mean(rates, axis=0)
    assert known < 0.03
    assert unknown > 0.5


def simulated(generator, counts, apart):
    """Held-out distances and their classes, and 200 further distances of each class."""
    centres = 0.7 + 0.05 * apart * generator.normal(size=len(counts))
    codes = np.repeat(np.arange(len(counts)), counts)
    distances = centres[codes] + 0.05 * generator.normal(size=len(codes))
    return distances, codes, centres + 0.05 * generator.normal(size=(200, len(counts)))


@pytest.mark.parametrize("apart", [0, 0.5, 3])
@pytest.mark.parametrize(
    "counts", [(10, 10), (200, 10), (2, 3, 50, 100), (700, 300), (5,) * 30, (1,) * 30]
)
def test_thresholds_hold_for_every_class_however_few_and_far_apart(counts, apart):
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(300):
        distances, codes, further = simulated(generator, counts, apart)
        found = _thresholds(distances, codes, len(counts), np.ones(len(codes)))
        alarms.append((further > found).mean(axis=0))
    rates = np.mean(alarms, axis=0)
    assert 0.5 * FALSE_ALARMS < np.average(rates, weights=counts) < 1.5 * FALSE_ALARMS
    assert rates.max() < 4 * FALSE_ALARMS


def test_few_distances_of_one_class_lead_to_the_prediction_limit_of_a_normal_distribution():
    distances = np.array([0.4, 0.5, 0.6, 0.5])
    _, limit = stats.t(3, distances.mean(), distances.std(ddof=1) * (1 + 1 / 4) ** 0.5).interval(
        1 - 2 * FALSE_ALARMS
    )
    found = _thresholds(distances, np.zeros(4, int), 1, np.ones(4))
    # Four thousandths of the way to the largest of the four.
    np.testing.assert_allclose(found, 0.996 * limit + 0.004 * 0.6)


def test_copies_that_nobody_knew_of_widen_no_threshold():
    distances, codes, _ = simulated(np.random.default_rng(0), (100, 50), 2)
    clean = _thresholds(distances, codes, 2, np.ones(150))
    distances[::5] *= 0.3
    np.testing.assert_allclose(_thresholds(distances, codes, 2, np.ones(150)), clean, rtol=0.05)


def test_a_class_that_nothing_was_held_out_of_has_the_threshold_of_the_others_and_some_more():
    generator = np.random.default_rng(0)
    distances, codes, _ = simulated(generator, (50, 50, 50), 2)
    found = _thresholds(distances, codes, 4, np.ones(150))
    assert np.mean(found[:3]) < found[3] < 2


def test_one_held_out_image_or_none_calls_nothing_unfamiliar():
    features, codes = vectors(12), np.arange(12) % 2
    for folds in ([], [np.array([3])], [np.arange(12)], [np.array([], int)]):
        novelty = Novelty.learned(features, folds, codes, 2, 0)
        assert novelty.thresholds.tolist() == [2, 2]
        assert (scores(novelty, -vectors(20, 1)) <= 1).all()


def test_images_in_no_fold_are_familiar_too():
    features = np.concatenate([vectors(100), -vectors(2, 1)])
    codes = np.array([0, 1] * 50 + [2, 2])
    folds = stratified_folds(codes, np.arange(102), 5, 0).held_out
    novelty = Novelty.learned(features, folds, codes, 3, 0)
    assert (scores(novelty, features[100:], 2) < 0.5).all()


def test_a_rare_class_that_lies_further_out_has_a_threshold_of_its_own():
    near, far = vectors(1000, noise=1), vectors(1020, 5, noise=3)
    codes = np.repeat([0, 1], [1000, 20])
    novelty = learned(np.concatenate([near, far[:20]]), codes)
    assert (scores(novelty, vectors(2000, 2, noise=1), 0) > 1).mean() < 0.02
    assert (scores(novelty, far[20:], 0) > 1).mean() > 0.9
    assert (scores(novelty, far[20:], 1) > 1).mean() < 0.05


def test_the_threshold_is_the_mean_over_classes_as_if_all_were_equally_frequent():
    novelty = learned(vectors(200))
    rows, thresholds = vectors(2, 1), np.array([0.5, 1.5])
    object.__setattr__(novelty, "thresholds", thresholds)
    given = novelty.scores(rows, np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([90, 10]))
    expected = novelty.distances(rows) / [1, 0.1 * 0.5 + 0.9 * 1.5]
    np.testing.assert_allclose(given, expected)


def test_vectors_off_the_training_directions_or_far_along_them_are_unfamiliar():
    novelty = learned(vectors(500))
    like = vectors(50, seed=1)
    across = like + 4 * np.random.default_rng(2).normal(size=like.shape)
    along = 5 + 8 * (vectors(50, seed=3) - 5)
    assert (scores(novelty, across) > 1).mean() > 0.95
    assert (scores(novelty, along) > 1).mean() > 0.95


def test_contrast_alone_makes_nothing_unfamiliar():
    novelty = learned(vectors(300))
    like = vectors(20, seed=1)
    np.testing.assert_allclose(scores(novelty, 3 * like), scores(novelty, like), atol=1e-4)


def test_copies_of_one_image_and_vectors_of_zeros_are_measured_too():
    novelty = learned(np.repeat(vectors(1), 12, axis=0))
    assert (scores(novelty, vectors(5, seed=1)) > 1).all()
    assert np.isfinite(scores(novelty, np.zeros((2, 40), np.float32))).all()
    assert scores(novelty, np.empty((0, 40), np.float32)).shape == (0,)


def test_the_score_of_a_row_does_not_depend_on_the_rows_beside_it():
    novelty = learned(vectors(300))
    rows = vectors(5000, seed=1)
    alone = np.concatenate([scores(novelty, rows[k : k + 1]) for k in range(0, 5000, 500)])
    np.testing.assert_allclose(alone, scores(novelty, rows)[::500], atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_head_finds_the_same_images_unfamiliar(make_store, tmp_path, suffix):
    store = make_store(vectors(60), ["cat", "dog"] * 30)
    head = train(store)
    head.save(tmp_path / f"head{suffix}")
    loaded = load_head(tmp_path / f"head{suffix}")
    rows = np.concatenate([vectors(20, seed=1), -vectors(20, seed=2)])
    np.testing.assert_array_equal(loaded.predict(rows).novelty, head.predict(rows).novelty)
    assert loaded.predict(rows).unfamiliar[20:].all()


def test_a_head_of_2048_features_and_10_classes_stays_under_six_megabytes(make_store, tmp_path):
    store = make_store(vectors(2600, dimension=2048), [f"class {k % 10}" for k in range(2600)])
    head = train(store)
    for suffix in SUFFIXES:
        head.save(tmp_path / f"head{suffix}")
        assert os.path.getsize(tmp_path / f"head{suffix}") < 6e6
    parts = (head.novelty.mean, head.novelty.components, head.novelty.exemplars)
    assert sum(part.nbytes for part in parts) < 5e6
