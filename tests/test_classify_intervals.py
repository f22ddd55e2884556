"""Intervals of accuracies and of their differences, also of several at once, by simulation."""

import numpy as np
import pytest
from headstart.classify.scores.intervals import (
    accuracy_interval,
    critical_value,
    paired_difference,
)
from headstart.classify.scores.leaderboard import Standing, ranked
from scipy.stats import norm

RUNS = 500


def equals(generator, images, number=8, share=0.9, common=0.5):
    """(number, images) right or wrong, all equally good; hard images are so for all of them."""
    hard = np.sqrt(common) * generator.normal(size=images)
    own = np.sqrt(1 - common) * generator.normal(size=(number, images))
    return hard + own < norm.ppf(share)


def standings(rights, groups, baseline=""):
    entries = [
        (
            Standing(
                name=str(number),
                accuracy=float(right.mean()),
                interval=(0.0, 1.0),
                log_loss=0.0,
                calibration_error=0.0,
                seconds=0.0,
                baseline=baseline if number == 0 else "",
            ),
            right,
        )
        for number, right in enumerate(rights)
    ]
    return ranked(entries, groups, lambda one: -one.accuracy)


def test_of_two_the_interval_is_the_usual_one_and_of_more_it_is_tukeys():
    assert critical_value(1) == critical_value(2) == pytest.approx(norm.ppf(0.975), abs=1e-9)
    # Of printed tables: the upper 5 % of the studentised range, infinitely many degrees of freedom.
    for number, upper in ((3, 3.314), (6, 4.030), (8, 4.286), (10, 4.474), (20, 5.012)):
        assert critical_value(number) * np.sqrt(2) == pytest.approx(upper, abs=1.1e-3)


@pytest.mark.parametrize(("images", "share"), [(60, 0.75), (200, 0.9), (1000, 0.9)])
def test_the_best_of_eight_equal_ones_beats_another_in_one_of_twenty_runs_at_most(images, share):
    generator = np.random.default_rng(images)
    beats = alone = 0
    for _ in range(RUNS):
        rights = equals(generator, images, share=share)
        found = standings(rights, np.arange(images))
        beats += any(one.behind[1] > 0 for one in found)
        best = rights[int(found[0].name)]
        alone += any(paired_difference(best, one, np.arange(images))[1] > 0 for one in rights)
    assert beats / RUNS < 0.05 + 2 * np.sqrt(0.05 * 0.95 / RUNS)
    assert alone / RUNS > 0.4  # what intervals for two would have said


def test_one_that_is_better_is_still_seen_to_be():
    generator = np.random.default_rng(1)
    images, seen = 600, 0
    for _ in range(50):
        rights = equals(generator, images)
        rights[3] = equals(generator, images, 1, share=0.98)[0]
        found = standings(rights, np.arange(images))
        seen += found[0].name == "3" and all(one.behind[1] > 0 for one in found[1:])
    assert seen > 45


def test_of_eight_useless_files_none_beats_the_baseline_by_being_many():
    generator = np.random.default_rng(2)
    beats = 0
    for _ in range(RUNS):
        found = standings(equals(generator, 200, 9), np.arange(200), baseline="random weights")
        beats += any(one.no_better_than == () for one in found if not one.baseline)
    assert beats / RUNS < 0.05 + 2 * np.sqrt(0.05 * 0.95 / RUNS)


def test_a_difference_is_that_of_the_accuracies_however_uneven_the_groups_are():
    generator = np.random.default_rng(3)
    one, two = generator.random((2, 300)) < 0.7
    groups = np.repeat(np.arange(30), generator.multinomial(300, generator.dirichlet(np.ones(30))))
    difference, low, high = paired_difference(one, two, groups)
    assert difference == pytest.approx(one.mean() - two.mean())
    assert low < difference < high


def test_the_interval_of_a_difference_holds_the_truth_though_rows_come_in_uneven_groups():
    generator = np.random.default_rng(4)
    sizes = np.array([1] * 60 + [2] * 30 + [6] * 10)
    groups = np.repeat(np.arange(100), sizes)
    hits = 0
    for _ in range(RUNS):
        one, two = equals(generator, 100, 2, share=0.8)
        _, low, high = paired_difference(one[groups], two[groups], groups)
        hits += low <= 0 <= high
    assert 0.92 < hits / RUNS < 0.99


def test_groups_may_be_numbers_of_any_kind_in_any_order():
    generator = np.random.default_rng(5)
    one, two = generator.random((2, 90)) < 0.7
    groups = generator.integers(0, 40, 90)
    expected = paired_difference(one, two, groups), accuracy_interval(one, groups)
    for other in (groups.astype(np.int32), -groups, groups.astype(np.uint64) + np.uint64(2**63)):
        assert paired_difference(one, two, other) == pytest.approx(expected[0])
        assert accuracy_interval(one, other) == pytest.approx(expected[1])
