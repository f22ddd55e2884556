"""A head folded into one dense layer answers as the head itself; one that cannot be says why."""

import numpy as np
import pytest
from headstart.apply.dense import dense_layer
from headstart.classify import train
from headstart.classify.heads import rbf as kernel
from headstart.features import HeadError
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC


def clouds(rows, classes, columns=12):
    generator = np.random.default_rng(classes)
    codes = np.arange(rows) % classes
    centres = generator.normal(size=(classes, columns))
    features = (centres[codes] + 2 * generator.normal(size=(rows, columns))) * np.logspace(
        -2, 2, columns
    ) + 5
    return features.astype(np.float32), [f"class {code}" for code in codes]


def answers(layer, features):
    vectors = features.astype(np.float64)
    if layer.before is not None:
        vectors = vectors * layer.before[0] + layer.before[1]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sums = vectors @ layer.kernel + layer.bias
    if layer.activation == "softmax":
        return softmax(sums, axis=1)
    each = expit(sums)
    return each / each.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(
    "head",
    [
        "logistic",
        "svm",
        "prototype",
        make_pipeline(Normalizer(), LogisticRegression(C=100, max_iter=5000)),
        make_pipeline(StandardScaler(), Normalizer(), StandardScaler(), LogisticRegression()),
        LogisticRegression(max_iter=5000),
        make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=5000)),
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(fit_intercept=False)),
        make_pipeline(make_pipeline(StandardScaler()), StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky")),
    ],
    ids=[
        "logistic",
        "svm",
        "prototype",
        "lengths",
        "scaled lengths",
        "bare",
        "centred",
        "scaled",
        "nested",
        "newton",
    ],
)
def test_the_layer_gives_the_probabilities_of_the_head(make_store, head, classes):
    features, labels = clouds(60 * classes, classes)
    trained = train(make_store(features, labels), head, folds=3)
    layer = dense_layer(trained.pipeline)
    expected = trained.pipeline.predict_proba(features.astype(np.float64))
    assert layer.kernel.shape == (12, classes)
    np.testing.assert_allclose(answers(layer, features), expected, atol=1e-9)
    # Or nothing was told apart; without scales the lengths of these vectors say little.
    assert np.ptp(expected) > (0.2 if head == "prototype" else 0.5)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("svm-rbf", "compares an image with .* training images by a kernel"),
        (KNeighborsClassifier(3), "a KNeighborsClassifier cannot be folded"),
        (make_pipeline(PCA(3), LogisticRegression()), "a PCA cannot be folded"),
        (make_pipeline(Normalizer("l1"), LogisticRegression()), "a Normalizer cannot be folded"),
        (CalibratedClassifierCV(LinearSVC(), cv=3), "3 calibrated classifiers"),
        (
            CalibratedClassifierCV(LinearSVC(), method="isotonic", ensemble=False),
            "its isotonic calibration is no sigmoid",
        ),
    ],
    ids=["svm-rbf", "neighbours", "pca", "l1", "ensemble", "isotonic"],
)
def test_a_head_that_is_no_dense_layer_says_why(make_store, head, reason):
    features, labels = clouds(120, 2)
    trained = train(make_store(features, labels), head, folds=3)
    with pytest.raises(HeadError, match=f"{reason}.*; train --head logistic or --head svm"):
        dense_layer(trained.pipeline)


@pytest.mark.parametrize(("setting", "value"), [("multi_class", "ovr"), ("solver", "liblinear")])
def test_logistic_regression_against_the_rest_is_refused(make_store, setting, value):
    """As scikit-learn before 1.8 has it."""
    features, labels = clouds(120, 3)
    classifier = LogisticRegression(max_iter=5000)
    trained = train(make_store(features, labels), classifier, folds=3)
    dense_layer(trained.pipeline)
    setattr(trained.pipeline.steps[-1][1], setting, value)
    with pytest.raises(HeadError, match=f"its .*{value}.* in a way of its own"):
        dense_layer(trained.pipeline)


def test_an_approximated_kernel_is_named(make_store, monkeypatch):
    monkeypatch.setattr(kernel, "free_memory", lambda: 0)
    features, labels = clouds(120, 2)
    trained = train(make_store(features, labels), "svm-rbf", folds=3)
    with pytest.raises(HeadError, match="a Nystroem cannot be folded"):
        dense_layer(trained.pipeline)
