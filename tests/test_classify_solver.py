"""Many linear classifiers at once, against scikit-learn fitting each of them alone."""

import numpy as np
import pytest
from headstart.classify.solver.lbfgs import minimise
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


def objective_of_an_svm(scaled, codes, strength, slopes, offset, weights=1):
    signs = np.where(codes, 1, -1)
    lacking = np.maximum(1 - signs * (scaled @ slopes.astype(np.float64) + offset), 0)
    return strength * (weights * lacking**2).sum() + (slopes @ slopes + offset**2) / 2


@pytest.mark.parametrize(
    ("shape", "apart"),
    [((60, 2, 200), 2), ((60, 10, 80), 2), ((400, 2, 60), 2), ((500, 4, 30), 1)],
    ids=["few rows", "few rows, 10 classes", "separable", "not separable"],
)
@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1, 10, 100])
def test_a_finished_svm_costs_what_liblinears_does_though_classes_can_be_separated(
    shape, apart, strength, shrunken_scaler
):
    features, codes = clouds(*shape)
    features += (
        np.float32(3 * (apart - 1))
        * np.eye(*shape[1:], dtype=np.float32)[codes]
        * features.std(axis=0)
    )
    path = LinearPath(features, codes, shape[1], [np.arange(len(codes))], SquaredHinge())
    path.solve(strength, tolerance=1e-5)
    path.finish(strength)
    scaler, slopes, offsets = by_scikit_learn(
        shrunken_scaler, SquaredHinge(), features, codes, strength, False
    )
    scaled = scaler.transform(features.astype(np.float64))
    for column, (ours, offset) in enumerate(zip(*path.coefficients(0), strict=True)):
        own = codes == (column if shape[1] > 2 else 1)
        reached = objective_of_an_svm(scaled, own, strength, ours, float(offset))
        least = objective_of_an_svm(scaled, own, strength, slopes[column], offsets[column])
        assert reached <= least * (1 + 1e-3)


def test_every_training_set_and_its_weights_are_finished_by_themselves(shrunken_scaler):
    features, codes = clouds(160, 2, 200)
    kept = (codes > 0) | (np.arange(160) % 3 == 0)
    features, codes = features[kept], codes[kept]
    cuts = trainings(len(codes))
    path = LinearPath(features, codes, 2, cuts, SquaredHinge(), balanced=True)
    path.solve(10.0, most_iterations=5)
    path.finish(10.0)
    for number, training in enumerate(cuts):
        scaler, slopes, offsets = by_scikit_learn(
            shrunken_scaler, SquaredHinge(), features[training], codes[training], 10.0, True
        )
        scaled = scaler.transform(features[training].astype(np.float64))
        own, weights = codes[training] == 1, compute_sample_weight("balanced", codes[training])
        ours, offset = path.coefficients(number)
        reached = objective_of_an_svm(scaled, own, 10.0, ours[0], float(offset[0]), weights)
        least = objective_of_an_svm(scaled, own, 10.0, slopes[0], offsets[0], weights)
        assert reached <= least * (1 + 1e-3)


def test_what_is_good_enough_already_is_not_touched():
    features, codes = clouds(300, 3, 20)
    for loss in (SquaredHinge(), LogLoss()):
        path = LinearPath(features, codes, 3, [np.arange(300)], loss)
        path.solve(1e-3, tolerance=1e-9)
        before = path.solution.copy()
        path.finish(1e-3)
        np.testing.assert_array_equal(path.solution, before)


def test_a_strength_that_float32_cannot_resolve_is_not_taken_for_solved_at_the_start():
    """The inverse of the curvature was all rounding, and the first step led uphill."""
    features, codes = clouds(300, 2, 400)
    features += 30 * features.std(axis=0) * np.random.default_rng(1).normal(size=(300, 1))
    path = LinearPath(features, codes, 2, [np.arange(300)], SquaredHinge())
    ((decisions,),) = path.solve(1e3, [[np.arange(300)]])
    assert np.mean((decisions[:, 0] > 0) == codes) > 0.95


def test_a_direction_that_leads_uphill_is_not_taken_for_the_minimum():
    class Bowl:
        """Two problems in one dimension, |2 x - 6|^2 / 2 + |x|^2 / 2, with an absurd inverse."""

        strength, independent = 1.0, 2

        def forward(self, vector):
            return 2 * vector

        def losses(self, decisions):
            return ((decisions - 6) ** 2 / 2).astype(np.float64), decisions - 6

        def penalised(self, vector):
            return vector

        def gradient(self, solution, derivatives):
            return 2 * derivatives + solution

        def preconditioner(self, derivatives):
            return lambda vector: vector * np.float32([[-1], [1]])

    solution = np.zeros((2, 1), np.float32)
    minimise(Bowl(), solution, 1e-6)
    np.testing.assert_allclose(solution, 12 / 5, rtol=1e-3)
