import itertools
import tracemalloc

import numpy as np
import pytest
from headstart.classify import compare, evaluate, train
from headstart.classify.examples import contents, labelled
from headstart.classify.folds import stratified_folds
from headstart.features import TrainingError


def labels_and_identities(seed=0, images=300, copies=80):
    generator = np.random.default_rng(seed)
    identities = np.concatenate([np.arange(images), generator.integers(0, images, copies)])
    labels = (identities * 7 % 10 > 4).astype(int) + (identities % 10 == 3)
    order = generator.permutation(len(labels))
    return labels[order], identities[order].astype(np.uint64)


def test_folds_hold_every_row_out_once_and_never_part_copies_of_one_image():
    labels, identities = labels_and_identities()
    folds = stratified_folds(labels, identities, 5, seed=0).held_out
    assert len(folds) == 5
    assert sorted(np.concatenate(folds)) == list(range(len(labels)))
    for number, fold in enumerate(folds):
        for other in folds[:number]:
            assert not set(identities[fold]) & set(identities[other])


def test_folds_have_equal_shares_of_each_class():
    labels, identities = labels_and_identities(copies=0)
    folds = stratified_folds(labels, identities, 5, 0).held_out
    for name in range(3):
        held = [np.sum(labels[rows] == name) for rows in folds]
        assert max(held) - min(held) <= 1


def test_the_seed_decides_the_folds():
    labels, identities = labels_and_identities()

    def held_out(seed):
        return [rows.tolist() for rows in stratified_folds(labels, identities, 5, seed).held_out]

    assert held_out(3) == held_out(3)
    assert held_out(3) != held_out(4)


@pytest.mark.parametrize("seed", range(20))
def test_without_any_two_folds_every_class_is_still_there(seed):
    """Of which anything is held out; also where groups have rows of several classes."""
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 40, 80)
    codes = np.minimum(generator.geometric(0.35, 80) - 1, 6)
    cut = stratified_folds(codes, groups, 5, seed)
    everything = np.arange(80)
    for one, other in itertools.combinations(cut.held_out, 2):
        training = np.setdiff1d(everything, np.concatenate([one, other]))
        assert set(codes[training]) == set(codes)
    for fold in cut.held_out:
        assert not set(codes[fold]) & set(cut.too_small.tolist())
        assert not set(groups[fold]) & set(groups[np.setdiff1d(everything, fold)])


def test_groups_that_span_classes_are_held_out_whole():
    """Each animal before and after: there are as many images of each class as animals."""
    groups = np.tile(np.arange(30), 2)
    cut = stratified_folds(np.repeat([0, 1], 30), groups, 5, 0)
    assert cut.too_small.tolist() == []
    assert sorted(len(fold) for fold in cut.held_out) == [12] * 5
    several = stratified_folds(np.arange(300) % 3, np.arange(300) // 30, 5, 0)
    assert [len(fold) for fold in several.held_out] == [60] * 5


def test_a_class_with_too_few_images_is_never_held_out_and_folds_stay_as_asked():
    codes = np.repeat([0, 1, 2, 3], [20, 20, 3, 4])
    groups = np.arange(47)
    groups[43:] = 43  # four copies of one image
    cut = stratified_folds(codes, groups, 5, 0)
    assert len(cut.held_out) == 5
    assert cut.too_small.tolist() == [3]
    assert sorted(np.concatenate(cut.held_out)) == list(range(43))
    every = stratified_folds(codes, groups, 5, 0, fewest=1).held_out
    assert sorted(np.concatenate(every)) == list(range(47))
    assert len(stratified_folds(codes[:46], np.arange(46), 50, 0).held_out) == 20
    assert stratified_folds(codes[:21], groups[:21], 5, 0).held_out == []


def test_contents_tell_digests_apart_by_their_first_eight_bytes():
    digests = np.zeros((3, 32), np.uint8)
    digests[1, 7] = 1
    digests[2, 31] = 1
    numbers = contents(digests)
    assert numbers[0] == numbers[2] != numbers[1]


def clouds(rows, classes, seed=0, columns=8):
    codes = np.arange(rows) % classes
    noise = np.random.default_rng(seed).normal(size=(rows, columns))
    return np.eye(columns)[codes] * 6 + noise, codes


def test_one_long_name_takes_the_memory_of_one_name_and_not_of_every_row(make_store):
    """As (N,) names it would take 400 kB for each row; at most a copy for each class is allowed."""
    features, codes = clouds(300, 3)
    names = ["cat", "dog", "x" * 100_000]
    store = make_store(features, [names[code] for code in codes])
    for head in ("logistic", "svm", "svm-rbf"):
        tracemalloc.start()
        trained = train(store, head, folds=3)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 20e6  # all rows as names: 120 MB
        assert trained.label_names == trained.pipeline.classes_.tolist() == names
        assert trained.pipeline.predict(store.features[:3]).tolist() == names


def test_classes_are_in_the_order_of_their_characters_whatever_that_of_their_bytes(make_store):
    """A folder's name that is not UTF-8 comes last by its bytes, and first of these by Python's."""
    features, codes = clouds(60, 3)
    names = ["\U0001f600", "\udcff", "a"]
    store = make_store(features, [names[code] for code in codes])
    assert store.label_names == ["a", "\U0001f600", "\udcff"]
    examples = labelled(store).examples
    assert examples.labels.tolist() == [names[code] for code in codes]
    for head in ("logistic", "svm", "svm-rbf"):
        trained = train(store, head, folds=3)
        assert trained.label_names == sorted(names)
        assert trained.predict(store).labels.tolist() == [names[code] for code in codes]
        assert trained.scores.accuracy == 1


def test_classes_are_matched_by_name_between_files_that_number_them_differently(make_store):
    features, codes = clouds(60, 2)
    one = make_store(features, [["b", "c"][code] for code in codes], name="one.h5")
    more, of_more = clouds(90, 3, seed=1)
    other = make_store(
        more,
        [["b", "c", "a"][code] for code in of_more],
        contents=[
            row if row < 60 and codes[row] == of_more[row] else 1000 + row for row in range(90)
        ],
        name="other.h5",
    )
    assert one.label_names == ["b", "c"]
    assert other.label_names == ["a", "b", "c"]
    assert compare([one, other], folds=3).majority == 0.5
    head = train(other, folds=3)
    scores = evaluate(head, one, "all")
    assert scores.rows + 20 == 60
    assert scores.accuracy == 1


@pytest.mark.parametrize("value", [1e16, -3e38])
def test_vectors_that_nothing_can_be_computed_with_are_refused(make_store, value):
    features, codes = clouds(60, 2)
    features[7, 1] = value
    store = make_store(features, ["a" if code else "b" for code in codes])
    with pytest.raises(TrainingError, match=r"1 of its vectors have .*000007\.png"):
        train(store, folds=3)


def test_a_group_whose_training_images_are_left_out_costs_no_test_image(make_store):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(64, 40)) + 3 * np.eye(40)[np.arange(64) % 2]
    labels = [f"class {row % 2}" for row in range(60)] + ["rare", "rare", "class 0", "class 1"]
    splits = ["train"] * 62 + ["test"] * 2
    groups = [None] * 61 + ["patient", "patient", None]
    store = make_store(features, labels, splits=splits, groups=groups)
    assert train(store, min_images=3).scores.rows == 2
    assert train(store).scores.rows == 1
