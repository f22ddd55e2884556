"""Heads that were trained on views: an image counts once, and its views stay on its side."""

import numpy as np
import pytest
from headstart.classify import (
    audit,
    compare,
    evaluate,
    learning_curve,
    load_head,
    train,
    train_all,
)
from headstart.classify.crossfit import cross_fit
from headstart.classify.heads import RECIPES, recipe_of
from headstart.classify.heads.recipe import Task
from headstart.features import HeadError, WrongUsage
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier


def clouds(rows, classes=3, columns=40, apart=1.5, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(size=(classes, columns)) * apart
    features = centres[codes] + generator.normal(size=(rows, columns)) * 3
    return features.astype(np.float32), [f"class {code}" for code in codes]


def shaken(features, number, amount=1.0, seed=1):
    generator = np.random.default_rng(seed)
    return [features + amount * generator.normal(size=features.shape) for _ in range(number)]


@pytest.mark.parametrize("name", RECIPES)
def test_views_that_equal_their_image_change_nothing(name, make_store):
    features, labels = clouds(90)
    features[45:60], labels[45:60] = features[30:45], labels[30:45]  # classes differ in size
    splits = ["test" if row >= 75 else "train" for row in range(90)]
    plain = train(make_store(features, labels, splits=splits, name="plain.h5"), name)
    store = make_store(features, labels, splits=splits, views=shaken(features, 3, 0), name="v.h5")
    assert len(store) == 75 * 4 + 15
    head = train(store, name)
    assert head.training_counts == plain.training_counts
    assert head.scores.rows == plain.scores.rows
    assert head.novelty.thresholds == pytest.approx(plain.novelty.thresholds)
    ours, theirs = (one.predict(features).probabilities for one in (head, plain))
    np.testing.assert_allclose(ours, theirs, atol=0.02 if name.startswith("svm") else 2e-3)


@pytest.mark.parametrize("tta", [False, True])
def test_a_memorising_classifier_scores_chance_on_labels_that_mean_nothing(tta, make_store):
    """With a view of an image on the other side of a fold it would score 100%."""
    features, _ = clouds(200)
    labels = [f"class {code}" for code in np.random.default_rng(5).integers(0, 2, 200)]
    views = shaken(features, 3, 0.01)
    store = make_store(features, labels, views=views)
    memory = KNeighborsClassifier(1)
    scores = train(store, memory, tta=tta).scores
    assert scores.rows == 200
    assert 0.35 < scores.accuracy < 0.65
    low, high = scores.interval
    assert low < 0.5 < high
    curve = learning_curve(train(store), store)
    assert all(point.accuracy < 0.65 for point in curve.points)
    # The same rows, cut as if each were an image of its own.
    codes = np.array([label == "class 1" for label in labels] * 4).astype(int)
    everything = np.concatenate([features, *views]).astype(np.float32)
    leaky = Task(everything, codes, np.array(["0", "1"]), balanced=False, seed=0)
    folds = np.array_split(np.random.default_rng(0).permutation(800), 5)
    found = cross_fit(recipe_of(memory), leaky, folds, honest=True).probabilities
    assert (found.argmax(axis=1) == codes).mean() > 0.95


def test_an_image_counts_the_same_however_many_views_it_has(make_store):
    """scikit-learn's own optimum, with each row weighing what its image has left for it."""
    features, labels = clouds(60, classes=2)
    views = shaken(features, 2)
    store = make_store(features, labels, views=views)
    head = train(store)
    rows = np.concatenate([features, *views]).astype(np.float64)
    scaler = head.pipeline[0]
    np.testing.assert_allclose(scaler.mean_, rows.mean(axis=0), atol=1e-5)
    variance = rows.var(axis=0)
    scale = np.sqrt((60 * variance + 100 * variance.mean()) / 160)
    np.testing.assert_allclose(scaler.scale_, scale, rtol=1e-4)
    (strength,) = head.parameters.values()
    scaled, ours = (rows - rows.mean(axis=0)) / scale, head.pipeline[-1].coef_

    def apart(weight):
        theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
        theirs.fit(scaled, labels * 3, sample_weight=np.full(180, weight))
        return np.linalg.norm(ours - theirs.coef_) / np.linalg.norm(theirs.coef_)

    assert apart(1 / 3) < 0.01
    assert apart(1) > 0.05


def test_what_counts_images_counts_as_without_views(make_store):
    features, labels = clouds(120)
    plain = make_store(features, labels, name="plain.h5")
    store = make_store(features, labels, views=shaken(features, 2), name="views.h5")
    without, head = train(plain), train(store)
    assert (head.folds, head.training_counts) == (without.folds, without.training_counts)
    assert head.scores.rows == 120
    assert head.scores.per_class.keys() == without.scores.per_class.keys()
    width, before = (np.ptp(one.scores.interval) for one in (head, without))
    assert 0.5 * before < width < 2 * before
    assert head.novelty.held_out == without.novelty.held_out
    assert head.seen.images == without.seen.images
    np.testing.assert_array_equal(head.training_images, without.training_images)
    assert audit(store).images == 120
    assert compare([store, plain]).images == 120
    last = learning_curve(head, store).points[-1]
    assert last.per_class == learning_curve(without, plain).points[-1].per_class


def test_a_head_with_views_predicts_plain_files_and_is_scored_on_them(make_store, tmp_path):
    features, labels = clouds(120)
    store = make_store(features, labels, views=shaken(features, 2))
    head = train(store)
    head.save(tmp_path / "head.skops")
    loaded = load_head(tmp_path / "head.skops")
    assert loaded.augmentation == store.augmentation
    more, names = clouds(60, seed=8)
    other = make_store(more, names, name="other.h5", contents=range(9000, 9060))
    ours = loaded.predict(other)
    np.testing.assert_allclose(ours.probabilities, head.predict(more).probabilities)
    assert evaluate(loaded, other).rows == 60
    assert len(loaded.predict(store).labels) == 120  # the images themselves


def test_tta_is_the_mean_over_the_views_of_an_image(make_store):
    features, labels = clouds(150)
    splits = ["test" if row >= 100 else "train" for row in range(150)]
    views = shaken(features, 3)
    store = make_store(features, labels, splits=splits, views=views, views_of="all")
    head = train(store, tta=True)
    by_hand = np.mean([head.predict(rows).probabilities for rows in (features, *views)], axis=0)
    found = head.predict(store, tta=True).probabilities
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    right = by_hand[100:].argmax(axis=1) == np.arange(100, 150) % 3
    assert head.scores.accuracy == pytest.approx(right.mean())
    assert "probabilities are means over 4 views of an image" in head.scores.notes
    more, names = clouds(60, seed=8)
    other = make_store(
        more, names, views=shaken(more, 3), name="other.h5", contents=range(9000, 9060)
    )
    with_views, alone = (evaluate(head, other, tta=tta) for tta in (True, False))
    assert with_views.log_loss != alone.log_loss


def test_cross_validated_tta_holds_all_views_of_an_image_out(make_store):
    features, labels = clouds(150)
    store = make_store(features, labels, views=shaken(features, 3))
    head, standings = train_all(store, tta=True)
    assert head.tta
    assert head.scores.rows == 150
    assert len(standings) == len(RECIPES)
    assert head.scores.accuracy > 0.6


def test_tta_where_there_are_no_views_is_one_clear_line(make_store):
    features, labels = clouds(90)
    splits = ["test" if row >= 60 else "train" for row in range(90)]
    plain = make_store(features, labels, name="plain.h5")
    tested = make_store(features, labels, splits=splits, views=shaken(features, 2), name="t.h5")
    viewed = make_store(
        features, labels, views=shaken(features, 2), name="v.h5", contents=range(500, 590)
    )
    without, head = train(plain), train(viewed)
    cases = [
        (lambda: train(plain, tta=True), "this file has none"),
        (lambda: train(tested, tta=True), "--views-of all"),
        (lambda: evaluate(without, viewed, tta=True), "trained without views"),
        (lambda: evaluate(head, plain, tta=True), "this file has none"),
        (lambda: without.predict(viewed, tta=True), "trained without views"),
        (lambda: head.predict(features, tta=True), "a bare matrix"),
    ]
    for call, complaint in cases:
        with pytest.raises(WrongUsage) as caught:
            call()
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_head_that_was_chosen_with_tta_cannot_be_one_graph(make_store, tmp_path):
    from headstart.apply import export

    features, labels = clouds(90)
    head = train(make_store(features, labels, views=shaken(features, 2)), tta=True)
    with pytest.raises(HeadError, match="a graph sees an image once"):
        export(head, tmp_path / "model.keras")
