"""What each kind of head is beside scikit-learn's own of the same kind."""

import dataclasses
import logging
import types

import numpy as np
import psutil
import pytest
from headstart.classify import train
from headstart.classify.crossfit import _pairs, cross_fit
from headstart.classify.folds import stratified_folds
from headstart.classify.heads import RECIPES, recipe_of
from headstart.classify.heads.calibration import Part, calibration
from headstart.classify.heads.linear import STRENGTHS
from headstart.classify.heads.rbf import Rbf
from headstart.classify.heads.recipe import Task
from headstart.features import TrainingError, WrongUsage
from sklearn.calibration import CalibratedClassifierCV, _TemperatureScaling
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC


def clouds(rows, classes=3, columns=40, apart=1.0, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(size=(classes, columns)) * apart
    features = centres[codes] + generator.normal(size=(rows, columns)) * 3
    return features.astype(np.float32), codes


def task(rows, classes=3, columns=40, *, balanced=False, **how):
    features, codes = clouds(rows, classes, columns, **how)
    names = np.array([f"class {code}" for code in range(classes)])
    return Task(features, codes, names, balanced=balanced, seed=0)


def folds_of(one, number=5):
    return stratified_folds(one.codes, np.arange(len(one.codes)), number, 0).held_out


def as_splits(folds):
    """The same folds for scikit-learn."""
    number = np.empty(sum(map(len, folds)), int)
    for place, rows in enumerate(folds):
        number[rows] = place
    return PredefinedSplit(number)


@pytest.mark.parametrize(("rows", "classes"), [(120, 2), (400, 2), (300, 4)])
def test_the_logistic_head_is_what_a_plain_grid_search_finds(rows, classes, shrunken_scaler):
    """Also with fewer rows than columns."""
    one = task(rows, classes, columns=150)
    folds = folds_of(one)
    ours = cross_fit(recipe_of("logistic"), one, folds, honest=False)
    plain = GridSearchCV(
        make_pipeline(shrunken_scaler, LogisticRegression(max_iter=5000, tol=1e-6)),
        {"logisticregression__C": STRENGTHS},
        cv=as_splits(folds),
        scoring="neg_log_loss",
    ).fit(one.features.astype(np.float64), one.labels)
    assert ours.judged.log_loss() == pytest.approx(-plain.best_score_, rel=0.02, abs=5e-4)
    if ours.parameters["C"] == plain.best_params_["logisticregression__C"]:
        (_, scaler), (_, classifier) = recipe_of("logistic").fit(ours.parameters, one)
        np.testing.assert_allclose(
            classifier.predict_proba(scaler.transform(one.features)),
            plain.predict_proba(one.features),
            atol=2e-3,
        )


def test_a_calibrated_svm_is_what_scikit_learn_calibrates(make_store, shrunken_scaler, monkeypatch):
    only_sigmoids = dataclasses.replace(RECIPES["svm"], calibrations=("sigmoid",))
    monkeypatch.setitem(RECIPES, "svm", only_sigmoids)
    one = task(300, 3)
    folds = folds_of(one)
    head = train(make_store(one.features, one.labels.tolist()), "svm")
    plain = CalibratedClassifierCV(
        make_pipeline(shrunken_scaler, LinearSVC(C=head.parameters["C"], dual=False, tol=1e-8)),
        cv=as_splits(folds),
        ensemble=False,
    ).fit(one.features.astype(np.float64), one.labels)
    np.testing.assert_allclose(
        head.pipeline.predict_proba(one.features), plain.predict_proba(one.features), atol=5e-3
    )


@pytest.mark.parametrize("name", ["svm", "svm-rbf", "prototype"])
@pytest.mark.parametrize("method", ["sigmoid", "temperature"])
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_are_those_of_scikit_learn_with_the_same_calibrators(name, method, classes):
    one, folds = task(200, classes), folds_of(task(200, classes))
    cross = cross_fit(recipe_of(name), one, folds, honest=False)
    found = calibration(method, cross.judged._parts)
    steps = recipe_of(name).fit(cross.parameters, one)
    *before, (_, machine) = steps
    vectors = make_pipeline(*(step for _, step in before)).transform(one.features)
    decisions = machine.decision_function(vectors).reshape(len(vectors), -1)
    np.testing.assert_allclose(
        found.probabilities(decisions), found.after(machine).predict_proba(vectors), atol=1e-6
    )


def test_temperature_is_that_of_scikit_learn_where_there_are_mistakes_and_finite_where_not():
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 5, 3000)
    decisions = generator.normal(size=(3000, 5)) + 2 * np.eye(5)[codes]
    ours = calibration("temperature", [Part(decisions, codes, None)])
    theirs = _TemperatureScaling().fit(decisions, codes)
    assert ours.maps[0].beta_ == pytest.approx(theirs.beta_, rel=2e-3)
    sure = calibration("temperature", [Part(10.0 * np.eye(5)[codes[:6]], codes[:6], None)])
    assert 0.8 < sure.probabilities(10.0 * np.eye(5)).max(axis=1).min() < 0.95
    theirs = _TemperatureScaling().fit(10.0 * np.eye(5)[codes[:6]], codes[:6])
    assert theirs.beta_ > 10 * sure.maps[0].beta_


@pytest.mark.parametrize("classes", [20, 60])
def test_of_many_classes_the_label_is_the_one_that_the_machine_decided_for(classes, make_store):
    """Sigmoids, fitted to a handful of positives, used to throw a third of them away."""
    features, codes = clouds(8 * classes, classes, apart=1.5)
    head = train(make_store(features, [f"class {code:03}" for code in codes]), "svm-rbf")
    other, truth = clouds(1000, classes, apart=1.5, seed=1)
    served = head.pipeline.predict(other)
    machine = head.pipeline[-1].calibrated_classifiers_[0].estimator
    plain = make_pipeline(*head.pipeline[:-1], machine)
    decided = plain.predict(other)  # by votes, of which ties go to the first class
    argmax = head.pipeline.classes_[plain.decision_function(other).argmax(axis=1)]
    assert (served == argmax).all()
    names = np.array([f"class {code:03}" for code in truth])
    assert (served == names).mean() > (decided == names).mean() - 0.01


@pytest.mark.parametrize("classes", [2, 6])
def test_svm_rbf_decides_as_scikit_learns_svc_does(classes, shrunken_scaler):
    one, other = task(400, classes, apart=1.5), task(400, classes, apart=1.5, seed=1)
    parameters = {"C": 1.0, "gamma": 1 / 40}
    steps = make_pipeline(*(step for _, step in Rbf().fit(parameters, one)))
    plain = make_pipeline(shrunken_scaler, SVC(C=1.0, gamma=1 / 40)).fit(one.features, one.labels)
    for features in (one.features, other.features):
        assert (steps.predict(features) == plain.predict(features)).mean() >= 0.999
        apart = np.abs(steps.decision_function(features) - plain.decision_function(features))
        assert np.mean(apart < 5e-3) > 0.995  # a tie between two classes may go the other way


def test_a_kernel_that_does_not_fit_into_memory_is_approximated_and_that_is_logged(
    make_store, monkeypatch, caplog
):
    one = task(300, 2, apart=1.5)
    store = make_store(one.features, one.labels.tolist())
    exact = train(store, "svm-rbf")
    assert "landmarks" not in exact.parameters
    just_too_little = types.SimpleNamespace(available=2 * 300**2 * 16 - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: just_too_little)
    with caplog.at_level(logging.INFO, "headstart"):
        approximate = train(store, "svm-rbf")
    assert "more than half of the free memory; it is approximated by 1,024 landmarks" in caplog.text
    assert isinstance(approximate.pipeline["kernel"], Nystroem)
    agree = exact.predict(store).labels == approximate.predict(store).labels
    assert agree.mean() > 0.95
    assert abs(exact.scores.accuracy - approximate.scores.accuracy) < 0.05


@pytest.mark.parametrize("name", RECIPES)
def test_balanced_classes_weigh_the_same_as_in_scikit_learn(name, make_store, shrunken_scaler):
    features, codes = clouds(400, 2, apart=0.5)
    rare = (codes == 1) | (np.arange(400) % 10 == 0)
    labels = np.array(["common", "rare"])[1 - codes[rare]].tolist()
    store = make_store(features[rare], labels)
    plain, balanced = (train(store, name, class_weight=how) for how in (None, "balanced"))
    if name == "prototype":  # a mean is a mean, however many rows it is of
        assert balanced.pipeline[-1].estimator.coef_ == pytest.approx(
            plain.pipeline[-1].estimator.coef_
        )
        return
    recall = [head.scores.per_class["rare"]["recall"] for head in (plain, balanced)]
    assert recall[1] > recall[0] + 0.1
    assert balanced.scores.balanced_accuracy > plain.scores.balanced_accuracy
    assert balanced.class_weight == "balanced"
    if name == "logistic":
        theirs = make_pipeline(
            shrunken_scaler,
            LogisticRegression(class_weight="balanced", tol=1e-8, **balanced.parameters),
        ).fit(store.features.astype(np.float64), labels)
        np.testing.assert_allclose(
            balanced.predict(store).probabilities,
            theirs.predict_proba(store.features),
            atol=2e-3,
        )


@pytest.mark.parametrize(
    "classifier",
    [RandomForestClassifier(20), RidgeClassifier(), make_pipeline(StandardScaler(), SVC())],
)
def test_any_scikit_learn_classifier_can_be_the_head(classifier, make_store):
    features, codes = clouds(150, apart=1.5)
    store = make_store(features, [f"class {code}" for code in codes])
    head, again = train(store, classifier), train(store, classifier)
    assert head.name == type(classifier).__name__
    prediction = head.predict(store)
    assert prediction.labels.tolist() == head.pipeline.predict(features).tolist()
    np.testing.assert_array_equal(prediction.probabilities, again.predict(store).probabilities)
    assert head.scores.accuracy > head.scores.baseline + 0.2
    assert head.scores.basis == "5-fold cross-validation"
    assert not hasattr(classifier, "classes_")  # a clone was fitted


def four_classes(make_store):
    features, codes = clouds(80, classes=4)
    return make_store(features, [f"class {code}" for code in codes], name="four.h5")


def test_what_is_no_classifier_is_refused(make_store):
    features, codes = clouds(30)
    store = make_store(features, [f"class {code}" for code in codes])
    with pytest.raises(WrongUsage, match=r"KMeans\(\): neither the name of a head"):
        train(store, KMeans())
    for wrong in (None, RandomForestClassifier, 3):
        with pytest.raises(WrongUsage, match="neither the name of a head nor"):
            train(store, wrong)
    with pytest.raises(WrongUsage, match=r"did you mean svm\? There are .*, and all for `head"):
        train(store, "svn")
    with pytest.raises(WrongUsage, match=r"`train_all` trains every kind.*; here it is one of"):
        train(store, "all")
    with pytest.raises(WrongUsage, match="SVC: it gives 6 values per row for 4 classes"):
        train(four_classes(make_store), SVC(decision_function_shape="ovo"))
    with pytest.raises(WrongUsage, match="set it on the RandomForestClassifier itself"):
        train(store, RandomForestClassifier(), class_weight="balanced")


@pytest.mark.parametrize("tested", [False, True])
def test_a_classifier_that_fits_and_cannot_predict_so_few_images_is_one_line(make_store, tested):
    features, codes = clouds(30)
    splits = ["test" if tested and row % 4 == 0 else "train" for row in range(30)]
    store = make_store(features, [f"class {code}" for code in codes], splits=splits)
    with pytest.raises(TrainingError, match="KNeighborsClassifier: it cannot predict") as caught:
        train(store, KNeighborsClassifier(50))
    assert "n_neighbors" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="LinearDiscriminantAnalysis: it cannot be fitted to"):
        train(store, LinearDiscriminantAnalysis(n_components=99))


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_about_a_fold_enters_its_own_probabilities(name):
    """Neither its labels nor its features, except those of the row itself."""
    one = task(200, 2, apart=0.5)
    folds = folds_of(one)
    held_out = folds[2]
    before = cross_fit(recipe_of(name), one, folds, honest=True).probabilities[held_out]
    codes, features = one.codes.copy(), one.features.copy()
    codes[held_out] = 1 - codes[held_out]
    features[held_out[1:]] = 3 * features[held_out[1:]][::-1] + 1
    other = Task(features, codes, one.names, balanced=False, seed=0)
    after = cross_fit(recipe_of(name), other, folds, honest=True).probabilities[held_out]
    np.testing.assert_allclose(after[0], before[0], atol=5e-3)


def test_a_fold_has_no_say_in_how_far_others_walk():
    """Each choice is what it would be if the path were walked for it alone."""
    one = task(150, 2, columns=60, apart=0.2)
    folds = folds_of(one)
    together = cross_fit(recipe_of("logistic"), one, folds, honest=True).judged
    alone = cross_fit(recipe_of("logistic"), one, folds, honest=False)
    np.testing.assert_allclose(
        np.concatenate(together.decisions), np.concatenate(alone.judged.decisions), atol=2e-2
    )


def test_calibrations_that_heads_are_compared_by_have_not_seen_the_rows():
    """On noise, sigmoids fitted to the very rows would promise more than a coin does."""
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(10):
        features = generator.normal(size=(60, 200)).astype(np.float32)
        codes = generator.permutation(np.arange(60) % 6)
        one = Task(features, codes, np.array(list("abcdef")), False, 0)
        losses.append(
            cross_fit(recipe_of("svm"), one, folds_of(one), honest=False).judged.log_loss()
        )
    assert np.mean(losses) > np.log(6)


@pytest.mark.parametrize("name", RECIPES)
def test_cross_fitted_probabilities_of_noise_know_nothing(name):
    """Calibrated or chosen with a look at the labels they would do better than a coin."""
    generator = np.random.default_rng(5)
    features = generator.normal(size=(240, 100)).astype(np.float32)
    one = Task(features, generator.integers(0, 2, 240), np.array(["a", "b"]), False, 0)
    found = cross_fit(recipe_of(name), one, folds_of(one), honest=True)
    assert log_loss(one.labels, found.probabilities) > np.log(2) - 0.01


def test_every_fold_has_judges_and_many_rows_need_fewer_of_them():
    small = _pairs([np.arange(10)] * 5)
    assert len(small) == len(set(small)) == 10
    for number in (3, 4, 5, 8):
        large = _pairs([np.arange(5000)] * number)
        assert len(large) == len(set(large)) == (number + 1) // 2
        assert set().union(*large) == set(range(number))
