"""Learning curves: accuracies over several draws of the images, and intervals that hold."""

import itertools

import numpy as np
import pytest
from headstart.classify import learning_curve, train
from headstart.classify.scores.intervals import accuracy_interval, drawn_interval
from headstart.classify.studies import curve as curves
from scipy.stats import norm

FOLDS, COLUMNS = 5, 30


def population(generator, images, apart):
    codes = np.arange(images) % 2
    features = generator.normal(size=(images, COLUMNS))
    features[:, 0] += apart * codes
    return features, codes


def by_means(features, codes):
    """The nearest class mean: a direction, and the place along it where the class changes."""
    zero, one = features[codes == 0].mean(axis=0), features[codes == 1].mean(axis=0)
    return one - zero, (one - zero) @ (one + zero) / 2


def truth(generator, per_class, apart, draws=2000):
    """The accuracy to expect of so many images of each class, exact but for the draws."""
    found = []
    for _ in range(draws):
        direction, border = by_means(*population(generator, 2 * per_class, apart))
        length = np.linalg.norm(direction)
        above = (apart * direction[0] - border) / length
        found.append((norm.cdf(above) + norm.cdf(border / length)) / 2)
    return np.mean(found)


def one_curve(generator, images, per_class, apart, draws):
    """Of each fold, (draws, n): what was right; and the share of the images that was drawn."""
    features, codes = population(generator, images, apart)
    fold = np.arange(images) // 2 % FOLDS
    right = []
    for one in range(FOLDS):
        pools = [np.flatnonzero((fold != one) & (codes == code)) for code in (0, 1)]
        right.append([])
        for _ in range(draws):
            rows = np.concatenate([generator.permutation(pool)[:per_class] for pool in pools])
            direction, border = by_means(features[rows], codes[rows])
            held_out = fold == one
            right[-1].append((features[held_out] @ direction > border) == codes[held_out])
    return [np.array(of_fold) for of_fold in right], 2 * per_class / (images * (1 - 1 / FOLDS))


@pytest.mark.parametrize(
    ("images", "per_class", "apart", "draws"),
    [(60, 4, 4, 5), (300, 4, 2, 5), (300, 16, 3, 2), (300, 80, 2, 5), (1000, 4, 3, 5)],
)
def test_the_interval_holds_the_accuracy_to_expect_of_new_draws(images, per_class, apart, draws):
    generator = np.random.default_rng(0)
    expected, runs = truth(generator, per_class, apart), 300
    hits = one_fold = 0
    for _ in range(runs):
        right, drawn = one_curve(generator, images, per_class, apart, draws)
        low, high = drawn_interval(right, np.arange(images), drawn)
        hits += low <= expected <= high
        low, high = drawn_interval(right[:1], np.arange(right[0].shape[1]), drawn)
        one_fold += low <= expected <= high
    assert 0.9 < hits / runs < 0.99
    assert one_fold / runs > 0.9 or draws == 2


def test_the_interval_of_one_draw_alone_would_not_hold_it():
    generator = np.random.default_rng(1)
    expected, hits = truth(generator, 4, 3), 0
    for _ in range(200):
        right, _ = one_curve(generator, 1000, 4, 3, 1)
        low, high = accuracy_interval(np.concatenate(right, axis=1)[0], np.arange(1000))
        hits += low <= expected <= high
    assert hits / 200 < 0.8


def test_draws_that_change_nothing_leave_the_interval_of_one_draw():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 2)
    right = np.repeat(generator.random(40) < 0.8, 2)
    same = [np.tile(right[:30], (4, 1)), np.tile(right[30:], (4, 1))]
    assert drawn_interval(same, groups, 0.1) == pytest.approx(accuracy_interval(right, groups))
    perfect = [np.ones((4, 30), bool), np.ones((4, 50), bool)]
    assert drawn_interval(perfect, groups, 1.0) == pytest.approx(
        accuracy_interval(np.ones(80, bool), groups)
    )


def test_copies_of_the_images_make_the_interval_no_narrower():
    generator = np.random.default_rng(3)
    right, drawn = one_curve(generator, 60, 4, 2, 5)
    once = drawn_interval(right, np.arange(60), drawn)
    first = np.cumsum([0, *(of_fold.shape[1] for of_fold in right)])
    copies = [np.repeat(of_fold, 7, axis=1) for of_fold in right]
    groups = np.concatenate([np.repeat(np.arange(a, b), 7) for a, b in itertools.pairwise(first)])
    assert drawn_interval(copies, groups, drawn) == pytest.approx(once, abs=1e-9)


@pytest.fixture
def store(make_store):
    generator = np.random.default_rng(4)
    features, codes = population(generator, 120, 2)
    return make_store(features.astype(np.float32), [f"class {code}" for code in codes])


def test_small_sizes_leave_more_open_than_the_scored_images_do(store):
    curve = learning_curve(train(store), store)
    widths = [high - low for low, high in (point.interval for point in curve.points)]
    assert [point.per_class for point in curve.points] == [2, 4, 8, 16, 32, 48]
    assert all(
        low < point.accuracy < high for point in curve.points for low, high in [point.interval]
    )
    assert curve.points[-1].accuracy > curve.points[0].accuracy
    assert max(widths[:3]) > 0.1
    again = learning_curve(train(store), store)
    assert again == curve


@pytest.mark.parametrize(("most", "draws"), [(0, curves._DRAWS_OF_ONE_FOLD), (2**40, 2)])
def test_where_there_is_much_to_compute_there_are_fewer_draws_and_then_one_fold(
    store, monkeypatch, most, draws
):
    head, seen = train(store), []
    monkeypatch.setattr(curves, "_DRAWS", ((5, 0), (2, most)))
    monkeypatch.setattr(
        curves, "drawn_interval", lambda *given: seen.append(given) or drawn_interval(*given)
    )
    curve = learning_curve(head, store)
    assert [point.per_class for point in curve.points] == [2, 4, 8, 16, 32, 48]
    right, groups, _ = seen[0]
    assert len(right) == (1 if most == 0 else 5)
    assert right[0].shape[0] == draws
    assert sum(of_fold.shape[1] for of_fold in right) == len(groups)
    shares = [share for _, _, share in seen]
    assert shares == pytest.approx([2 * size / 96 for size in (2, 4, 8, 16, 32)])
