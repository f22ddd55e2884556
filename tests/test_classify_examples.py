import numpy as np
import pytest
from headstart.classify.examples import contents, stratified_folds
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
