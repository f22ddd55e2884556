"""What parameters are chosen by where vectors stay in the file: how much, and which."""

from weakref import WeakKeyDictionary

import numpy as np
import pytest
from headstart.classify import train
from headstart.classify.examples import Examples, sampled, stored
from headstart.classify.experiment import Experiment
from headstart.classify.solver import memory
from headstart.classify.solver.rows import Stored
from headstart.features import TrainingError


def listed(codes, groups, dimension=2048):
    """Examples of a file of which nothing is read."""
    rows = np.arange(len(codes))
    names = [f"class {code}" for code in range(int(codes.max()) + 1)]
    matrix = Stored(None, rows, dimension)
    return Examples(matrix, codes, rows.astype(np.uint64), groups, np.zeros(len(rows), "S1"), names)


def patients(rows, size):
    groups = np.arange(rows) // size
    return listed(groups % 2, groups)


CLASSES = np.arange(10_000)
CASES = {
    "20 groups of 10,000": patients(200_000, 10_000),
    "3 a group": patients(200_000, 3),
    "10,000 classes of 20": listed(np.repeat(CLASSES, 20), np.arange(200_000)),
    "20,000 classes of 10": listed(np.repeat(np.arange(20_000), 10), np.arange(200_000)),
    "long tail": listed(np.repeat(CLASSES, 4 + 100_000 // (CLASSES + 1)), None),
    "one group of half": listed(np.arange(200_000) % 2, np.maximum(np.arange(200_000), 100_000)),
    "long vectors": listed(np.arange(60_000) % 2, np.arange(60_000), 20_000),
}
TAIL = CASES["long tail"]
object.__setattr__(TAIL, "groups", np.arange(len(TAIL)))


@pytest.mark.parametrize("case", CASES)
def test_a_draw_is_bounded_in_rows_and_has_every_class_and_enough_of_some(case):
    examples = CASES[case]
    draw = sampled.sample(examples, 0, 3)
    room = min(sampled.ROWS, sampled.BYTES // (4 * examples.features.shape[1]))
    assert 0.2 * room < len(draw.rows) <= room
    assert (np.diff(draw.rows) > 0).all()
    every, drawn = (
        np.bincount(of, minlength=len(examples.names))
        for of in (examples.codes, examples.codes[draw.rows])
    )
    assert (drawn >= 1).all()
    groups = [
        len(np.unique(examples.groups[draw.rows[examples.codes[draw.rows] == code]]))
        for code in np.argsort(-drawn)[:50]
    ]
    assert np.count_nonzero(np.array(groups) >= 3) >= 2
    # With what is beside it, these are whole groups.
    whole = np.isin(examples.groups, examples.groups[draw.rows])
    np.testing.assert_array_equal(np.flatnonzero(whole), np.union1d(draw.rows, draw.beside))
    assert not np.isin(draw.rows, draw.beside).any()
    assert (drawn <= every).all()


def test_a_draw_is_that_of_its_seed_whatever_memory_is_free(monkeypatch):
    examples = CASES["3 a group"]
    draws = []
    for free in (10**9, 10**10):
        monkeypatch.setattr(sampled, "free_memory", lambda free=free: free)
        draws.append(sampled.sample(examples, 5, 3).rows)
    np.testing.assert_array_equal(*draws)
    assert not np.array_equal(draws[0], sampled.sample(examples, 6, 3).rows)


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 7, 30])
@pytest.mark.parametrize("fewest", [2, 3])
def test_a_small_class_gives_what_cross_validation_needs_if_it_has_it(images, fewest):
    codes = np.repeat([0, 1], [20_000, images])
    draw = sampled.sample(listed(codes, np.arange(len(codes))), 0, fewest)
    drawn = np.bincount(codes[draw.rows])[1]
    assert drawn >= min(images, fewest)
    assert drawn <= max(fewest, (images + 1) // 2)


def test_more_classes_than_can_be_drawn_are_refused_and_so_is_too_little_memory(monkeypatch):
    codes = np.repeat(np.arange(30_000), 2)
    with pytest.raises(TrainingError, match=r"a\.h5: .* 25,000 images at most, .* 30,000 classes"):
        sampled.require_room(listed(codes, np.arange(60_000)), "a.h5")
    monkeypatch.setattr(sampled, "free_memory", lambda: 10**8)
    with pytest.raises(TrainingError, match=r"a\.h5: .* takes about 0\.2 GB of memory, and 0\.1"):
        sampled.in_memory(listed(np.arange(5000) % 2, np.arange(5000)), "a.h5")


def test_what_is_scored_of_a_draw_has_the_mix_of_the_file():
    draw = sampled.sample(TAIL, 0, 3)
    codes = TAIL.codes[draw.rows]
    able = np.isin(codes, np.flatnonzero(np.bincount(codes) >= 3))
    folds = [draw.rows[able & (np.arange(len(codes)) % 5 == fold)] for fold in range(5)]
    rows = np.concatenate(folds)
    thinned = np.concatenate(sampled.as_frequent_as_in_the_file(TAIL, folds, 0))
    assert np.isin(thinned, rows).all()
    counts = np.bincount(TAIL.codes)
    several = np.isin(TAIL.codes, TAIL.codes[rows])  # classes that can be scored at all

    def rare(some):
        return (counts[TAIL.codes[some]] < 500).mean()

    assert rare(rows) > rare(several) + 0.05
    assert rare(thinned) == pytest.approx(rare(several), abs=0.05)
    assert len(thinned) > 2000


@pytest.mark.parametrize("classes", [2, 40])
def test_classes_of_five_images_are_trained_on_in_blocks_too(classes, make_store, monkeypatch):
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(classes), 5)
    features = generator.normal(size=(classes, 40))[codes] + 0.3 * generator.normal(
        size=(len(codes), 40)
    )
    store = make_store(features, [f"class {code:02}" for code in codes])
    monkeypatch.setattr(stored, "SHARE", 0)
    monkeypatch.setattr(stored, "LEAST", 0)
    monkeypatch.setattr(stored, "_DECIDED", WeakKeyDictionary())
    head = train(store)
    assert head.scores.rows == 2 * classes  # three of each chose
    assert head.scores.accuracy > 0.8


def test_where_all_images_are_needed_to_choose_by_these_are_scored(make_store, monkeypatch):
    features = np.random.default_rng(0).normal(size=(6, 40)) + 5 * (np.arange(6) % 2)[:, None]
    store = make_store(features, ["a", "b"] * 3)
    monkeypatch.setattr(stored, "SHARE", 0)
    monkeypatch.setattr(stored, "LEAST", 0)
    monkeypatch.setattr(stored, "_DECIDED", WeakKeyDictionary())
    experiment = Experiment.of(store, 3, 0, None)
    assert experiment.search.alone
    assert len(experiment.rows) == 6
    assert "the scores are of 6 of these" in " ".join(experiment.notes)


def test_what_a_container_keeps_of_files_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("V", (), {"available": 9000}))
    assert memory.free_memory() == 9000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("4000\n")
    assert memory.free_memory() == 9000
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.free_memory() == 1000
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 2500\nactive_file 300\n")
    assert memory.free_memory() == 3500


def test_little_is_never_left_in_the_file(make_store, monkeypatch):
    store = make_store(np.ones((4, 40)), list("abab"))
    monkeypatch.setattr(stored, "free_memory", lambda: 1)
    monkeypatch.setattr(stored, "_DECIDED", WeakKeyDictionary())
    assert not stored.beyond_memory(store)
    monkeypatch.setattr(stored, "_DECIDED", WeakKeyDictionary())
    monkeypatch.setattr(stored, "LEAST", stored.bytes_of(store) - 1)
    assert stored.beyond_memory(store)
