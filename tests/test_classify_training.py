"""Heads on made-up features, against scikit-learn itself."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from headstart.classify import evaluate, train
from headstart.classify.heads import RECIPES
from headstart.features import (
    FeatureFileError,
    HeadError,
    ProvenanceMismatch,
    TrainingError,
    WrongUsage,
)
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss


def clouds(rows, classes=3, columns=40, apart=1.0, seed=0):
    """Overlapping Gaussian clouds: (features, names)."""
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(size=(classes, columns)) * apart
    features = centres[codes] + generator.normal(size=(rows, columns)) * 3
    return features.astype(np.float32), [f"class {code}" for code in codes]


def with_test_split(rows):
    return ["test" if row // 3 % 3 == 0 else "train" for row in range(rows)]


@pytest.fixture
def split_store(make_store):
    features, labels = clouds(301)
    return make_store(features, labels, splits=with_test_split(301))


@pytest.mark.parametrize("name", RECIPES)
def test_scores_are_scikit_learns_own_on_the_test_split(split_store, name):
    head = train(split_store, name)
    test = split_store.splits == 3
    truth = np.array(split_store.label_names)[split_store.labels[test]]
    predicted = head.pipeline.predict(split_store.features[test])
    probabilities = head.pipeline.predict_proba(split_store.features[test].astype(np.float64))
    scores = head.scores
    assert scores.basis == "test split"
    assert scores.rows == test.sum()
    assert scores.accuracy == np.mean(predicted == truth)
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert scores.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores.log_loss == pytest.approx(log_loss(truth, probabilities), abs=1e-4)
    trained_on = split_store.labels[~test]
    dummy = DummyClassifier().fit(trained_on[:, None], trained_on)
    assert scores.baseline == dummy.score(np.zeros((scores.rows, 1)), split_store.labels[test])
    assert scores.accuracy > scores.baseline + 0.2
    assert scores.interval[0] < scores.accuracy < scores.interval[1]


@pytest.mark.parametrize("name", RECIPES)
def test_predict_and_predict_proba_agree(split_store, name):
    head = train(split_store, name)
    prediction = head.predict(split_store)
    assert prediction.labels.tolist() == head.pipeline.predict(split_store.features).tolist()
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(prediction.confidences, prediction.probabilities.max(axis=1))


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_store_and_seed_give_the_same_head_to_the_last_bit(split_store, name):
    first, second = (train(split_store, name, seed=5).predict(split_store) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_the_test_split_has_no_influence_on_the_head(make_store):
    features, labels = clouds(150)
    splits = with_test_split(150)
    one = train(make_store(features, labels, splits=splits, name="one.h5"))
    test = np.array(splits) == "test"
    features[test] = 1000 * np.random.default_rng(1).normal(size=features[test].shape)
    two = train(make_store(features, labels, splits=splits, name="two.h5"))
    probe = clouds(20, seed=7)[0]
    np.testing.assert_array_equal(
        one.predict(probe).probabilities, two.predict(probe).probabilities
    )
    assert one.scores.accuracy > two.scores.accuracy


def test_without_a_test_split_scores_are_cross_validated_and_the_head_uses_every_row(make_store):
    features, labels = clouds(240)
    head = train(make_store(features, labels), folds=4)
    assert head.scores.basis == "4-fold cross-validation"
    assert head.scores.rows == 240
    assert sum(head.training_counts.values()) == 240


def test_cross_validated_scores_are_no_better_than_chance_on_noise(make_store):
    """Copies of an image on both sides of a fold would push this far above one half."""
    generator = np.random.default_rng(0)
    distinct = generator.normal(size=(120, 60))
    contents = np.repeat(np.arange(120), 3)
    labels = np.array(["heads", "tails"])[generator.integers(0, 2, 120)][contents]
    head = train(make_store(distinct[contents], labels.tolist(), contents=contents.tolist()))
    assert head.scores.interval[0] < 0.5


def test_training_images_that_are_also_in_the_test_split_are_left_out_and_counted(make_store):
    features, labels = clouds(90)
    splits = with_test_split(90)
    contents = list(range(90))
    contents[3], contents[6] = 0, 0  # rows 3 and 6 (train) are copies of row 0 (test)
    head = train(make_store(features, labels, splits=splits, contents=contents))
    assert sum(head.training_counts.values()) == 58
    assert any("2 training images are in the test split too" in note for note in head.scores.notes)


def test_rows_without_a_label_are_left_out_and_counted(make_store):
    features, labels = clouds(90)
    labels[:10] = [None] * 10
    head = train(make_store(features, labels))
    assert sum(head.training_counts.values()) == 80
    assert head.scores.notes == ("10 images without a label are left out",)


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        ([None] * 12, None, "none of its 12 images has a label"),
        (["cat"] * 12, None, "only one class, 'cat', among the 12"),
        (["cat"] * 11 + ["dog"], None, r"two classes; 1 class with .* 3 .*: 'dog' \(1\); add"),
        (["cat"] * 10 + ["dog"] * 2, None, r"two classes; 1 class with .* 3 .*: 'dog' \(2\); add"),
        (["cat", "dog"] * 6, ["test"] * 12, "all 12 labelled images are in the test split"),
        (
            ["cat", "dog"] * 4 + ["fox"] * 4,
            ["train"] * 8 + ["test"] * 4,
            "no image of the test split is of a class that can be trained on",
        ),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused_in_one_line(
    make_store, labels, splits, message
):
    store = make_store(clouds(12)[0], labels, splits=splits)
    with pytest.raises(TrainingError, match=message) as error:
        train(store)
    assert str(store.path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_head_suggests_the_nearest_name(split_store):
    with pytest.raises(WrongUsage, match="unknown head 'logistics'; did you mean logistic"):
        train(split_store, "logistics")
    with pytest.raises(WrongUsage, match="seed -1"):
        train(split_store, seed=-1)


def test_half_precision_features_train_the_same_head(make_store):
    features, labels = clouds(60, columns=150)
    features = features.astype(np.float16)
    half = make_store(features, labels, dtype="float16", name="half.h5")
    single = make_store(features.astype(np.float32), labels, name="single.h5")
    assert half.features.dtype == np.float16
    for name in RECIPES:
        found = train(half, name).predict(features).probabilities
        expected = train(single, name).predict(features.astype(np.float32)).probabilities
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_files_of_the_same_bytes_with_different_labels_are_left_out_and_counted(make_store):
    features, labels = clouds(90)
    contents = list(range(90))
    contents[1] = 0  # class 1, with the bytes of an image of class 0
    head = train(make_store(features, labels, contents=contents))
    assert sum(head.training_counts.values()) == 88
    assert any(note.startswith("2 images are left out, because") for note in head.scores.notes)


def test_the_validation_split_is_trained_on_and_that_is_noted(make_store):
    features, labels = clouds(90)
    splits = ["validation" if row < 30 else "train" for row in range(90)]
    head = train(make_store(features, labels, splits=splits))
    assert sum(head.training_counts.values()) == 90
    assert "30 images of the validation split are trained on too" in head.scores.notes[0]


def test_a_store_that_was_replaced_meanwhile_is_refused(make_store):
    """Labels of one file beside features of the next would train without any complaint."""
    features, labels = clouds(60)
    store = make_store(features, labels)
    assert len(store.labels) == 60
    make_store(features[::-1], labels, contents=range(100, 160))
    with pytest.raises(FeatureFileError, match="replaced since it was opened"):
        train(store)


def test_evaluate_repeats_the_score_of_training(split_store):
    head = train(split_store)
    assert evaluate(head, split_store) == head.scores


def test_evaluate_never_scores_images_that_the_head_was_trained_on(split_store, make_store):
    head = train(split_store)
    with pytest.raises(TrainingError, match="trained on every image in train split"):
        evaluate(head, split_store, "train")
    scores = evaluate(head, split_store, "all")
    assert scores.rows == head.scores.rows
    assert scores.accuracy == head.scores.accuracy
    assert scores.notes == ("199 images that the head was trained on are left out",)

    features, labels = clouds(60, seed=1)
    elsewhere = make_store(
        features, labels, name="else.h5", contents=[*range(1, 11), *range(1000, 1050)]
    )
    scores = evaluate(head, elsewhere)
    assert scores.rows == 60 - 6  # of images 1 to 10, four (1, 2, 9, 10) were in the test split


def test_evaluate_maps_labels_by_name_and_never_by_position(split_store, make_store):
    head = train(split_store)
    features, labels = clouds(90, seed=3)
    everything = make_store(features, labels, name="a.h5", contents=range(5000, 5090))
    only_last = [row for row in range(90) if labels[row] == "class 2"]
    part = make_store(
        features[only_last],
        [labels[row] for row in only_last],
        name="b.h5",
        contents=range(6000, 6030),
    )
    recall = evaluate(head, everything).per_class["class 2"]["recall"]
    assert evaluate(head, part).accuracy == pytest.approx(recall)


def test_evaluate_counts_classes_that_the_head_does_not_know_as_mistakes(split_store, make_store):
    store = make_store(clouds(5)[0], ["zebra"] * 5, name="zoo.h5", contents=range(9000, 9005))
    head = train(split_store)
    with pytest.raises(TrainingError, match=r"knows none of its classes, zebra; it knows class 0"):
        evaluate(head, store)
    odd = make_store(clouds(4)[0], ["", "a\nb"] * 2, name="odd.h5", contents=range(9100, 9104))
    with pytest.raises(TrainingError, match=r"its classes, , a\\nb; it knows class 0, "):
        evaluate(head, odd)
    features, labels = clouds(30, seed=4)
    labels[:5] = ["zebra"] * 5
    mixed = make_store(features, labels, name="mixed.h5", contents=range(9100, 9130))
    scores = evaluate(head, mixed)
    assert scores.rows == 30
    assert scores.per_class["zebra"]["support"] == 5
    assert "which the head does not know, count as mistakes" in scores.notes[-1]


def test_a_head_refuses_features_made_in_any_other_way(split_store, make_store):
    head = train(split_store)
    features, labels = clouds(30, seed=2)
    other = make_store(features, labels, name="other.h5", weights_digest="1" * 64)
    for refused in (lambda: head.predict(other), lambda: evaluate(head, other)):
        with pytest.raises(
            ProvenanceMismatch,
            match=r"^this head does not fit .*other\.h5: weights_digest is 0000.* against 1111.*"
            r"headstart info HEAD.*, or train a head on this file",
        ):
            refused()
    moved = dataclasses.replace(
        head, origin=dataclasses.replace(head.origin, canary=head.canary * 1.01)
    )
    for refused in (lambda: moved.predict(split_store), lambda: evaluate(moved, split_store)):
        with pytest.raises(
            ProvenanceMismatch, match=r"test images come out differently.*this head"
        ):
            refused()


def test_a_head_refuses_matrices_of_another_shape_or_with_holes(split_store):
    head = train(split_store)
    with pytest.raises(HeadError, match=r"vectors of 40 numbers.*\(3, 39\)"):
        head.predict(np.zeros((3, 39)))
    with pytest.raises(HeadError, match="NaN"):
        head.predict(np.full((3, 40), np.nan))
    assert head.predict(np.zeros((0, 40))).labels.shape == (0,)


@pytest.mark.parametrize(
    "images",
    [
        "photos",
        Path("photos"),
        b"\x89PNG",
        ["a.jpg", "b.jpg"],
        (Path("a.jpg"),),
        np.zeros((2, 8, 8, 3), np.uint8),
    ],
    ids=["folder", "path", "bytes", "files", "paths", "pixels"],
)
def test_a_head_that_is_given_images_says_what_takes_them(split_store, images):
    with pytest.raises(HeadError, match=r"use `headstart\.apply\.predict\(head, source\)`"):
        train(split_store).predict(images)
