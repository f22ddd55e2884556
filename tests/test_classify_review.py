"""What a person would look at to judge a head: each row as the scores and the file have it."""

import numpy as np
import pytest
from headstart.classify import audit, evaluate, load_head, review, train, train_all
from headstart.classify.studies import atlas
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

CLASSES = ("bird", "cat", "dog")


def clouds(rows, dimension=40, apart=1.4, seed=0):
    """Three clouds that overlap, so that some images are predicted wrongly."""
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % len(CLASSES)
    centres = generator.normal(size=(len(CLASSES), dimension))
    features = generator.normal(size=(rows, dimension)) + apart * centres[codes] / 2
    return features, [CLASSES[code] for code in codes]


def confusion(found):
    """As `Scores.confusion` has it, from the rows of a review."""
    pairs = zip(found.truth.tolist(), found.predicted.tolist(), strict=True)
    counts = {}
    for pair in pairs:
        counts[pair] = counts.get(pair, 0) + 1
    return tuple(sorted((*pair, count) for pair, count in counts.items()))


def as_said(found, store):
    """The mistakes of a review as `Scores.mistakes` has them."""
    return [
        (
            store.paths[found.rows[place]],
            found.names[found.truth[place]],
            found.names[found.predicted[place]],
            pytest.approx(found.confidence[place]),
        )
        for place in found.mistakes.tolist()
    ]


@pytest.mark.parametrize("split", [False, True], ids=["cross-validated", "test split"])
def test_a_review_has_the_very_rows_that_the_scores_are_of(make_store, split):
    features, labels = clouds(180)
    splits = ["test" if split and row % 4 == 0 else "none" for row in range(180)]
    store = make_store(features, [*labels], splits=splits)
    head = train(store)
    found = review(head, store)
    assert found.scores is head.scores
    assert 0 < len(found.mistakes) < len(found.rows) == head.scores.rows
    assert confusion(found) == head.scores.confusion
    said = [tuple(one.values()) for one in head.scores.mistakes]
    assert as_said(found, store)[: len(said)] == said
    assert {splits[row] for row in found.rows} == ({"test"} if split else {"none"})
    assert split or found.suspects == audit(store).suspects
    assert found.notes == ()
    assert found.curve is not None


def test_the_images_of_a_file_that_the_head_has_not_seen_are_those_that_evaluate_scores(make_store):
    features, labels = clouds(240)
    whole = make_store(features, labels, name="whole.h5")
    half = make_store(features[:120], labels[:120], name="half.h5")
    head = train(half)
    found = review(head, whole)
    assert found.scores == evaluate(head, whole)
    assert confusion(found) == found.scores.confusion
    assert (found.rows >= 120).all()
    assert found.curve is None


def test_a_head_that_was_just_trained_remembers_what_its_scores_are_of(make_store):
    features, labels = clouds(90)
    store = make_store(features, labels)
    for head in (train(store, KNeighborsClassifier(5)), train(store, "auto"), train_all(store)[0]):
        found = review(head, store)
        assert confusion(found) == head.scores.confusion
        assert found.notes == ()


def test_what_cannot_be_told_again_is_not_guessed_but_said(make_store, tmp_path):
    features, labels = clouds(90)
    store = make_store(features, labels)
    train(store, KNeighborsClassifier(5)).save(tmp_path / "knn.joblib")
    found = review(load_head(tmp_path / "knn.joblib"), store)
    assert len(found.rows) == len(found.mistakes) == 0
    assert [note.split(":")[0].split(",")[0] for note in found.notes] == [
        "suspects are those of a logistic head",
        "which images were confused cannot be told again",
    ]
    assert found.suspects is not None


@pytest.mark.parametrize("head", ["logistic", "svm", "prototype"])
def test_a_head_that_was_loaded_is_reviewed_as_when_it_was_trained(make_store, tmp_path, head):
    features, labels = clouds(120)
    store = make_store(features, labels)
    trained = train(store, head)
    trained.save(tmp_path / "head.joblib")
    now, later = (review(one, store) for one in (trained, load_head(tmp_path / "head.joblib")))
    assert now.suspects == later.suspects
    for name in ("rows", "truth", "predicted", "confidence"):
        np.testing.assert_array_equal(getattr(now, name), getattr(later, name))


def test_where_no_image_can_be_held_out_beside_the_test_split_that_is_said(make_store):
    features, labels = clouds(8)
    labels = [CLASSES[row % 2] for row in range(8)]
    splits = ["test" if row > 3 else "none" for row in range(8)]
    contents = [*range(4), 4, 5, 4, 5]
    features[[6, 7]] = features[[4, 5]]
    store = make_store(features, labels, splits=splits, contents=contents)
    found = review(train(store), store)
    assert len(found.rows) == 4
    assert found.suspects is not None or "not audited" in found.notes[0]


def test_wrong_labels_in_either_split_are_the_first_suspects(make_store):
    features, labels = clouds(180, apart=3)
    splits = ["test" if row % 4 == 0 else "none" for row in range(180)]
    wrong = {5, 6, 8}
    labels = [CLASSES[(row + 1) % 3] if row in wrong else one for row, one in enumerate(labels)]
    store = make_store(features, labels, splits=splits)
    found = review(train(store), store)
    assert {found.row_of[one.path] for one in found.suspects[:3]} == wrong


def test_near_copies_across_the_split_come_first_then_those_with_other_labels(make_store):
    features, labels = clouds(120)
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(4, features.shape[1])) * 0.01
    # 117 and 20 are one image in both splits; 118 and 31 have different labels; 116 is as 50.
    for copy, (row, of) in enumerate(((117, 20), (118, 31), (116, 50))):
        features[row] = features[of] + noise[copy]
    labels[117], labels[116] = labels[20], labels[50]
    splits = ["test" if row in (*range(20), 117) else "none" for row in range(120)]
    store = make_store(features, labels, splits=splits)
    found = review(train(store), store)
    pairs = [(one.row, one.other, one.splits, one.labels) for one in found.copies]
    assert pairs[:3] == [
        (117, 20, True, False),
        (31, 118, False, labels[31] != labels[118]),
        (50, 116, False, False),
    ]


def test_files_of_the_same_bytes_in_both_splits_are_copies_with_a_cosine_of_one(make_store):
    features, labels = clouds(120)
    contents = [*range(120)]
    features[100], labels[100], contents[100] = features[7], labels[7], 7
    store = make_store(features, labels, contents=contents, splits=["none"] * 100 + ["test"] * 20)
    first = review(train(store), store).copies[0]
    assert (first.row, first.other, first.cosine, first.splits) == (100, 7, 1.0, True)


def test_the_unfamiliar_are_those_that_the_head_calls_so_labelled_or_not(make_store):
    features, labels = clouds(120, dimension=128)
    features[[5, 9]] += 40
    labels = [None if row in (5, 9, 10) else label for row, label in enumerate(labels)]
    store = make_store(features, labels)
    head = train(store)
    found = review(head, store)
    assert sorted(found.unfamiliar) == np.flatnonzero(head.predict(store).unfamiliar).tolist()
    assert {5, 9} <= set(found.unfamiliar.tolist())


def test_views_are_neither_reviewed_nor_on_the_map(make_store):
    features, labels = clouds(90)
    store = make_store(features, labels, views=[features + 0.1, features - 0.1])
    head = train(store)
    found = review(head, store)
    assert confusion(found) == head.scores.confusion
    assert (store.views[found.rows] == 0).all()
    assert sorted(found.points) == np.flatnonzero(store.views == 0).tolist()


@pytest.mark.parametrize("most", [1000, 60], ids=["all arranged", "some arranged"])
def test_neighbours_on_the_map_are_of_one_cloud_and_the_same_vectors_have_the_same_map(most):
    generator = np.random.default_rng(0)
    codes = np.arange(200) % 4
    features = (generator.normal(size=(200, 64)) + 6 * np.eye(64)[codes]).astype(np.float32)
    found = atlas.places(features, most)
    assert found.shape == (200, 2)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    nearest = NearestNeighbors(n_neighbors=4).fit(found).kneighbors(return_distance=False)
    assert (codes[nearest] == codes[:, None]).mean() > 0.9
    np.testing.assert_array_equal(found, atlas.places(features, most))


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_a_map_of_a_few_images_or_of_one_image_again_and_again_is_no_error(rows):
    features = np.random.default_rng(0).normal(size=(rows, 16)).astype(np.float32)
    for vectors in (features, np.ones_like(features)):
        found = atlas.places(vectors)
        assert found.shape == (rows, 2)
        assert np.isfinite(found).all()
