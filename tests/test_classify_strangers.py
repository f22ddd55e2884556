"""Head files of strangers, and damaged ones: a sound head, or one line; nothing else happens."""

import copy
import errno
import functools
import io
import json
import logging
import os
import stat
import threading
import zipfile

import joblib
import numpy as np
import pytest
import scipy.sparse
import skops.io
from headstart.classify import load_head, persistence, soundness, train
from headstart.classify.heads import RECIPES, makeup, rbf
from headstart.classify.heads.machines import machines, require_sound_machine
from headstart.features import HeadError, HeadstartError
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

posix = pytest.mark.skipif(os.name == "nt", reason="pipes, owners and modes of POSIX")

# Mutations: a place in a tree of dictionaries and lists, and an odd value to put there.

ODD = (
    None, True, -1, 0, 2**62, 10**400, 0.5, -1e308, float("nan"), float("inf"), "", "a", "\ud800",
    "x" * 10_000, "1e999", [], [None], ["a", "a"], [[[[[]]]]], {}, {"a": 1},
    {"": {"": {}}}, (), (1, 2),
)  # fmt: skip
NOT_JSON = (
    b"bytes", {1: 2}, {None: None}, {1, 2}, object, np.float64("nan"), np.zeros(0),
    np.zeros((8, 12)),
    np.array(["a", "b"]), np.array([None, {}], object), np.full((2, 3), 2**62), np.zeros((1, 1, 1)),
    np.arange(2, dtype=np.uint64), np.full(12, np.inf, np.float32), np.ma.masked_all(2), Ellipsis,
)  # fmt: skip


def places(tree, path=()):
    """The path of every value in a tree, inner ones included."""
    children = enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, child in tree.items() if isinstance(tree, dict) else children:
        yield (*path, key)
        yield from places(child, (*path, key))


def changed(tree, path, value):
    """A copy of a tree with another value at a place; one that is `DELETED` is gone."""
    key, *rest = path
    if rest:
        value = changed(tree[key], rest, value)
    if isinstance(tree, dict):
        return {name: one for name, one in (tree | {key: value}).items() if one is not DELETED}
    copied = list(tree)
    copied[key] = value
    return type(tree)(one for one in copied if one is not DELETED)


DELETED = object()


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path, contents, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def planned(contents, change):
    """The members of an archive, its plan changed."""
    plan = change(json.loads(contents["schema.json"]))
    return contents | {"schema.json": json.dumps(plan).encode()}


def taken(path, **options):
    """A head, or the one line that says why not; anything else fails the test."""
    try:
        head = load_head(path, **options)
    except HeadstartError as error:
        said = str(error)
    else:
        repr(head), repr(head.scores), head.majority
        head.predict(np.zeros((2, head.provenance.dimension), np.float32))
        return head
    assert said.startswith(str(path))
    assert "\n" not in said
    return said


SAVED = {}  # heads of the store below, each trained once
SPLITS = ["train"] * 42 + ["test"] * 18


@pytest.fixture
def store(make_store):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 12)) + np.arange(60)[:, None] % 3
    return make_store(features, ["cat", "dog", "hen"] * 20, splits=SPLITS)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """From here on this machine is another than the one that wrote what there is."""
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "another machine"))


@pytest.fixture
def gift(store, tmp_path, elsewhere):
    """Save a head with another pipeline, or other metadata, as skops writes it."""

    def give(name="logistic", change=lambda content: None):
        path = tmp_path / "gift.skops"
        if name not in SAVED:
            train(store, name).save(path)
            SAVED[name] = path.read_bytes()
        path.write_bytes(SAVED[name])
        content = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
        change(content)
        skops.io.dump(content, path)
        return path

    return give


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("landmarks", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_every_head_of_ours_passes_for_one(
    store, make_store, tmp_path, elsewhere, monkeypatch, name, landmarks, class_weight
):
    if landmarks:
        monkeypatch.setattr(rbf, "free_memory", lambda: 0)
        monkeypatch.setattr(rbf, "_LANDMARKS", 16)
    keep = np.arange(60) % 3 < 2
    labels, splits = (np.array(one)[keep].tolist() for one in (["cat", "dog", "hen"] * 20, SPLITS))
    two = make_store(store.features[keep], labels, splits=splits, name="two.h5")
    for of in (store, two):
        head = train(of, name, class_weight=class_weight)
        assert ("landmarks" in head.parameters) == (landmarks and name == "svm-rbf")
        head.save(tmp_path / "head.SKOPS")  # upper case is fine
        monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "yet another machine"))
        loaded = load_head(tmp_path / "head.SKOPS")
        assert loaded.scores == head.scores
        assert loaded.training_counts == head.training_counts


def _opens_files(content):
    words = CountVectorizer().fit(["hello", "world"])
    words.input = "filename"
    content["pipeline"].steps.insert(0, ("read", words))


def _starts_threads(content):
    steps = content["pipeline"].steps
    union = FeatureUnion([("a", steps[0][1])], n_jobs=200)
    content["pipeline"] = Pipeline([("scale", union), steps[-1]])


def _bags(content):
    bag = BaggingClassifier(LogisticRegression(), n_estimators=2, n_jobs=200)
    content["pipeline"].steps[-1] = ("classify", bag.fit(np.eye(12), ["cat", "dog", "hen"] * 4))


def _points_outside(machine):
    def change(content):
        fitted = machine.fit(np.eye(12), ["cat", "dog", "hen"] * 4)
        fitted.support_ = np.full_like(fitted.support_, 2**30)
        content["pipeline"].steps[-1] = ("classify", FrozenEstimator(fitted))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _opens_files,
        _starts_threads,
        _bags,
        _points_outside(SVC(kernel="precomputed")),
        _points_outside(NuSVC(nu=0.1, kernel="precomputed")),
        lambda content: content["metadata"].update(canary=np.array(["/etc/passwd"], object)),
        lambda content: content["metadata"].update(more=os.path.join),
        lambda content: content["metadata"].update(more=functools.partial(print, "hello")),
        lambda content: content["metadata"].update(more=b"bytes"),
    ],
)
def test_what_no_head_of_ours_has_is_refused_before_it_is_built(gift, monkeypatch, change):
    path = gift(change=change)
    monkeypatch.setattr(skops.io, "loads", lambda *given, **more: pytest.fail("it is built"))
    with pytest.raises(HeadError, match=r"gift\.skops: (this machine did not write it|damaged or)"):
        load_head(path)


def test_types_of_ours_are_refused_where_no_recipe_puts_them(gift):
    def nested(content):
        content["pipeline"] = Pipeline(
            [("scale", StandardScaler()), ("classify", content["pipeline"])]
        )

    def calibrated_twice(content):
        (_, last) = content["pipeline"].steps[-1]
        last.calibrated_classifiers_[0].estimator = copy.deepcopy(last)

    def of(attribute, value):
        return lambda content: setattr(content["pipeline"].steps[-1][1], attribute, value)

    for name, change, message in (
        ("logistic", nested, "'StandardScaler' object has no attribute 'mean_'"),
        ("svm", calibrated_twice, "a CalibratedClassifierCV in the place of a LinearSVC"),
        ("svm", of("calibrated_classifiers_", []), "not enough values"),
        ("svm", of("n_features_in_", 10**9), "numbers of features"),
        ("logistic", of("coef_", np.ones((3, 99))), r"its coef_ is not \(3, 12\)"),
        ("logistic", of("predict_proba", "a"), "attributes in place of methods"),
        ("logistic", of("n_jobs", 200), "LogisticRegression with its parameter 'n_jobs' set"),
    ):
        path = gift(name, change)
        with pytest.raises(HeadError, match=message):
            load_head(path)


def _first(values):
    return values[:1].copy()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_n_support", lambda old: np.array([2**30, -(2**30), 0], np.int32)),
        ("_n_support", lambda old: np.ones(1000, np.int32)),
        ("_n_support", lambda old: old[:0]),
        ("_n_support", lambda old: np.full_like(old, 2**31 - 1)),
        ("_dual_coef_", lambda old: old[:, :1].copy()),
        ("_dual_coef_", lambda old: np.zeros((0, 0))),
        ("_intercept_", lambda old: old[:0]),
        ("_probA", lambda old: np.zeros(1)),
        ("_probB", lambda old: np.zeros(99)),
        ("support_", lambda old: old + 1000),
        ("support_", lambda old: old - 1),
        ("support_", lambda old: old.astype(np.int64)),
        ("support_", lambda old: old[:0]),
        ("shape_fit_", lambda old: (2**40, 3)),
        ("n_features_in_", lambda old: 3),
        ("classes_", lambda old: old[:2]),
        ("kernel", lambda old: "rbf"),
        ("_sparse", lambda old: True),
        ("_impl", lambda old: "nu_svc"),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_arrays_that_libsvm_would_believe_are_refused_before_it_gets_them(
    gift, monkeypatch, attribute, value, trust
):
    def change(content):
        machine = content["pipeline"].steps[-1][1].calibrated_classifiers_[0].estimator
        old = getattr(machine, attribute)
        vars(machine)[attribute] = value(old)

    path = gift("svm-rbf", change)
    monkeypatch.setattr(SVC, "decision_function", lambda *given: pytest.fail("libsvm is asked"))
    with pytest.raises(HeadError, match=r"support vectors|SVC|classes|features"):
        load_head(path, trust=trust)


@pytest.mark.parametrize(
    "around",
    [
        lambda machine: machine,
        FrozenEstimator,
        lambda machine: [{"a": (machine,)}],
        lambda machine: Pipeline([("one", FrozenEstimator(machine))]),
        lambda machine: CalibratedClassifierCV(FrozenEstimator(machine)),
        lambda machine: np.array([[machine]], object),
    ],
)
def test_machines_are_found_wherever_they_sit(around):
    machine = NuSVC(nu=0.1).fit(np.eye(4), [0, 1, 0, 1])
    (found,) = machines(around(machine))
    assert found is machine
    require_sound_machine(found)
    machine.support_vectors_ = _first(machine.support_vectors_)
    with pytest.raises(ValueError, match="contradict"):
        require_sound_machine(found)


AROUND = {
    "search": lambda machine: GridSearchCV(machine, {"gamma": [0.1, 1.0]}, cv=2),
    "bag": lambda machine: BaggingClassifier(machine, n_estimators=2),
    "one against the rest": OneVsRestClassifier,
    "vote": lambda machine: VotingClassifier(
        [("a", CalibratedClassifierCV(machine, cv=2)), ("b", GaussianNB())], voting="soft"
    ),
    "calibrated": lambda machine: CalibratedClassifierCV(machine, cv=2),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("machine", [SVC(), NuSVC(nu=0.1)])
def test_a_classifier_that_keeps_an_unfitted_machine_loads_again(
    store, tmp_path, monkeypatch, machine, around
):
    head = train(store, AROUND[around](machine))
    expected = head.predict(store).probabilities
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "here"))
    for suffix in (".joblib", ".skops"):
        path = tmp_path / f"head{suffix}"
        head.save(path)
        for here, trust in (("here", False), ("here", True), ("elsewhere", True)):
            monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / here))
            loaded = taken(path, trust=trust)
            np.testing.assert_array_equal(loaded.predict(store).probabilities, expected)
        assert "--trust" in taken(path) or here == "here"
        monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "here"))


@pytest.mark.parametrize("machine", [SVC(), NuSVC(nu=0.1)])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_a_machine_that_is_not_checked_never_reaches_libsvm(machine, kind):
    rows = kind(np.eye(4))
    fitted = copy.deepcopy(machine).fit(rows, [0, 1, 0, 1])
    del fitted.support_  # libsvm for sparse rows does without
    assert list(machines(fitted)) == [fitted]
    with pytest.raises(AttributeError):
        require_sound_machine(fitted)
    del fitted._dual_coef_
    for unchecked in (machine, fitted):
        assert list(machines([unchecked])) == []
        for ask in (unchecked.predict, unchecked.decision_function, unchecked._decision_function):
            with pytest.raises((AttributeError, NotFittedError)):
                ask(rows)
        layout = "sparse" if scipy.sparse.issparse(rows) else "dense"
        for asked in ("predict", "predict_proba", "decision_function"):
            with pytest.raises(AttributeError):
                getattr(unchecked, f"_{layout}_{asked}")(rows)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        SVC(),
        make_pipeline(StandardScaler(), SVC()),
        make_pipeline(StandardScaler(), LogisticRegression()),
        Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(C=0.1))]),
        OneVsRestClassifier(LogisticRegression(solver="liblinear", fit_intercept=False)),
    ],
)
def test_a_sound_classifier_of_another_make_asks_for_trust_and_is_not_called_damaged(
    store, tmp_path, elsewhere, monkeypatch, classifier
):
    path = tmp_path / "head.skops"
    train(store, classifier).save(path)
    assert not isinstance(taken(path), str)
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "yet another machine"))
    refused = taken(path)
    assert "this machine did not write it, and it holds parts that no head that" in refused
    assert refused.endswith("; if you trust its author, add --trust")
    assert "damaged" not in refused
    assert not isinstance(taken(path, trust=True), str)


def test_what_skops_writes_and_cannot_read_is_not_saved(store, tmp_path):
    head = train(store)
    head.pipeline.steps[-1][1].odd = lambda one, other: one @ other.T
    with pytest.raises(HeadError, match=r"cannot be saved as \.skops .*; save it as \.joblib"):
        head.save(tmp_path / "head.skops")
    assert list(tmp_path.glob("head*")) == []


def test_more_test_images_than_ours_are_refused(gift):
    def more(content):
        metadata = content["metadata"]
        for name in ("canary", "canary_probabilities"):
            metadata[name] = np.repeat(metadata[name], 9, axis=0)

    assert "its metadata.canary has 72 rows, not up to 64" in taken(gift(change=more))


@pytest.mark.parametrize("name", RECIPES)
def test_rows_are_predicted_in_parts_that_fit_into_memory(store, gift, monkeypatch, name):
    pipeline = load_head(gift(name)).pipeline
    rows = np.asarray(store.features)
    expected = soundness.probabilities(pipeline, rows)
    columns = len(pipeline[:-1].transform(rows).T)
    assert makeup.columns(pipeline) == max(columns, 3)
    real, parts = type(pipeline).predict_proba, []

    def counted(self, given):
        parts.append(len(given))
        return real(self, given)

    monkeypatch.setattr(type(pipeline), "predict_proba", counted)
    for budget, most in ((columns * 8 * 7, 7), (1, 1), (columns * 8 * 1000, 60)):
        monkeypatch.setattr(soundness, "_BYTES_AT_ONCE", budget)
        parts.clear()
        np.testing.assert_allclose(soundness.probabilities(pipeline, rows), expected, atol=1e-6)
        assert max(parts) == most
        assert sum(parts) == 60


def test_pairs_of_classes_count_where_a_machine_votes():
    labels = [f"{number:03}" for number in range(60)]
    machine = Pipeline([("classify", SVC())]).fit(np.eye(60, 4), labels)
    assert makeup.columns(machine) == 60 * 59 // 2


@pytest.mark.parametrize("nodes", [1, 10_000])
def test_surplus_of_any_size_is_refused_before_it_is_built(gift, monkeypatch, nodes):
    path = gift()
    contents = members(path)

    def plan(*places, version=str(persistence.FORMAT_VERSION)):
        def change(plan):
            plan["content"]["metadata"]["content"]["format_version"]["content"] = version
            for place in places:
                holder = functools.reduce(lambda tree, key: tree[key], place, plan)
                content, keys = holder["content"], holder["key_types"]["content"]
                one = plan["content"]["metadata"]["content"]["name"]
                content["more"] = {
                    "__class__": "list", "__module__": "builtins", "__loader__": "ListNode",
                    "content": [one] * nodes, "__id__": 999_999,
                }  # fmt: skip
                keys.append(keys[0] | {"__id__": 999_998})
            return plan

        return archived(path, planned(contents, change))

    def keys(plan):
        holder = plan["content"]["metadata"]["content"]["parameters"]
        key = plan["content"]["metadata"]["key_types"]["content"][0]
        holder["key_types"]["content"] += [key | {"__id__": 10**6 + one} for one in range(nodes)]
        return plan

    monkeypatch.setattr(skops.io, "loads", lambda *given, **more: pytest.fail("it is built"))
    assert "it is no dictionary of a pipeline and its metadata" in taken(plan([]))
    metadata = ("content", "metadata")
    assert "its metadata has more fields than it should" in taken(plan(metadata))
    later = str(persistence.FORMAT_VERSION + 1)
    assert f"head format version {later}, this headstart reads" in taken(
        plan(metadata, version=later)
    )
    archived(path, planned(contents, keys))
    assert "more or fewer keys than values" in taken(path)


def test_archives_that_would_take_more_memory_than_they_have_bytes_are_refused(gift):
    path = gift()
    contents = members(path)
    array = next(name for name in contents if name.endswith(".npy"))
    buffer = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(buffer, claim)
    nothing = {"descr": "<U0", "fortran_order": False, "shape": (2**40,)}
    empty = io.BytesIO()
    np.lib.format.write_array_header_1_0(empty, nothing)

    def itself(plan):
        metadata = plan["content"]["metadata"]
        metadata["content"]["parameters"] = {"__loader__": "DictNode", "__id__": metadata["__id__"]}
        return plan

    def one_array_twice(plan):
        metadata = plan["content"]["metadata"]["content"]
        metadata["parameters"] = metadata["canary"] | {"__id__": 7}
        return plan

    for change, message in (
        (contents | {array: buffer.getvalue()}, "another size or kind than it says"),
        (contents | {array: empty.getvalue()}, "another size or kind|empty elements"),
        (contents | {"more.npy": bytes(10**6)}, "magic string"),
        (contents | {"schema.json": b"[" * 10**6}, "too deep"),
        (planned(contents, one_array_twice), "array in it is not written as skops"),
        (planned(contents, itself), "holds itself"),
        ({name: data for name, data in contents.items() if name != array}, "lacks the array"),
        ({name: data for name, data in contents.items() if name != "schema.json"}, "no schema"),
    ):
        archived(path, change)
        with pytest.raises(HeadError, match=message):
            load_head(path)
    archived(path, contents, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(HeadError, match=r"members are compressed or overlap.*--trust"):
        load_head(path)
    assert load_head(path, trust=True).name == "logistic"


def test_objects_too_deep_inside_one_another_are_refused(gift):
    def deep(content):
        for _ in range(40):
            content["metadata"]["name"] = [content["metadata"]["name"]]

    with pytest.raises(HeadError, match="too deep inside others"):
        load_head(gift(change=deep))


def swept(cases, every, offset):
    """A share of all cases, the same in each run."""
    return list(cases)[offset::every]


def test_a_plan_with_odd_values_is_a_sound_head_or_one_line(gift):
    path = gift("svm-rbf")
    contents = members(path)
    plan = json.loads(contents["schema.json"])
    cases = [(place, value) for place in places(plan) for value in (*ODD, DELETED)]
    for place, value in swept(cases, 499, 7):
        taken(archived(path, planned(contents, lambda _: changed(plan, place, value))))  # noqa: B023


def test_numbers_and_texts_of_a_plan_that_are_odd_are_a_sound_head_or_one_line(gift):
    path = gift("svm")
    contents = members(path)
    plan = json.loads(contents["schema.json"])

    def at(place):
        return functools.reduce(lambda tree, key: tree[key], place, plan)

    texts = [one for one in places(plan) if one[-1] == "content" and isinstance(at(one), str)]
    cases = [(place, json.dumps(value)) for place in texts for value in ODD]
    for place, value in swept(cases, 29, 3):
        taken(archived(path, planned(contents, lambda _: changed(plan, place, value))))  # noqa: B023


def test_odd_metadata_is_a_sound_head_or_one_line(store, tmp_path):
    path = tmp_path / "head.joblib"
    train(store).save(path)
    content = joblib.load(path)
    values = (*ODD, *NOT_JSON, DELETED)
    cases = [(place, value) for place in places(content["metadata"]) for value in values]
    for place, value in swept(cases, 17, 5):
        joblib.dump(content | {"metadata": changed(content["metadata"], place, value)}, path)
        taken(path, trust=True)


def test_arrays_with_flipped_bits_are_a_sound_head_or_one_line(gift):
    path = gift("svm-rbf")
    contents = members(path)
    generator = np.random.default_rng(0)
    for name in [name for name in contents if name.endswith(".npy")]:
        for most in (128, len(contents[name])):
            data = bytearray(contents[name])
            data[generator.integers(min(most, len(data)))] ^= 1 << int(generator.integers(8))
            taken(archived(path, contents | {name: bytes(data)}))


@posix
@pytest.mark.parametrize("suffix", [".joblib", ".skops", ".JOBLIB"])
def test_pipes_devices_and_folders_are_no_heads_and_nobody_waits_for_them(tmp_path, suffix):
    pipe, zero, folder = (tmp_path / f"{name}{suffix}" for name in ("pipe", "zero", "folder"))
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (pipe, zero, folder, tmp_path / f"missing{suffix}"):
        for trust in (False, True):
            refused = taken(path, trust=trust)
            assert "this head cannot be read: " in refused
            assert refused.endswith(": not a regular file") == path.exists()


def test_a_file_beyond_all_heads_is_not_read_without_trust(tmp_path):
    path = tmp_path / "vast.skops"
    with path.open("wb") as file:
        file.write(b"PK")
        file.truncate(persistence._MOST_BYTES + 1)
    assert "4.3 GB, more than 4.3 GB are read only from those whom you trust" in taken(path)


# The list of heads that this machine wrote.


@pytest.fixture
def state(monkeypatch, tmp_path):
    folder = tmp_path / "state"
    monkeypatch.setenv("HEADSTART_STATE", str(folder))
    return folder


@pytest.fixture
def head(store):
    return train(store)


@posix
def test_a_list_that_others_can_write_is_not_believed(head, tmp_path, state):
    path = tmp_path / "head.joblib"
    head.save(path)
    listing = state / "heads-written"
    assert stat.S_IMODE(listing.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for place, modes in ((listing, (0o620, 0o602)), (state, (0o720, 0o703, 0o1777))):
        before = place.stat().st_mode
        for mode in modes:
            place.chmod(mode)
            refused = taken(path)
            assert f"(others can write to {place} (`chmod go-w` keeps them out); " in refused
            assert "--trust" in refused
        place.chmod(before)
        assert taken(path).name == "logistic"


@posix
def test_a_list_of_another_user_is_not_believed(head, tmp_path, state, monkeypatch):
    path = tmp_path / "head.joblib"
    head.save(path)
    real = os.fstat

    def of_another(descriptor):
        status = real(descriptor)
        return os.stat_result((*status[:4], 12345, *status[5:10]))

    monkeypatch.setattr(os, "fstat", of_another)
    refused = taken(path)
    assert "heads-written belongs to another user; HEADSTART_STATE may name another" in refused
    assert "--trust" in refused


def test_a_bad_line_in_the_list_harms_no_other(head, tmp_path, state):
    paths = [tmp_path / f"head{number}.joblib" for number in range(3)]
    listing = state / "heads-written"
    for path, rubbish in zip(paths, (b"\xff\x00 odd\n", b"0123456789abcdef", b""), strict=True):
        head.save(path)
        with listing.open("ab") as file:
            file.write(rubbish)  # a cut line at the end is not continued by the next entry
        head.__dict__["seconds"] += 1
    for path in paths:
        assert taken(path).name == "logistic"
    data = bytearray(listing.read_bytes())
    data[5] ^= 255
    listing.write_bytes(data)
    assert [isinstance(taken(path), str) for path in paths] == [True, False, False]


def test_heads_that_are_saved_at_once_are_all_listed(state):
    digests = [f"{number:064x}" for number in range(200)]
    threads = [threading.Thread(target=persistence._remember, args=[one]) for one in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(persistence._listed(one) == (True, "") for one in digests)


def test_a_kill_between_list_and_file_leaves_no_head_that_asks_for_trust(
    head, tmp_path, state, monkeypatch
):
    path = tmp_path / "head.joblib"
    real = os.replace

    def killed(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        head.save(path)
    assert taken(path).name == "logistic"


@posix
def test_a_list_that_cannot_be_kept_is_told_when_the_head_is_saved(
    head, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING, "headstart")
    path, file = tmp_path / "head.joblib", tmp_path / "file"
    file.write_bytes(b"")
    pipe = tmp_path / "pipes" / "heads-written"
    pipe.parent.mkdir(0o700)
    os.mkfifo(pipe)
    listed = tmp_path / "folders" / "heads-written"
    listed.mkdir(0o700, parents=True)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for folder, why in (
        (file / "x", "Not a directory"),
        (pipe.parent, f"{pipe}: not a regular file"),
        (listed.parent, f"{listed}: not a regular file"),
        (open_to_all, "others can write to"),
    ):
        monkeypatch.setenv("HEADSTART_STATE", str(folder))
        caplog.clear()
        head.save(path)
        (said,) = caplog.messages
        assert said.startswith(f"{path}: loading it will need --trust")
        assert why in said
        assert "HEADSTART_STATE" in said
        refused = taken(path)
        assert "--trust" in refused
        assert why in refused
        assert "HEADSTART_STATE" in refused
        assert taken(path, trust=True).name == "logistic"


@posix
def test_where_no_home_is_known_no_folder_is_named_after_it(head, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "headstart")
    for name in ("HEADSTART_STATE", "HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without an entry
    monkeypatch.chdir(tmp_path)
    head.save("head.joblib")
    assert "the list of the heads that this machine wrote cannot be kept" in caplog.text
    assert not (tmp_path / "~").exists()
    assert "--trust" in taken("head.joblib")


def test_a_full_disk_leaves_the_old_head_and_says_so(head, tmp_path, monkeypatch):
    path = tmp_path / "head.joblib"
    head.save(path)
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, data):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_bytes", write)
        with pytest.raises(
            HeadstartError, match=r"head\.joblib: cannot be written: No space.*disk"
        ):
            head.save(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".tmp")] == []


def test_a_classifier_that_cannot_be_taken_apart_is_one_line(head, tmp_path):
    head.pipeline.steps[-1][1].odd = lambda: None
    with pytest.raises(HeadError, match=r"cannot be saved as \.joblib .*; save it as \.skops"):
        head.save(tmp_path / "head.joblib")
    assert not (tmp_path / "head.joblib").exists()


def test_a_head_of_thousands_of_classes_is_small(tmp_path, make_store):
    """With a number for each pair of classes, 5,000 classes took 204 MB."""
    classes, dimension = 1000, 8
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(classes, dimension))
    labels = [f"{number:04}" for number in range(classes)] * 3
    features = np.tile(centres, (3, 1)) + 0.01 * generator.normal(size=(3 * classes, dimension))
    splits = ["train"] * 2 * classes + ["test"] * classes
    head = train(make_store(features, labels, splits=splits), GaussianNB())
    for name in ("head.joblib", "head.skops"):
        head.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 1_500_000
        assert taken(tmp_path / name).scores == head.scores
    assert len(head.scores.confusion) <= classes
    assert head.scores.confusion_matrix().sum() == classes
