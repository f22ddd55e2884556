"""Many linear classifiers at once, against scikit-learn fitting each of them alone."""

import numpy as np
import pytest
from headstart.classify.solver.losses import LogLoss, SquaredHinge
from headstart.classify.solver.path import LinearPath
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight


def clouds(rows, classes, columns, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = generator.normal(size=(classes, columns))
    scales = generator.lognormal(sigma=1.5, size=columns)
    features = (centres[codes] + 2 * generator.normal(size=(rows, columns))) * scales + 5
    return features.astype(np.float32), codes


def trainings(rows):
    """Everything, and everything but one part or two."""
    part = np.arange(rows) % 7 % 4
    return [np.flatnonzero((part != a) & (part != b)) for a, b in ((9, 9), (0, 0), (1, 2), (3, 0))]


def by_scikit_learn(scaler, loss, features, codes, strength, balanced):
    """A scaler, and the (c, D) coefficients and (c,) intercepts after it."""
    scaler = clone(scaler).fit(features)
    scaled = scaler.transform(features.astype(np.float64))
    weights = compute_sample_weight("balanced" if balanced else None, codes)
    if isinstance(loss, LogLoss):
        plain = LogisticRegression(C=strength, max_iter=10_000, tol=1e-10)
        plain.fit(scaled, codes, sample_weight=weights)
        return scaler, plain.coef_, plain.intercept_
    # One class against the rest, so that each has the weights of all classes: LinearSVC itself
    # balances only the one.
    classes = np.unique(codes)[1:] if len(np.unique(codes)) == 2 else np.unique(codes)
    plain = [
        LinearSVC(C=strength, max_iter=1_000_000, dual=False, tol=1e-10).fit(
            scaled, codes == one, sample_weight=weights
        )
        for one in classes
    ]
    return (
        scaler,
        np.concatenate([one.coef_ for one in plain]),
        np.concatenate([one.intercept_ for one in plain]),
    )


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("shape", [(140, 2, 30), (140, 2, 300), (160, 5, 40), (90, 3, 200)])
@pytest.mark.parametrize("loss", [LogLoss(), SquaredHinge()], ids=["logistic", "svm"])
def test_every_classifier_of_a_path_is_the_one_that_scikit_learn_finds(
    loss, shape, balanced, shrunken_scaler
):
    rows, classes, columns = shape
    features, codes = clouds(rows, classes, columns)
    if balanced:
        kept = (codes > 0) | (np.arange(rows) % 3 == 0)
        features, codes = features[kept], codes[kept]
    everyone = np.arange(len(codes))
    cuts = trainings(len(codes))
    path = LinearPath(features, codes, classes, cuts, loss, balanced=balanced)
    for strength in (1e-3, 1e-2, 1e-1):
        solved = path.solve(strength, [[everyone]] * len(cuts), tolerance=1e-9)
        for number, (training, (decisions,)) in enumerate(zip(cuts, solved, strict=True)):
            scaler, slopes, offsets = by_scikit_learn(
                shrunken_scaler, loss, features[training], codes[training], strength, balanced
            )
            theirs = scaler.transform(features.astype(np.float64)) @ slopes.T + offsets
            if isinstance(loss, LogLoss):  # softmax does not see a constant added to all columns
                decisions = decisions - decisions.mean(axis=1, keepdims=True) * (classes > 2)
                theirs = theirs - theirs.mean(axis=1, keepdims=True) * (classes > 2)
            np.testing.assert_allclose(decisions, theirs, atol=1e-3 * np.abs(theirs).max())
            coefficients, intercepts = path.coefficients(number)
            np.testing.assert_allclose(coefficients, slopes, atol=1e-3 * np.abs(slopes).max())
            if classes == 2:
                np.testing.assert_allclose(intercepts, offsets, atol=1e-3)


def test_the_minimum_is_found_in_few_steps_though_classes_are_uneven(caplog):
    """Balancing weights of 20 must not be taken for curvature of the loss."""
    features, codes = clouds(630, 2, 100)
    kept = (codes == 0) | (np.arange(630) % 20 == 1)
    path = LinearPath(
        features[kept], codes[kept], 2, [np.arange(kept.sum())], LogLoss(), balanced=True
    )
    with caplog.at_level("INFO", "headstart"):
        for strength in (1e-3, 1e-2, 1e-1):
            path.solve(strength, most_iterations=25)
        assert not caplog.records
        path.solve(1.0, tolerance=1e-9, most_iterations=1)
    assert "no minimum to 1e-09 within 1 steps" in caplog.text  # or the log would never speak


def test_what_is_returned_belongs_together_though_the_search_was_cut_short(caplog, shrunken_scaler):
    features, codes = clouds(200, 2, 30)
    everyone = np.arange(200)
    path = LinearPath(features, codes, 2, [everyone], SquaredHinge())
    with caplog.at_level("INFO", "headstart"):
        ((decisions,),) = path.solve(
            1.0, [[everyone]], tolerance=1e-9, most_iterations=3, most_trials=1
        )
    assert "C = 1: no minimum to 1e-09 within 3 steps" in caplog.text
    coefficients, intercept = path.coefficients(0)
    scaled = shrunken_scaler.fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(decisions, scaled @ coefficients.T + intercept, atol=1e-3)


def test_columns_that_are_copies_of_each_other_can_be_computed_with():
    features, codes = clouds(600, 2, 20)
    features = np.tile(features, (1, 20)) + 100
    path = LinearPath(features, codes, 2, [np.arange(600)], LogLoss())
    path.solve(1e4)
    assert np.isfinite(path.coefficients(0)[0]).all()


def test_a_classifier_does_not_depend_on_those_that_are_solved_beside_it():
    features, codes = clouds(200, 3, 60)
    cuts = trainings(200)
    together = LinearPath(features, codes, 3, cuts, LogLoss())
    alone = LinearPath(features, codes, 3, cuts[2:3], LogLoss())
    together.solve(0.01, tolerance=1e-9)
    alone.solve(0.01, tolerance=1e-9)
    np.testing.assert_allclose(together.coefficients(2)[0], alone.coefficients(0)[0], atol=1e-4)


def test_a_feature_that_is_constant_over_the_training_rows_gets_no_coefficient():
    features, codes = clouds(200, 2, 30)
    cuts = trainings(200)
    features[:, 4] = 0.3
    features[cuts[1], 9] = -7.7  # constant for the second classifier only
    features[:, 11] = 0
    path = LinearPath(features, codes, 2, cuts, LogLoss())
    path.solve(1.0)
    first, second = path.coefficients(0)[0], path.coefficients(1)[0]
    assert first[0, 4] == first[0, 11] == second[0, 4] == second[0, 9] == 0
    assert first[0, 9] != 0
    assert np.isfinite(second).all()


def test_a_path_in_groups_is_the_path_in_one():
    features, codes = clouds(300, 20, 40)
    cuts = trainings(300)
    whole = LinearPath(features, codes, 20, cuts, LogLoss())
    one_by_one = LinearPath(features, codes, 20, cuts, LogLoss(), at_once=300 * 20)
    wanted = [[np.arange(0, 300, 7)]] * 4
    for ours, theirs in zip(
        whole.solve(0.01, wanted, tolerance=1e-8),
        one_by_one.solve(0.01, wanted, tolerance=1e-8),
        strict=True,
    ):
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-3)
