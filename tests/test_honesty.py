"""What `benchmarks/honesty.py` measures at length holds on small input too."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import honesty
    from honesty_accuracy import calibration
    from honesty_data import made_images
    from honesty_likeness import novelty
    from honesty_scores import HEADS, WAYS, coverage, known, permutation
finally:
    sys.path.pop(0)

KNOWN = [head for head in HEADS if known(head)]


def within(share, low, high):
    """Whether a mean is in a range, but for three standard errors, or five in a thousand."""
    mean, error = share
    return low - max(3 * error, 0.005) <= mean <= high + max(3 * error, 0.005)


@pytest.mark.parametrize("head", KNOWN)
def test_labels_that_mean_nothing_are_predicted_no_better_than_by_chance(head):
    images = made_images(300, 2, 0, dimension=128)
    ways, repeats = ("cross-validation", "6 versions of each"), 4 if head == "all" else 8
    for row in permutation([images], heads=[head], ways=ways, rows=40, repeats=repeats):
        if "accuracy" in row:
            assert within(row["accuracy"], 0.5, 0.5), row
        if "chance in the interval" in row:
            assert row["chance in the interval"][0] >= 0.6, row  # at 95 %, one time in 1,000


def test_intervals_hold_the_accuracy_on_further_images_in_95_of_100_sets():
    ways = [way for way in WAYS if way[1] < 200 and "test" not in way[0]]
    for row in coverage(heads=["logistic"], sets=100, further=1000, dimension=128, ways=ways):
        mean, _ = row["coverage"]
        error = np.sqrt(0.05 * 0.95 / row["sets"])
        assert 0.90 - 2 * error <= mean <= 0.97 + 2 * error, row


@pytest.mark.parametrize("head", KNOWN)
def test_the_label_is_the_class_with_the_highest_decision_value(head):
    rows = calibration(heads=[head], classes=[20], further=400, draws=1, dimension=64)
    assert rows or head in ("all", "auto")
    for row in rows:
        assert row["label = argmax"][0] > 0.99, row
        assert row["accuracy"][0] >= row["of its decision"][0] - 0.01, row


def test_one_in_a_hundred_further_images_is_unfamiliar_with_near_copies_and_without():
    for row in novelty(sizes=[50, 200], draws=4, further=1000):
        assert within(row["false alarms"], 0.005, 0.02), row
    assert [row["versions of each"] for row in novelty(sizes=[50], draws=1)] == [1, 6]


def test_the_tables_in_the_docs_are_those_of_the_committed_result():
    (results,) = sorted((ROOT / "benchmarks" / "results").glob("honesty-*.json"))
    text = (ROOT / "docs" / "honesty.md").read_text()
    for name, table in honesty.tables(json.loads(results.read_text())).items():
        assert table in text, name
