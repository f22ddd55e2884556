"""Scores, intervals, near-copies and learning curves, against formulas and brute force."""

import dataclasses
import itertools

import numpy as np
import pytest
from headstart.classify import evaluate, train
from headstart.classify.examples import Examples
from headstart.classify.heads import RECIPES
from headstart.classify.scores.evaluation import score
from headstart.classify.scores.intervals import accuracy_interval, paired_difference
from headstart.classify.studies.curve import learning_curve
from headstart.features import TrainingError, WrongUsage
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import confusion_matrix


def examples(labels, identities=None):
    number = len(labels)
    names, codes = np.unique(labels, return_inverse=True)
    return Examples(
        np.zeros((number, 2), np.float32),
        codes,
        np.arange(number, dtype=np.uint64) if identities is None else identities,
        np.arange(number) if identities is None else identities,
        np.array([f"{row}.jpg".encode() for row in range(number)]),
        names.tolist(),
    )


@pytest.mark.parametrize(("right", "of"), [(81, 263), (0, 7), (7, 7), (1, 2), (500, 501)])
def test_the_interval_of_distinct_images_is_wilsons(right, of):
    ours = accuracy_interval(np.arange(of) < right, np.arange(of, dtype=np.uint64))
    theirs = binomtest(right, of).proportion_ci(0.95, "wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_copies_of_an_image_do_not_make_the_interval_narrower():
    generator = np.random.default_rng(0)
    right = generator.random(60) < 0.8
    images = np.arange(60, dtype=np.uint64)
    once = accuracy_interval(right, images)
    assert accuracy_interval(np.tile(right, 5), np.tile(images, 5)) == pytest.approx(once)
    uneven = np.concatenate([images, np.zeros(200, np.uint64)])
    low, high = accuracy_interval(np.concatenate([right, np.repeat(right[0], 200)]), uneven)
    assert high - low > once[1] - once[0]


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    for images, shares in ((40, (0.9, 0.8)), (200, (0.95, 0.94)), (200, (0.7, 0.5))):
        hits = 0
        for _ in range(1000):
            hard = generator.random(images)  # images that are hard for one are so for the other
            one, two = (hard + 0.2 * generator.normal(size=images) < share for share in shares)
            low, high = paired_difference(one, two, np.arange(images, dtype=np.uint64))[1:]
            reference = generator_truth(shares)
            hits += low <= reference <= high
        assert 0.93 <= hits / 1000 <= 1


def generator_truth(shares, draws=400_000, known={}):  # noqa: B006 - computed once
    if shares not in known:
        generator = np.random.default_rng(2)
        hard = generator.random(draws)
        one, two = (hard + 0.2 * generator.normal(size=draws) < share for share in shares)
        known[shares] = one.mean() - two.mean()
    return known[shares]


def test_a_difference_turned_round_changes_its_sign():
    generator = np.random.default_rng(3)
    one, two = generator.random((2, 90)) < 0.7
    images = np.arange(90, dtype=np.uint64) // 2
    difference, low, high = paired_difference(one, two, images)
    assert paired_difference(two, one, images) == pytest.approx((-difference, -high, -low))
    assert difference == pytest.approx(one.mean() - two.mean())
    same = paired_difference(one, one, images)
    assert same[0] == 0
    assert same[1] < 0 < same[2]


def test_scores_are_those_of_their_definitions():
    labels = ["a"] * 6 + ["b"] * 3 + ["c"]
    confident = np.array([0.9, 0.9, 0.7, 0.7, 0.7, 0.5, 0.9, 0.5, 0.7, 0.5])
    chosen = [0, 0, 0, 0, 1, 0, 1, 1, 2, 0]
    probabilities = np.tile(((1 - confident) / 2)[:, None], 3)
    probabilities[np.arange(10), chosen] = confident
    scores = score(examples(labels), probabilities, ["a", "b", "c"], majority="b", basis="x")
    assert scores.accuracy == 0.7
    assert scores.baseline == 0.3
    assert scores.confusion == ((0, 0, 5), (0, 1, 1), (1, 1, 2), (1, 2, 1), (2, 0, 1))
    predicted = np.array(["a", "b", "c"])[chosen]
    np.testing.assert_array_equal(scores.confusion_matrix(), confusion_matrix(labels, predicted))
    # By bin: at 0.9 all three of 3 are right, at 0.7 two of 4, at 0.5 two of 3.
    expected = (3 * abs(0.9 - 1) + 4 * abs(0.7 - 2 / 4) + 3 * abs(0.5 - 2 / 3)) / 10
    assert scores.calibration_error == pytest.approx(expected)
    assert [one["images"] for one in scores.reliability] == [3, 4, 3]
    assert [one["path"] for one in scores.mistakes] == ["4.jpg", "8.jpg", "9.jpg"]
    assert scores.mistakes[1] == {
        "path": "8.jpg", "label": "b", "predicted": "c", "confidence": pytest.approx(0.7),
    }  # fmt: skip


def clouds(rows, columns=60, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % 2
    features = generator.normal(size=(rows, columns)) + 0.5 * codes[:, None]
    return features.astype(np.float32), [f"class {code}" for code in codes]


def test_test_images_with_a_near_copy_among_the_training_images_are_not_scored(make_store):
    features, labels = clouds(120)
    splits = ["test" if row < 40 else "train" for row in range(120)]
    plain = train(make_store(features, labels, splits=splits, name="plain.h5"))
    assert plain.scores.rows == 40
    assert not any("near-copy" in note for note in plain.scores.notes)
    features[:3] = features[[50, 61, 72]] + 0.01
    store = make_store(features, labels, splits=splits)
    head = train(store)
    assert head.scores.rows == 37
    note = "3 of 40 test images look like near-copies of training images and are not scored"
    assert head.scores.notes == (f"{note} (000000.png is one)",)
    assert evaluate(head, store).rows == 37
    assert head.predict(store).copies.tolist() == [True] * 3 + [False] * 37 + [True] * 80


def test_random_labels_of_bursts_are_told_apart_no_better_than_by_chance(make_store):
    """A near-copy on the other side of a fold knows the label; identical bytes need not be."""
    generator = np.random.default_rng(0)
    distinct = generator.normal(size=(80, 60)).astype(np.float32)
    labels = np.array(["heads", "tails"])[generator.permutation(80) % 2]
    burst = np.repeat(distinct, 3, axis=0) + 0.1 * generator.normal(size=(240, 60))
    store = make_store(burst.astype(np.float32), np.repeat(labels, 3).tolist())
    for name in RECIPES:
        scores = train(store, name).scores
        assert scores.interval[0] < 0.5
        assert scores.interval[1] - scores.interval[0] > 0.19  # that of 80 images, not of 240


def test_rows_of_a_group_are_held_out_together(make_store):
    """Each patient has a look of its own, and one label: without groups it is the look's."""
    generator = np.random.default_rng(1)
    patient = np.repeat(np.arange(40), 6)
    looks = 1.2 * generator.normal(size=(40, 200))[patient] + generator.normal(size=(240, 200))
    labels = np.array(["ill", "well"])[generator.permutation(40) % 2][patient].tolist()
    groups = [f"patient {number}" for number in patient]
    alone = train(make_store(looks.astype(np.float32), labels, name="alone.h5")).scores
    together = train(make_store(looks.astype(np.float32), labels, groups=groups)).scores
    assert alone.accuracy > 0.9
    assert together.interval[0] < 0.5
    splits = ["test" if row % 6 == 0 and row < 60 else "train" for row in range(240)]
    store = make_store(
        looks.astype(np.float32), labels, groups=groups, splits=splits, name="split.h5"
    )
    head = train(store)
    assert head.scores.basis == "5-fold cross-validation"
    assert "10 of 10 test images are of one group with training images" in head.scores.notes[0]
    with pytest.raises(TrainingError, match="or looks like a copy of one or is of one group"):
        evaluate(head, store)
    test = [row for row in range(240) if splits[row] == "test"]
    looks[test] = np.random.default_rng(2).normal(size=(len(test), 200))
    again = [f"alone {row}" if row in test[:5] else groups[row] for row in range(240)]
    some = make_store(looks.astype(np.float32), labels, groups=again, splits=splits, name="some.h5")
    assert train(some).scores.rows == evaluate(train(some), some).rows == 5


def test_a_learning_curve_rises_and_ends_with_every_image(make_store):
    features, labels = clouds(400, columns=200)
    features[::2] *= 1.5
    store = make_store(features, labels)
    curve = learning_curve(train(store), store).points
    assert [point.per_class for point in curve] == [2, 4, 8, 16, 32, 64, 128, 160]
    assert curve[-1].accuracy > curve[0].accuracy + 0.1
    for point in curve:
        assert point.interval[0] <= point.accuracy <= point.interval[1]
    assert curve[-1].accuracy == pytest.approx(train(store).scores.accuracy, abs=0.03)


@pytest.mark.parametrize("name", ["svm", "svm-rbf"])
def test_every_named_head_has_a_learning_curve(make_store, name):
    features, labels = clouds(90)
    store = make_store(features, labels)
    curve = learning_curve(train(store, name, folds=3), store)
    assert [point.per_class for point in curve.points] == [2, 4, 8, 16, 30]
    assert curve.baseline == 0.5


def test_a_classifier_that_was_handed_in_has_no_learning_curve(make_store):
    features, labels = clouds(90)
    store = make_store(features, labels)
    with pytest.raises(WrongUsage, match="DummyClassifier: only logistic, prototype, svm, svm-rbf"):
        learning_curve(train(store, DummyClassifier()), store)
    other = make_store(features[:80], labels[:80], name="other.h5")
    with pytest.raises(WrongUsage, match="trained on another file"):
        learning_curve(train(store), other)


def test_fewer_folds_are_noted(make_store):
    features, labels = clouds(8)
    scores = train(make_store(features, labels)).scores
    assert scores.basis == "4-fold cross-validation"
    assert "4 folds instead of 5, because no class has more distinct images" in scores.notes


def test_one_rare_class_stops_nobody(make_store):
    features, labels = clouds(120)
    labels[0] = labels[1] = "rare"
    labels[2:5] = ["three"] * 3
    store = make_store(features, labels)
    head = train(store)
    assert head.label_names == ["class 0", "class 1", "rare", "three"]
    assert head.training_counts["rare"] == 2
    assert head.scores.basis == "5-fold cross-validation"
    assert head.scores.rows == 118
    assert head.scores.per_class["rare"]["support"] == 0
    assert head.scores.per_class["three"]["support"] == 3
    note = "2 images trained on and never scored, of 1 class with fewer than 3 distinct images"
    few = "(copies, near-copies and groups count as one): 'rare' (2)"
    assert head.scores.notes == (f"{note} {few}",)
    left = train(store, min_images=4)
    assert left.label_names == ["class 0", "class 1"]
    note = "5 images are left out, because their classes have fewer than 4 distinct training images"
    assert left.scores.notes == (f"{note}: 'rare' (2), 'three' (3)",)
    assert learning_curve(left, store).points


def test_groups_that_span_classes_are_no_reason_to_refuse(make_store):
    """Each animal before and after: as many images of each class as there are animals."""
    features, labels = clouds(120)
    head = train(make_store(features, labels, groups=[f"animal {row // 2}" for row in range(120)]))
    assert head.scores.rows == 120
    assert head.scores.notes == ()


def test_a_test_split_that_has_only_unknown_classes_left_is_not_scored(make_store):
    features, labels = clouds(60)
    features[:4] = features[[50, 51, 52, 53]] + 0.01
    labels[4:8] = ["zebra"] * 4
    splits = ["test" if row < 8 else "train" for row in range(60)]
    head = train(make_store(features, labels, splits=splits))
    assert head.scores.basis == "5-fold cross-validation"
    assert "no test image of a class that can be trained on is left" in head.scores.notes[-1]
    assert np.isfinite(head.scores.log_loss)


def test_all_classes_that_are_too_small_are_named_at_once(make_store):
    features, _ = clouds(12)
    store = make_store(features, ["cat"] * 8 + ["dog", "dog", "fox", "owl"])
    with pytest.raises(
        TrainingError, match=r"3 classes with .*: 'dog' \(2\), 'fox' \(1\), 'owl' \(1\);"
    ):
        train(store)


def test_a_class_that_only_the_test_split_has_counts_as_mistakes(make_store):
    features, labels = clouds(120)
    splits = ["test" if row < 40 else "train" for row in range(120)]
    labels[:4] = ["zebra"] * 4
    store = make_store(features, labels, splits=splits)
    head = train(store)
    assert head.label_names == ["class 0", "class 1"]
    assert head.scores.rows == 40
    assert head.scores.per_class["zebra"]["recall"] == 0
    assert head.scores.per_class["zebra"]["support"] == 4
    assert head.scores.accuracy <= 0.9
    assert "4 images of 'zebra', which the head does not know, count as" in head.scores.notes[-1]
    assert np.isfinite(head.scores.log_loss)
    assert head.scores.log_loss < 2
    without = train(store, min_images=1 + 1).scores
    assert without.rows == 36
    assert "zebra" not in without.per_class
    assert without.log_loss == pytest.approx(head.scores.log_loss)


def test_balanced_weights_say_for_which_mix_the_scores_hold(make_store):
    features, labels = clouds(120)
    rows = [row for row in range(120) if row % 2 or row % 6 == 0]
    store = make_store(features[rows], [labels[row] for row in rows])
    (note,) = train(store, class_weight="balanced").scores.notes
    assert note.endswith("measured on images that are 75% class 1, 25% class 0")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_by_name(make_store, value):
    """Sealing refuses them too; but a file may come from elsewhere."""
    store = make_store(*clouds(60))
    store.features[[7, 9], 3] = value
    with pytest.raises(TrainingError, match=r"2 of its vectors have NaN or inf.*000007\.png"):
        train(store)


def test_constant_features_do_no_harm(make_store):
    features, labels = clouds(120)
    plain = train(make_store(features, labels, name="plain.h5"))
    constant = np.concatenate([features, np.full((120, 5), 3.3, np.float32)], axis=1)
    head = train(make_store(constant, labels))
    assert head.scores.accuracy == plain.scores.accuracy
    for name, store in itertools.product(("svm", "svm-rbf"), [make_store(constant, labels)]):
        assert np.isfinite(train(store, name).scores.log_loss)
    assert dataclasses.asdict(head.scores)["per_class"]
