"""Feature files side by side."""

import dataclasses

import numpy as np
import pytest
from headstart.classify.studies.comparison import compare
from headstart.classify.training import train, train_all
from headstart.features import TrainingError, WrongUsage


def clouds(rows=200, apart=1.0, seed=0, columns=30):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % 2
    features = 2 * generator.normal(size=(rows, columns)) + apart * codes[:, None]
    return features.astype(np.float32), [f"class {code}" for code in codes]


@pytest.fixture
def good(make_store):
    return make_store(*clouds(), name="good.h5")


def test_files_are_ranked_and_matched_by_content_and_not_by_row(good, make_store):
    features, labels = clouds()
    turned = make_store(features[::-1], labels[::-1], contents=range(199, -1, -1), name="turned.h5")
    noise = make_store(clouds(apart=0)[0], labels, name="noise.h5")
    found = compare([noise, turned, good])
    best, second, worst = found.standings
    assert worst.name == str(noise.path)
    assert best.accuracy == second.accuracy
    assert best.accuracy > worst.accuracy + 0.2
    assert best.behind[0] == 0
    difference, low, high = worst.behind
    assert 0 < low < difference < high
    assert found.images == 200
    assert found.majority == 0.5


def test_the_accuracy_is_the_one_that_training_reports(good, make_store):
    found = compare([good, make_store(clouds(seed=1)[0], clouds()[1], name="other.h5")])
    standing = next(one for one in found.standings if one.name == str(good.path))
    assert standing.accuracy == pytest.approx(train(good).scores.accuracy, abs=0.02)


def test_a_file_no_better_than_random_weights_or_pixels_says_so(good, make_store):
    _features, labels = clouds()
    pretrained = {"weights": {"kind": "imagenet"}}
    useless = make_store(clouds(apart=0.02)[0], labels, name="useless.h5")
    random = make_store(clouds(apart=0.2, seed=4)[0], labels, name="random.h5")
    assert random.environment["weights"]["kind"] == "random"
    for store in (good, useless):
        store.origin = dataclasses.replace(store.origin, environment=pretrained)
    found = compare(
        [good, useless, random], pixels=lambda paths: clouds(len(paths), apart=0.2, seed=9)[0]
    )
    standings = {one.name: one for one in found.standings}
    assert standings[str(good.path)].no_better_than == ()
    assert set(standings[str(useless.path)].no_better_than) == {str(random.path), "raw pixels"}
    assert standings[str(random.path)].baseline == "random weights"
    assert standings[str(random.path)].no_better_than == ()
    assert standings["raw pixels"].dimension == 30


def test_only_images_that_all_files_have_count_and_the_others_are_counted(good, make_store):
    features, labels = clouds()
    part = make_store(features[:150], labels[:150], name="part.h5")
    found = compare([good, part])
    assert found.images == 150
    assert found.notes == ("50 images are not in all files and are left out",)


def test_images_of_the_test_split_have_no_say(make_store):
    features, labels = clouds()
    splits = ["test" if row % 4 == 0 else "train" for row in range(200)]
    one = make_store(features, labels, splits=splits, name="one.h5")
    before = compare([one, one])
    features[::4] = 1000
    two = make_store(features, labels, splits=splits, name="two.h5")
    assert compare([two, two]).standings[0].accuracy == before.standings[0].accuracy
    assert before.images == 150


def test_files_that_cannot_be_compared_are_refused(good, make_store):
    features, labels = clouds()
    others = make_store(features, labels, contents=range(5000, 5200), name="others.h5")
    with pytest.raises(TrainingError, match=r"others\.h5: has no image in common"):
        compare([good, others])
    classes = [labels[row] if row % 2 == 0 else "other" for row in range(200)]
    contents = [row if row % 2 == 0 else row + 5000 for row in range(200)]
    half = make_store(features, classes, contents=contents, name="half.h5")
    with pytest.raises(TrainingError, match="with the other files are of class 'class 0'"):
        compare([good, half])
    swapped = make_store(features, labels[::-1], name="swapped.h5")
    with pytest.raises(TrainingError, match=r"label 200 images differently: 000000\.png is 'class"):
        compare([good, swapped])
    with pytest.raises(WrongUsage, match="only one feature file"):
        compare([good])


def test_the_best_head_is_chosen_without_a_look_at_the_test_split(make_store):
    features, labels = clouds(240, apart=0.8)
    splits = ["test" if row % 3 == 0 else "train" for row in range(240)]
    head, standings = train_all(make_store(features, labels, splits=splits, name="one.h5"))
    features[::3] = features[::3][::-1]
    other, _ = train_all(make_store(features, labels, splits=splits, name="two.h5"))
    assert head.name == other.name
    assert head.scores != other.scores
    losses = [standing.choice_log_loss for standing in standings]
    assert losses == sorted(losses)
    best, scores = standings[0], head.scores
    assert best.name == head.name
    assert best.parameters == head.parameters
    found = best.accuracy, best.interval, best.log_loss, best.calibration_error
    assert found == (scores.accuracy, scores.interval, scores.log_loss, scores.calibration_error)
    assert best.behind[0] == 0
    assert [one.behind[0] for one in standings] == pytest.approx(
        [best.accuracy - one.accuracy for one in standings]
    )


def test_the_scores_of_the_chosen_head_include_the_choosing(make_store):
    """On noise some kind of head is ahead by luck; the scores must not profit from that."""
    generator = np.random.default_rng(0)
    shares = []
    for repeat in range(8):
        features = generator.normal(size=(60, 20)).astype(np.float32)
        labels = [f"class {code}" for code in generator.integers(0, 2, 60)]
        store = make_store(features, labels, name=f"{repeat}.h5")
        head, standings = train_all(store)
        assert head.scores.basis == "5-fold cross-validation"
        assert len(standings) == 4
        shares.append(head.scores.log_loss)
    assert np.mean(shares) > np.log(2) - 0.01


def test_groups_that_one_file_knows_hold_for_all_and_the_order_of_files_says_nothing(make_store):
    """Labels mean nothing but which group an image is of: a leak would show."""
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(24), 6)
    features = (1.5 * generator.normal(size=(24, 40)))[group] + generator.normal(size=(144, 40))
    labels = [f"class {code}" for code in generator.permutation(np.arange(24) % 2)[group]]
    names = [f"group {number}" for number in group]
    without = make_store(features, labels, name="without.h5")
    noisy = features + 0.01 * generator.normal(size=features.shape)
    known = make_store(noisy, labels, groups=names, name="known.h5", weights_digest="1" * 64)
    one, other = (
        {standing.name: standing.accuracy for standing in compare(files).standings}
        for files in ([without, known], [known, without])
    )
    assert one == other
    assert max(one.values()) < 0.75


def test_a_test_split_that_cannot_be_scored_stops_no_comparison(good, make_store):
    features, labels = clouds()
    splits = ["test" if row < 5 else "none" for row in range(200)]
    odd = ["odd"] * 5 + labels[5:]
    store = make_store(features, odd, splits=splits, name="odd.h5", weights_digest="1" * 64)
    assert compare([good, store]).images == 195


@pytest.mark.parametrize(
    "how", [{"folds": 5.0}, {"folds": 1}, {"seed": -1}, {"min_images": 0}, {"min_images": 2.0}]
)
def test_numbers_that_are_none_are_refused_in_one_line(good, make_store, how):
    other = make_store(clouds()[0], clouds()[1], name="other.h5", weights_digest="1" * 64)
    ((name, value),) = how.items()
    for call in (lambda: compare([good, other], **how), lambda: train(good, **how)):
        with pytest.raises(WrongUsage, match=f"{name} {value}"):
            call()
