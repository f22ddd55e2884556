"""What is printed of a head, its scores and its predictions at the prompt."""

import re

import numpy as np
import pytest
from headstart.classify import compare, evaluate, train
from headstart.classify.head import Prediction


@pytest.fixture
def labelled(make_store):
    def make(classes=("cat", "dog"), splits=None, name="pets.h5", first=0):
        codes = np.arange(120) % len(classes)
        features = np.random.default_rng(first).normal(size=(120, 8)) + 2 * codes[:, None]
        contents = range(first, first + 120)
        return make_store(
            features, [classes[code] for code in codes], splits=splits, contents=contents, name=name
        )

    return make


SHARE = r"\d+\.\d% \(\d+\.\d to \d+\.\d%\)"


def test_a_head_says_what_it_is_and_how_good(labelled):
    head = train(labelled())
    assert re.fullmatch(
        rf"Head\(logistic, 2 classes: cat, dog; {head.provenance.backbone} 71 px; "
        rf"accuracy {SHARE} by 5-fold cross-validation; 120 images\)",
        repr(head),
    )
    low, high = head.scores.interval
    assert f"{head.scores.accuracy:.1%} ({100 * low:.1f} to {100 * high:.1f}%)" in repr(head)


def test_many_classes_are_not_all_named(labelled):
    head = train(labelled([f"class {code}" for code in range(8)]))
    assert "8 classes: class 0, class 1, class 2, class 3, class 4, ...;" in repr(head)


def test_scores_say_where_they_are_from(labelled):
    head = train(labelled(splits=["test", "test", "train", "train"] * 30))
    assert re.fullmatch(
        rf"Scores\(accuracy {SHARE} on the test split; 60 images; baseline 50\.0%, "
        rf"log loss \d\.\d{{3}}\)",
        repr(head.scores),
    )
    elsewhere = evaluate(head, labelled(name="elsewhere.h5", first=1000))
    assert f"({elsewhere.summary}; 120 images;" in repr(elsewhere)
    assert elsewhere.summary.endswith(") on all labelled images")


def test_a_prediction_counts_its_labels_commonest_first():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    prediction = Prediction(["cat", "dog"], probabilities, np.array([0.5, 1.5, 0.2]))
    assert repr(prediction) == "Prediction(3 images: 2 dog, 1 cat; 1 unfamiliar)"
    nothing = Prediction(["cat", "dog"], np.empty((0, 2)), np.empty(0))
    assert repr(nothing) == "Prediction(0 images: none; 0 unfamiliar)"


def test_a_comparison_is_a_short_table_best_first(labelled):
    one, other = labelled(name="one.h5"), labelled(name="other.h5")
    first, *rows = repr(compare([one, other])).splitlines()
    assert first == "Comparison(120 images, 5-fold cross-validation, commonest class 50.0%:"
    assert re.fullmatch(rf"  .*one\.h5: {SHARE}", rows[0])
    assert re.fullmatch(rf"  .*other\.h5: {SHARE}\)", rows[1])
