"""What a head says that learns along while labels are given."""

import numpy as np
import pytest
from headstart.classify.scores.intervals import accuracy_interval
from headstart.classify.studies import learner as module
from headstart.classify.studies.learner import Estimate, Learner
from headstart.features import HeadstartError
from sklearn.decomposition import PCA


def clouds(number=60, classes=3, dimension=40, apart=4.0, seed=0):
    """(N, D) vectors around one centre a class, and (N,) classes."""
    generator = np.random.default_rng(seed)
    codes = np.arange(number) % classes
    centres = apart * generator.normal(size=(classes, dimension))
    return (centres[codes] + generator.normal(size=(number, dimension))).astype("f4"), codes


@pytest.fixture
def known(make_store):
    """A learner of 60 images of three classes, and their classes."""
    vectors, codes = clouds()
    store = make_store(vectors, [None] * len(codes))
    return Learner.of(store, np.arange(len(store))), codes.astype(np.int32)


def labelled(codes, images):
    given = np.full(len(codes), -1, np.int32)
    given[images] = codes[images]
    return given


def test_a_label_of_each_class_is_enough_where_classes_lie_apart(known):
    learner, codes = known
    beliefs = learner.learn(labelled(codes, [0, 1, 2]))
    assert (beliefs.predicted == codes).all()
    assert ((beliefs.margin <= beliefs.confidence) & (beliefs.margin >= 0)).all()


@pytest.mark.parametrize("images", [[], [0], [0, 3, 6]])
def test_there_is_no_head_before_two_classes(known, images):
    learner, codes = known
    assert learner.learn(labelled(codes, images)) is None


def test_what_was_learned_before_does_not_show_in_what_is_learned_next(known):
    learner, codes = known
    odd = codes.copy()
    odd[:30] = (odd[:30] + 1) % 3
    for before in (odd, labelled(codes, [0, 1]), labelled(codes, [1, 2]), codes):
        learner.learn(before)
    given = labelled(codes, range(12))
    fresh = Learner(learner.vectors).learn(given)
    again = learner.learn(given)
    assert (fresh.predicted == again.predicted).all()
    assert np.abs(fresh.confidence - again.confidence).max() < 0.02


def test_no_class_is_lost_where_only_some_labels_are_learned_from(known, monkeypatch):
    learner, codes = known
    given = labelled(codes, [*np.flatnonzero(codes < 2), 59])
    monkeypatch.setattr(module, "_MOST_CELLS", 18)  # six images
    assert (learner.learn(given).predicted == codes).all()


def test_labels_that_were_changed_are_the_suspects(known):
    learner, codes = known
    wrong = codes.copy()
    changed = [4, 17, 33]
    wrong[changed] = (wrong[changed] + 1) % 3
    doubts = learner.doubts(wrong)
    assert sorted(doubts.suspects(wrong).tolist()) == changed
    assert (doubts.predicted[changed] == codes[changed]).all()
    assert (doubts.given[changed] < 0.5).all()


def test_images_of_a_class_with_two_labels_are_no_suspects(known):
    learner, codes = known
    given = labelled(codes, [0, 3, 6, 9, 12, 1, 4, 7, 10, 2, 5])
    doubts = learner.doubts(given)
    assert np.isnan(doubts.given[[2, 5]]).all()
    assert (doubts.predicted[[2, 5]] == -1).all()
    assert np.isfinite(doubts.given[[0, 1, 7, 12]]).all()
    assert (doubts.predicted[given < 0] == -1).all()


def test_nobody_is_suspected_before_two_classes_have_three_labels(known):
    learner, codes = known
    for images in ([], [0, 3, 6, 9], [0, 3, 6, 1, 4]):
        given = labelled(codes, images)
        assert not len(learner.doubts(given).suspects(given))


def test_the_most_unfamiliar_image_is_of_the_class_that_has_no_label(known):
    learner, codes = known
    strangeness = learner.strangeness((codes != 2) & (np.arange(60) < 30))
    assert codes[np.argsort(-strangeness)[:20]].tolist() == [2] * 20


def test_an_image_is_not_its_own_neighbour(known):
    learner, _ = known
    assert (learner.strangeness(np.ones(60, bool)) > 1e-6).all()
    assert np.isfinite(learner.strangeness(np.zeros(60, bool))).all()


def test_numbers_learned_from_are_principal_components_of_scaled_features(
    make_store, shrunken_scaler
):
    vectors, _ = clouds(number=50, dimension=20)
    vectors[:, 3] *= 100
    store = make_store(vectors, [None] * 50)
    found = Learner.of(store, np.arange(50)).vectors
    expected = PCA(20).fit_transform(shrunken_scaler.fit(vectors).transform(vectors))
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_vectors_are_read_in_blocks_that_do_not_show(make_store, monkeypatch):
    vectors, _ = clouds(number=50)
    store = make_store(vectors, [None] * 50, dtype="float16")
    rows = np.flatnonzero(np.arange(50) % 3)
    whole = Learner.of(store, rows).vectors
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert np.allclose(Learner.of(store, rows).vectors, whole, atol=1e-4)


@pytest.mark.parametrize("number", [1, 2])
def test_one_image_or_the_same_again_is_no_error(make_store, number):
    store = make_store(np.ones((number, 4)), [None] * number)
    learner = Learner.of(store, np.arange(number))
    codes = np.arange(number, dtype=np.int32)
    learner.learn(codes)
    assert len(learner.strangeness(codes == 0)) == number


def test_a_vector_that_is_not_finite_is_refused_by_name(make_store):
    vectors, _ = clouds()
    vectors[7, 3] = 1e20
    with pytest.raises(HeadstartError, match=r"made.h5: the vector of 000007\.png"):
        Learner.of(make_store(vectors, [None] * 60), np.arange(60))


def test_the_estimate_is_the_share_that_was_right_with_its_interval():
    right = np.array([True] * 18 + [False] * 2)
    estimate = Estimate.of(right)
    assert (estimate.accuracy, estimate.labels) == (0.9, 20)
    assert estimate.interval == accuracy_interval(right, np.arange(20))
    assert Estimate.of(right[:0]) is None
