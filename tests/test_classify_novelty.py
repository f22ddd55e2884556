"""What is unfamiliar: a rate of false alarms that holds, a size that stays small."""

import os

import numpy as np
import pytest
from headstart.classify import load_head, train
from headstart.classify.examples import stratified_folds
from headstart.classify.novelty import FALSE_ALARMS, Novelty
from headstart.classify.persistence import SUFFIXES


def vectors(count, seed=0, dimension=40, rank=6):
    """Positive vectors that vary in few directions, with a little noise in all others."""
    directions = np.random.default_rng(99).normal(size=(rank, dimension))
    generator = np.random.default_rng(seed)
    along = generator.normal(size=(count, rank)) @ directions
    return (5 + along + 0.1 * generator.normal(size=(count, dimension))).astype(np.float32)


def learned(features, seed=0):
    labels = np.array(["cat", "dog"] * len(features))[: len(features)]
    folds = stratified_folds(labels, np.arange(len(features), dtype=np.uint64), 5, 0)
    return Novelty.learned(features, folds, seed)


@pytest.mark.parametrize("count", [300, 5000])
def test_one_in_a_hundred_new_images_of_the_same_kind_is_a_false_alarm(count):
    novelty = learned(vectors(count))
    rate = (novelty.scores(vectors(20_000, seed=1)) > 1).mean()
    assert 0 < rate < 2.5 * FALSE_ALARMS
    assert novelty.false_alarms == FALSE_ALARMS


def test_few_images_promise_no_more_than_they_can_measure():
    rates = []
    for seed in range(0, 60, 2):
        novelty = learned(vectors(24, seed))
        assert novelty.false_alarms == 1 / 25
        rates.append((novelty.scores(vectors(2000, seed + 1)) > 1).mean())
    assert 0.5 / 25 < np.mean(rates) < 1.5 / 25  # one draw of 24 can be far off, all of them not


def test_vectors_off_the_training_directions_or_far_along_them_are_unfamiliar():
    novelty = learned(vectors(500))
    like = vectors(50, seed=1)
    across = like + 4 * np.random.default_rng(2).normal(size=like.shape)
    along = 5 + 8 * (vectors(50, seed=3) - 5)
    assert (novelty.scores(across) > 1).mean() > 0.95
    assert (novelty.scores(along) > 1).mean() > 0.95


def test_contrast_alone_makes_nothing_unfamiliar():
    novelty = learned(vectors(300))
    like = vectors(20, seed=1)
    np.testing.assert_allclose(novelty.scores(3 * like), novelty.scores(like), atol=1e-4)


def test_copies_of_one_image_and_vectors_of_zeros_are_measured_too():
    novelty = learned(np.repeat(vectors(1), 12, axis=0))
    assert (novelty.scores(vectors(5, seed=1)) > 1).all()
    assert np.isfinite(novelty.scores(np.zeros((2, 40), np.float32))).all()
    assert novelty.scores(np.empty((0, 40), np.float32)).shape == (0,)


def test_the_score_of_a_row_does_not_depend_on_the_rows_beside_it():
    novelty = learned(vectors(300))
    rows = vectors(5000, seed=1)
    alone = np.concatenate([novelty.scores(rows[k : k + 1]) for k in range(0, 5000, 500)])
    np.testing.assert_allclose(alone, novelty.scores(rows)[::500], atol=1e-5)


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
