import tracemalloc

import numpy as np
import pytest
from headstart.classify import compare, evaluate, train
from headstart.classify.examples import contents, labelled, stratified_folds
from headstart.features import TrainingError


def labels_and_identities(seed=0, images=300, copies=80):
    generator = np.random.default_rng(seed)
    identities = np.concatenate([np.arange(images), generator.integers(0, images, copies)])
    labels = np.array(["a", "b", "c"])[
        (identities * 7 % 10 > 4).astype(int) + (identities % 10 == 3)
    ]
    order = generator.permutation(len(labels))
    return labels[order], identities[order].astype(np.uint64)


def test_folds_hold_every_row_out_once_and_never_part_copies_of_one_image():
    labels, identities = labels_and_identities()
    folds = stratified_folds(labels, identities, 5, seed=0)
    assert len(folds) == 5
    assert sorted(np.concatenate(folds)) == list(range(len(labels)))
    for number, fold in enumerate(folds):
        for other in folds[:number]:
            assert not set(identities[fold]) & set(identities[other])


def test_folds_have_equal_shares_of_each_class():
    labels, identities = labels_and_identities(copies=0)
    for name in "abc":
        held = [np.sum(labels[rows] == name) for rows in stratified_folds(labels, identities, 5, 0)]
        assert max(held) - min(held) <= 1


def test_the_seed_decides_the_folds():
    labels, identities = labels_and_identities()

    def held_out(seed):
        return [rows.tolist() for rows in stratified_folds(labels, identities, 5, seed)]

    assert held_out(3) == held_out(3)
    assert held_out(3) != held_out(4)


def test_a_rare_class_gets_fewer_folds_and_a_class_of_one_image_is_refused():
    labels = np.array(["common"] * 20 + ["rare"] * 3)
    identities = np.arange(23, dtype=np.uint64)
    assert len(stratified_folds(labels, identities, 5, 0)) == 3
    identities[20:] = 20  # three copies of one image
    with pytest.raises(TrainingError, match="class 'rare' has only one distinct"):
        stratified_folds(labels, identities, 5, 0)


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
    examples, _, _ = labelled(store)
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
