"""Scores, intervals, near-duplicates and learning curves, against formulas and brute force."""

import dataclasses
import itertools

import numpy as np
import pytest
from headstart.classify import train
from headstart.classify.curve import learning_curve
from headstart.classify.examples import Examples
from headstart.classify.scores.duplicates import SIMILAR, Similarity
from headstart.classify.scores.evaluation import score
from headstart.classify.scores.intervals import accuracy_interval, paired_difference
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


def brute_force(features, rows, among):
    vectors = features - features.mean(axis=0, dtype=np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[rows] @ vectors[among].T
    return np.where(cosines.max(axis=1) > SIMILAR, among[cosines.argmax(axis=1)], -1)


@pytest.mark.parametrize("columns", [30, 700])
@pytest.mark.parametrize("common", [0.0, 0.9])
def test_near_duplicates_are_all_found_and_nothing_else(columns, common):
    """Also where many directions lie outside the basis, and where all images are much alike."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(900, columns)).astype(np.float32)
    features[300:] = (1 - common) * features[300:] + common * generator.normal(size=columns)
    noise = np.repeat([0.1, 0.3, 0.47, 0.5, 0.8, 1.5], 50)[:, None]
    features[:300] = features[600:] + noise * (1 - common) * generator.normal(size=(300, columns))
    rows, among = np.arange(300), np.arange(300, 900)
    partners, cosines = Similarity(features[:450], features[450:]).nearest(rows, among)
    np.testing.assert_array_equal(partners, brute_force(features, rows, among))
    assert (partners[:50] == np.arange(600, 650)).all()
    assert ((cosines > SIMILAR) == (partners >= 0)).all()


def clouds(rows, columns=60, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % 2
    features = generator.normal(size=(rows, columns)) + 0.5 * codes[:, None]
    return features.astype(np.float32), [f"class {code}" for code in codes]


@pytest.mark.parametrize("with_test", [True, False])
def test_near_duplicates_across_train_and_test_are_counted_and_named(make_store, with_test):
    features, labels = clouds(120)
    splits = ["test" if with_test and row < 40 else "train" for row in range(120)]
    plain = train(make_store(features, labels, splits=splits, name="plain.h5"))
    assert not any("near-duplicate" in note for note in plain.scores.notes)
    features[:3] = features[[50, 61, 72]] + 0.01
    labels[:3] = [labels[row] for row in (50, 61, 72)]
    scores = train(make_store(features, labels, splits=splits)).scores
    (note,) = [note for note in scores.notes if "near-duplicate" in note]
    if with_test:
        assert note.startswith("3 of 40 scored images have a near-duplicate")
        assert any(f"0000{test:02}.png and 0000{row}.png" in note
                   for test, row in enumerate((50, 61, 72)))  # fmt: skip
    assert "without them accuracy is" in note


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
    with pytest.raises(WrongUsage, match="DummyClassifier: only logistic, svm, svm-rbf"):
        learning_curve(train(store, DummyClassifier()), store)
    other = make_store(features[:80], labels[:80], name="other.h5")
    with pytest.raises(WrongUsage, match="trained on another file"):
        learning_curve(train(store), other)


def test_fewer_folds_are_noted(make_store):
    features, labels = clouds(60)
    labels[0] = labels[2] = labels[4] = labels[6] = "rare"
    scores = train(make_store(features, labels)).scores
    assert scores.basis == "4-fold cross-validation"
    note = "4 folds instead of 5, because class 'rare' has only 4 distinct images"
    assert note in scores.notes


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
