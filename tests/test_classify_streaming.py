"""Heads of files that are read in blocks: what is learned is what is learned in memory."""

import os
import subprocess
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import audit, compare, evaluate, learning_curve, train, train_all
from headstart.classify.examples import sampled, stored
from headstart.classify.experiment import Experiment, task_of
from headstart.classify.heads import RECIPES
from headstart.classify.heads.prediction import predicted
from headstart.classify.heads.scaling import shrunken_scaler
from headstart.classify.scores import cells, groups, seen
from headstart.classify.scores.cells import chains_in_cells
from headstart.classify.scores.duplicates import Likeness
from headstart.classify.solver import rows as solver_rows
from headstart.classify.solver.losses import LogLoss, SquaredHinge
from headstart.classify.solver.path import LinearPath
from headstart.classify.solver.rows import Stored, passes, taken
from headstart.features import FeatureStore, HeadError, TrainingError
from headstart.features.journal import progress
from headstart.pages.report import report
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TOLERANCE = 4e-3
"""Of a probability, to that of the exact minimum: heads in memory and of files both stop short."""


@pytest.fixture
def in_blocks(monkeypatch):
    """Vectors are read in blocks of about a hundred rows, whatever memory there is."""

    def lower(rows=200):
        monkeypatch.setattr(stored, "SHARE", 0)
        monkeypatch.setattr(stored, "LEAST", 0)
        monkeypatch.setattr(stored, "_DECIDED", WeakKeyDictionary())
        monkeypatch.setattr(sampled, "ROWS", rows)
        monkeypatch.setattr(solver_rows, "BLOCK_BYTES", 1 << 14)

    return lower


def clouds(rows, classes, columns, seed=0):
    """Classes that overlap, sorted, with features of very different scales and means."""
    generator = np.random.default_rng(seed)
    codes = np.sort(np.arange(rows) % classes)
    centres = generator.normal(size=(classes, columns))
    scales = generator.lognormal(sigma=1.5, size=columns)
    features = (0.25 * centres[codes] + generator.normal(size=(rows, columns))) * scales
    return (features + 5 * scales).astype(np.float32), codes


def in_file(features):
    """The same rows for whoever reads them in blocks."""
    return Stored(lambda rows: features[rows], np.arange(len(features)), features.shape[1])


def names_of(codes):
    return [f"class {code}" for code in codes]


def test_rows_come_as_they_were_asked_for():
    features = np.arange(60, dtype=np.float32).reshape(20, 3)
    matrix = in_file(features)
    for chosen in (slice(3, 9), np.array([7, 2, 2, 19]), np.arange(20) % 3 == 0, slice(0, 0)):
        np.testing.assert_array_equal(matrix[chosen], features[chosen])
    some = taken(taken(matrix, np.arange(20) % 2 == 0), np.array([1, 4, 9]))
    np.testing.assert_array_equal(some[:], features[[2, 8, 18]])
    for most in (None, 1, 7, 20, 50):
        together = np.concatenate(list(passes(matrix, "", most)))
        np.testing.assert_array_equal(together, features)


def test_few_rows_of_a_file_are_those_of_the_whole(make_store):
    features, codes = clouds(900, 2, 2000)
    store = make_store(features, names_of(codes))
    generator = np.random.default_rng(0)
    for rows in ([5], [0, 899], np.arange(130, 400), np.sort(generator.permutation(900)[:77])):
        np.testing.assert_array_equal(store.read_features(np.asarray(rows)), features[rows])


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("loss", [LogLoss(), SquaredHinge()], ids=["logistic", "svm"])
def test_classifiers_of_a_file_are_those_of_memory(loss, classes, balanced, monkeypatch):
    monkeypatch.setattr(solver_rows, "BLOCK_BYTES", 1 << 13)
    features, codes = clouds(600, classes, 30)
    features[:, 3] = 0.5  # constant
    cuts = [np.flatnonzero(np.arange(600) % 5 != left_out) for left_out in range(3)]
    held_out = [[np.flatnonzero(np.arange(600) % 5 == left_out)] for left_out in range(3)]
    shares = np.where(np.arange(600) % 2, 0.5, 1.0)
    found = []
    for matrix in (features, in_file(features)):
        path = LinearPath(matrix, codes, classes, cuts, loss, balanced=balanced, shares=shares)
        decisions = path.solve(0.01, held_out, tolerance=1e-8)
        found.append((path.coefficients(1), [values for (values,) in decisions]))
    (memory, its_decisions), (file, decisions) = found
    if isinstance(loss, LogLoss):  # softmax does not see a constant added to all columns
        its_decisions, decisions = (
            [values - values.mean(axis=1, keepdims=True) * (classes > 2) for values in one]
            for one in (its_decisions, decisions)
        )
    for one, other in zip(decisions, its_decisions, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max())
    np.testing.assert_allclose(file[0], memory[0], atol=2e-3 * np.abs(memory[0]).max())
    assert (file[0][:, 3] == 0).all()


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_an_svm_of_a_file_whose_classes_can_be_separated_is_at_its_minimum(strength):
    features, codes = clouds(500, 2, 120)
    paths = [
        LinearPath(matrix, codes, 2, [np.arange(500)], SquaredHinge())
        for matrix in (features, in_file(features))
    ]
    found = []
    for path in paths:
        path.solve(strength, tolerance=1e-6)
        path.finish(strength)
        coefficients, intercepts = (one[0].astype(np.float64) for one in path.coefficients(0))
        margins = shrunken_scaler(features).transform(features) @ coefficients + intercepts
        lacking = np.maximum(1 - np.where(codes == 1, 1, -1) * margins, 0)
        assert strength < 1 or (np.abs(margins) > 0.8).all()  # separated
        penalty = (np.square(coefficients).sum() + intercepts**2) / 2
        found.append(strength * np.square(lacking).sum() + penalty)
    assert found[1] == pytest.approx(found[0], rel=1.1e-3)  # each is within 5e-4


@pytest.mark.parametrize("tested", [True, False], ids=["test split", "cross-validated"])
@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_a_head_of_a_file_is_that_of_memory_with_the_same_parameters(
    name, tested, make_store, in_blocks
):
    features, codes = clouds(1200, 3, 40)
    splits = ["test" if tested and row % 4 == 0 else "train" for row in range(1200)]
    store = make_store(features, names_of(codes), splits=splits)
    experiment = Experiment.of(store, 5, 0, None)
    in_blocks()
    head = train(store, name)
    task = experiment.task
    plain = dict(RECIPES[name].fit(head.parameters, task))
    ours = dict(head.pipeline.steps)
    np.testing.assert_allclose(ours["scale"].mean_, plain["scale"].mean_, rtol=1e-5)
    np.testing.assert_allclose(ours["scale"].scale_, plain["scale"].scale_, rtol=1e-5)
    theirs = plain["classify"].decision_function(plain["scale"].transform(features))
    machine = ours["classify"]
    if name == "svm":
        machine = machine.calibrated_classifiers_[0].estimator
    values = machine.decision_function(ours["scale"].transform(features))
    if name == "logistic":
        values -= values.mean(axis=1, keepdims=True)
        theirs -= theirs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(values, theirs, atol=5e-3 * np.abs(theirs).max())
    if tested:
        own = predicted(head.pipeline, experiment.test.features, None).argmax(axis=1)
        assert head.scores.rows == len(experiment.test) > 250
        right = own == experiment.test.codes_among(head.label_names)
        assert head.scores.accuracy == pytest.approx(right.mean(), abs=1e-9)


def test_what_chose_the_parameters_is_in_memory_whole_and_never_scored(make_store, in_blocks):
    features, codes = clouds(1000, 2, 40)
    given = [f"patient {row // 3}" for row in range(1000)]
    store = make_store(features, names_of(codes), groups=given)
    in_blocks()
    one, again = (Experiment.of(store, 5, 3, None) for _ in range(2))
    np.testing.assert_array_equal(one.search.rows, again.search.rows)
    other = Experiment.of(store, 5, 4, None).search.rows
    assert other.tolist() != one.search.rows.tolist()
    assert isinstance(one.search.task.features, np.ndarray)
    np.testing.assert_array_equal(one.search.task.features, features[one.search.rows])
    assert 150 <= len(one.search.rows) <= 260
    of = one.examples.groups
    parts = [one.search.rows, *one.folds]
    assert sum(map(len, parts)) == 1000
    assert len(np.unique(np.concatenate([np.unique(of[part]) for part in parts]))) == sum(
        len(np.unique(of[part])) for part in parts
    )
    for fold in one.search.folds:
        assert len(np.unique(one.search.task.codes[fold])) == 2


def test_a_rare_class_is_in_what_chooses_the_parameters(make_store, in_blocks):
    features, codes = clouds(900, 3, 30)
    codes[:] = 0
    codes[400:890], codes[890:] = 1, 2
    store = make_store(features, names_of(codes))
    in_blocks(90)
    experiment = Experiment.of(store, 5, 0, None)
    counts = np.bincount(experiment.search.task.codes)
    assert counts[2] == 5
    assert np.bincount(experiment.scored.codes)[2] == 5
    assert abs(counts[0] / counts[1] - 400 / 490) < 0.05


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_scores_of_labels_that_mean_nothing_are_those_of_chance(name, make_store, in_blocks):
    features, _ = clouds(1200, 2, 150)
    codes = np.random.default_rng(1).integers(0, 2, 1200)
    store = make_store(features, names_of(codes))
    in_blocks()
    scores = train(store, name).scores
    assert scores.interval[0] < 0.5 < scores.interval[1] + 0.02
    assert scores.log_loss > 0.68
    assert scores.basis == "5-fold cross-validation"
    assert 930 <= scores.rows <= 1020
    (note,) = [note for note in scores.notes if "in blocks" in note]
    assert note.endswith("drawn from every class, which are not scored")


def test_of_very_many_classes_the_scores_are_of_what_chose_the_parameters(
    make_store, in_blocks, monkeypatch
):
    features, codes = clouds(900, 3, 40)
    store = make_store(features, names_of(codes))
    in_blocks()
    monkeypatch.setattr("headstart.classify.experiment._MOST_VALUES", 2000)
    head = train(store, "svm")
    experiment = Experiment.of(store, 5, 0, None)
    drawn = experiment.search.rows
    alone = make_store(features[drawn], names_of(codes[drawn]), contents=drawn, name="alone.h5")
    monkeypatch.setattr(stored, "SHARE", 1)
    assert head.scores.rows == len(drawn)
    there = train(alone, "svm").scores
    assert head.scores.accuracy == pytest.approx(there.accuracy, abs=0.05)
    assert head.scores.log_loss == pytest.approx(there.log_loss, rel=0.1)
    assert "the scores are of 200 of these, by heads trained" in " ".join(head.scores.notes)
    assert sum(head.training_counts.values()) == 900
    monkeypatch.setattr(stored, "SHARE", 0)
    chosen, standings = train_all(store)
    assert len(standings) == 2
    assert any(note.startswith("these are the scores of choosing") for note in chosen.scores.notes)


def test_views_are_trained_on_and_averaged_from_the_file(make_store, in_blocks):
    features, codes = clouds(600, 2, 40)
    views = features + np.random.default_rng(2).normal(size=(2, *features.shape)).astype("f4")
    store = make_store(features, names_of(codes), views=views)
    in_memory = train(store, tta=True)
    tasks = [Experiment.of(store, 5, 0, None, tta=True).task]
    before = in_memory.predict(store, tta=True), predict(in_memory, store, tta=True)
    in_blocks(300)
    tasks.append(Experiment.of(store, 5, 0, None, tta=True).task)
    assert isinstance(tasks[1].features, Stored)
    assert len(tasks[1].features) == 1800
    np.testing.assert_allclose(
        in_memory.predict(store, tta=True).probabilities, before[0].probabilities, atol=1e-6
    )
    again = predict(in_memory, store, tta=True)
    assert again.labels == before[1].labels
    np.testing.assert_allclose(again.confidences, before[1].confidences, atol=1e-6)
    head = train(store, tta=True)
    assert head.scores.accuracy == pytest.approx(in_memory.scores.accuracy, abs=0.04)

    rows = tasks[0].features
    shares = tasks[0].shares(np.arange(1800))
    scale = shrunken_scaler(rows, shares)
    exact = LogisticRegression(C=0.1, tol=1e-10, max_iter=20_000)
    exact.fit(scale.transform(rows).astype(np.float64), tasks[0].codes, sample_weight=shares)
    true = exact.predict_proba(scale.transform(rows))
    for task in tasks:
        steps = dict(RECIPES["logistic"].fit({"C": 0.1}, task))
        found = steps["classify"].predict_proba(steps["scale"].transform(rows))
        np.testing.assert_allclose(found, true, atol=TOLERANCE)


def test_predictions_and_evaluations_of_a_file_are_those_of_memory(make_store, in_blocks, tmp_path):
    features, codes = clouds(700, 2, 40)
    store = make_store(features[:400], names_of(codes[200:600]))
    further = make_store(features, names_of(codes), contents=range(1000, 1700), name="further.h5")
    head = train(store, "logistic")
    before = head.predict(further), predict(head, further, out=tmp_path / "before.csv", top=2)
    scores = evaluate(head, further)
    in_blocks()
    prediction = head.predict(further)
    np.testing.assert_allclose(prediction.probabilities, before[0].probabilities, atol=1e-6)
    # Squares of distances: what float32 rounds in a product of unit vectors, be the distance 0.
    distances = prediction.novelty, before[0].novelty
    np.testing.assert_allclose(*map(np.square, distances), atol=1e-5)
    np.testing.assert_array_equal(prediction.copies, before[0].copies)
    predictions = predict(head, further, out=tmp_path / "after.csv", top=2)
    assert predictions.labels == before[1].labels
    assert predictions.unfamiliar == before[1].unfamiliar
    assert predictions.copies == before[1].copies
    np.testing.assert_allclose(predictions.confidences, before[1].confidences, atol=1e-6)
    again = evaluate(head, further)
    assert again.rows == scores.rows
    assert again.notes == scores.notes
    assert again.accuracy == scores.accuracy
    assert again.log_loss == pytest.approx(scores.log_loss, abs=1e-6)


def test_a_learning_curve_is_of_what_chose_the_parameters_and_says_so(
    make_store, in_blocks, monkeypatch
):
    features, codes = clouds(900, 2, 30)
    store = make_store(features, names_of(codes))
    in_blocks(150)
    head = train(store)
    monkeypatch.setattr("headstart.classify.examples.Grouping", None)  # it is known already
    curve = learning_curve(head, store)
    search = Experiment.of(store, 5, 0, None).search
    own = search.task.codes
    pools = [np.delete(own, fold) for fold in search.folds]
    assert curve.points[-1].per_class == min(np.bincount(pool).max() for pool in pools) > 50
    assert curve.note == "of the 150 images that the parameters were chosen by"


def test_what_needs_all_vectors_at_once_says_so_at_once(make_store, in_blocks, cli, tmp_path):
    features, codes = clouds(600, 2, 30)
    store = make_store(features, names_of(codes))
    in_memory = train(store)
    in_blocks()
    several = "head {} (logistic, svm can read them in blocks)"
    for what, call in (
        (several.format("svm-rbf"), lambda: train(store, "svm-rbf")),
        (several.format("prototype"), lambda: train(store, "prototype")),
        (several.format("GaussianNB"), lambda: train(store, GaussianNB())),
        ("an audit", lambda: audit(store)),
        ("a report", lambda: report(in_memory, store, tmp_path / "report.html")),
        ("comparing files", lambda: compare([store, store])),
    ):
        with pytest.raises(TrainingError, match="takes all vectors in memory") as error:
            call()
        assert f"made.h5: {what}" in str(error.value)
        assert "more than a quarter of the" in str(error.value)
    done = cli("train", store.path, "-o", tmp_path / "a.joblib", "--report", tmp_path / "a.html")
    assert done.code == 1
    assert "made.h5: a report takes all vectors in memory" in done.err
    assert not (tmp_path / "a.joblib").exists()
    head, standings = train_all(store)
    assert {one.name for one in standings} == {"logistic", "svm"}
    assert "prototype, svm-rbf would take all vectors in memory: left out" in head.scores.notes


def test_files_are_compared_only_if_there_is_memory_for_all_of_them(make_store, monkeypatch):
    features, codes = clouds(60, 2, 30)
    stores = [make_store(features, names_of(codes), name=f"{name}.h5") for name in "ab"]
    monkeypatch.setattr(stored, "LEAST", 0)
    monkeypatch.setattr(stored, "free_memory", lambda: 6 * features.nbytes)
    with pytest.raises(TrainingError, match=r"a\.h5, .*b\.h5: comparing files takes all vectors"):
        compare(stores)
    monkeypatch.setattr(stored, "free_memory", lambda: 9 * features.nbytes)
    assert len(compare(stores).standings) == 2


def test_probabilities_that_would_not_fit_are_refused(make_store, in_blocks, monkeypatch):
    features, codes = clouds(400, 2, 30)
    splits = ["test" if row % 4 == 0 else "train" for row in range(400)]
    store = make_store(features, names_of(codes), splits=splits)
    other = make_store(features, names_of(codes), contents=range(900, 1300), name="other.h5")
    in_blocks()
    head = train(store)
    evaluate(head, other, "all")
    monkeypatch.setattr(stored, "free_memory", lambda: 1000)
    monkeypatch.setattr("headstart.classify.heads.prediction.free_memory", lambda: 1000)
    said = "the probabilities of {} images and 2 classes take"
    with pytest.raises(TrainingError, match=f"made.h5: {said.format(100)}"):
        train(store)
    with pytest.raises(TrainingError, match=f"other.h5: {said.format(r'[0-9]+')}"):
        evaluate(head, other, "all")
    with pytest.raises(HeadError, match=said.format(400)):
        head.predict(other)
    assert len(predict(head, other).labels) == 400  # in parts


def test_the_notes_say_how_many_training_images_the_test_split_was_compared_with(
    make_store, in_blocks, monkeypatch
):
    features, codes = clouds(400, 2, 40)
    splits = ["test" if row % 4 == 0 else "train" for row in range(400)]
    store = make_store(features, names_of(codes), splits=splits)
    in_blocks()
    assert not [note for note in Experiment.of(store, 5, 0, None).notes if "sought" in note]
    monkeypatch.setattr(seen, "BYTES", 20_000)
    experiment = Experiment.of(store, 5, 0, None)
    (note,) = [note for note in experiment.notes if "were sought among" in note]
    kept = len(experiment.seen().vectors)
    assert f"among {kept} of the 300 distinct training images ({kept / 300:.0%})" in note


def test_vectors_with_values_that_are_none_are_refused(make_store, in_blocks):
    features, codes = clouds(600, 2, 30)
    store = make_store(features, names_of(codes))
    bad = features.copy()
    bad[577, 3] = np.nan

    def read(self, rows):
        return bad[rows]

    in_blocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "read_features", read)
        with pytest.raises(TrainingError, match=r"1 of its vectors .* 000577\.png"):
            train(store)


def test_near_copies_are_found_in_cells_as_among_all(monkeypatch):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(5000, 128)).astype(np.float32)
    vectors += 0.5 * generator.normal(size=(20, 128))[np.arange(5000) % 20]
    copied = generator.permutation(5000)[:1000]
    one, other = copied[:500], copied[500:]
    vectors[other] = vectors[one] + 0.68 * generator.normal(size=(500, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(5000) % 20
    labels[other] = labels[one]
    assert np.median(np.einsum("ij,ij->i", vectors[one], vectors[other])) < 0.86
    monkeypatch.setattr(cells, "_CELL", 256)
    landmarks = cells._NEAREST * 5000 // cells._CELL
    assert landmarks > 150
    found = chains_in_cells(vectors.astype(np.float16), labels)
    everywhere = Likeness(vectors, labels)
    whole = groups.together(everywhere.chains, everywhere.masses)

    def missed(numbers):
        return np.count_nonzero(numbers[one] != numbers[other])

    def merged(numbers):
        """Rows in groups that no copying explains."""
        copies = np.arange(5000)
        copies[other] = one
        pairs = len(np.unique(np.stack([numbers, copies]), axis=1).T)
        return pairs - len(np.unique(numbers))

    assert missed(whole) < 15
    assert missed(found) < missed(whole) + 10
    assert merged(whole) < 25
    assert merged(found) < merged(whole) + 25


def test_a_file_of_many_images_is_grouped_in_cells(make_store, in_blocks, monkeypatch):
    features, codes = clouds(600, 2, 60)
    features[300:303] = features[:3] * 1.001
    store = make_store(features, names_of(codes))
    in_blocks()
    monkeypatch.setattr(groups, "EXACTLY", 100)
    monkeypatch.setattr(cells, "_CELL", 64)
    of = Experiment.of(store, 5, 0, None).examples.groups
    assert (of[300:303] == of[:3]).all()
    head = train(store)
    assert head.scores.rows + len(Experiment.of(store, 5, 0, None).search.rows) == 600


def test_a_task_of_a_file_has_the_rows_of_its_views_behind(make_store, in_blocks):
    features, codes = clouds(300, 2, 40)
    views = np.stack([features + 1])
    store = make_store(features, names_of(codes), views=views)
    in_blocks()
    examples = Experiment.of(store, 5, 0, None).examples
    task = task_of(examples, examples.classes, False, 0)
    np.testing.assert_array_equal(task.features[:300], features)
    np.testing.assert_array_equal(task.features[300:], features + 1)


@pytest.mark.parametrize("blocks", [0, 3, 30, 60])
def test_an_interrupt_leaves_nothing_behind(
    blocks, make_store, in_blocks, cli, tmp_path, monkeypatch
):
    features, codes = clouds(600, 2, 30)
    store = make_store(features, names_of(codes))
    in_blocks()
    before = sorted(tmp_path.iterdir())
    seen = []

    def add(self, rows):
        seen.append(rows)
        if len(seen) > blocks:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "add", add)
    done = cli("train", store.path, "-o", tmp_path / "head.joblib")
    assert done.code == 130
    assert done.err.endswith("headstart: interrupted\n")
    assert sorted(tmp_path.iterdir()) == before


MEASURE = """
import sys
from headstart.classify import train
from headstart.classify.examples import sampled, stored
from headstart.classify.scores import groups, seen
from headstart.classify.solver import rows
from headstart.features import FeatureStore
import headstart.classify.training

def peak():  # of this program alone: ru_maxrss begins where that of its parent was
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024

rows.BLOCK_BYTES = 4 << 20
stored.LEAST, stored.SHARE, sampled.ROWS, groups.EXACTLY, seen.BYTES = 0, 0, 1000, 1000, 600_000
before = peak()
head = train(FeatureStore(sys.argv[1]))
print(peak() - before, head.scores.log_loss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/status")
def test_the_vectors_are_never_in_memory_together(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import beyond_memory

    rows, dimension = 40_000, 1024
    distribution = beyond_memory.Distribution(dimension, 64)
    codes = np.sort(np.arange(rows) % 2)
    path = tmp_path / "large.h5"
    beyond_memory.write(path, codes, distribution.blocks(codes, 0), dimension)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    grown, log_loss = map(float, done.stdout.split())
    assert 0 < grown < 4 * rows * dimension
    assert log_loss < 0.6
