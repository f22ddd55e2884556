import json
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import skops.io
from headstart.classify import load_head, train
from headstart.classify.heads import RECIPES
from headstart.classify.persistence import FORMAT, FORMAT_VERSION, SUFFIXES
from headstart.features import HeadError, HeadstartError
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer


@pytest.fixture
def store(make_store):
    generator = np.random.default_rng(0)
    labels = ["cat", "dog"] * 40
    features = generator.normal(size=(80, 12)) + np.array([[0], [2]])[np.arange(80) % 2]
    return make_store(features, labels, splits=["train", "train", "test", "test"] * 20)


@pytest.fixture
def saved(store, tmp_path):
    path = tmp_path / "head.joblib"
    train(store).save(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", RECIPES)
def test_a_saved_head_predicts_what_it_predicted_before(store, tmp_path, name, suffix):
    head = train(store, name)
    head.save(tmp_path / f"head{suffix}")
    loaded = load_head(tmp_path / f"head{suffix}")
    np.testing.assert_array_equal(
        loaded.predict(store).probabilities, head.predict(store).probabilities
    )
    assert loaded.scores == head.scores
    assert loaded.provenance == head.provenance
    assert loaded.environment == head.environment
    np.testing.assert_array_equal(loaded.canary, head.canary)
    assert (loaded.origin.name, loaded.origin.remedy) == (head.origin.name, head.origin.remedy)
    assert loaded.label_names == ["cat", "dog"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_is_plain_scikit_learn_and_loads_where_headstart_is_not(store, tmp_path, name):
    head = train(store, name)
    path = tmp_path / "head.joblib"
    head.save(path)
    np.save(tmp_path / "x.npy", store.features)
    program = f"""
import sys, json
sys.modules["headstart"] = None
import joblib, numpy
content = joblib.load({str(path)!r})
assert sorted(content) == ["metadata", "pipeline"]
print(json.dumps([content["pipeline"].predict(numpy.load({str(tmp_path / "x.npy")!r})).tolist(),
    content["metadata"]["label_names"], sorted(content["metadata"])]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    predicted, names, fields = json.loads(done.stdout)
    assert predicted == head.predict(store).labels.tolist()
    assert names == ["cat", "dog"]
    assert {
        "format_version", "provenance", "fingerprint", "canary", "training_digest", "scores",
        "seed", "scikit_learn",
    } <= set(fields)  # fmt: skip
    assert path.stat().st_size < 100_000


class _Bomb:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return (open, (self.witness, "w"))


def test_a_file_that_this_machine_did_not_write_is_not_loaded_without_trust(tmp_path):
    path, witness = tmp_path / "gift.joblib", tmp_path / "exploded"
    joblib.dump({"pipeline": _Bomb(str(witness)), "metadata": {}}, path)
    with pytest.raises(HeadError, match=r"gift\.joblib: this machine did not write it.*--trust"):
        load_head(path)
    assert not witness.exists()


def test_a_foreign_head_loads_when_it_is_trusted(saved, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "another machine"))
    with pytest.raises(HeadError, match="--trust"):
        load_head(saved)
    assert load_head(saved, trust=True).label_names == ["cat", "dog"]


def test_a_changed_file_is_no_longer_ours(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    with pytest.raises(HeadError, match="did not write it"):
        load_head(saved)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_truncated_and_foreign_files_are_refused_even_when_trusted(saved, share):
    saved.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(HeadError, match=r"head\.joblib: (not a head|damaged)"):
        load_head(saved, trust=True)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_truncated_skops_file_is_refused(store, tmp_path, share):
    path = tmp_path / "head.skops"
    train(store).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(HeadError, match=r"head\.skops: (not a head|damaged)"):
        load_head(path, trust=True)


@pytest.mark.parametrize("name", RECIPES)
def test_a_skops_file_of_a_stranger_loads_without_trust(store, tmp_path, monkeypatch, name):
    """That also rules out that it is a pickle, or holds one."""
    train(store, name).save(tmp_path / "head.skops")
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "another machine"))

    def refuse(*arguments, **options):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(joblib, "load", refuse)
    assert load_head(tmp_path / "head.skops").label_names == ["cat", "dog"]


def test_a_skops_file_with_other_types_needs_trust(store, tmp_path, monkeypatch):
    path = tmp_path / "head.skops"
    train(store, RandomForestClassifier(3)).save(path)
    assert load_head(path).name == "RandomForestClassifier"  # written here
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "another machine"))
    with pytest.raises(HeadError, match=r"it holds parts .*sklearn\.ensemble.*--trust"):
        load_head(path)
    assert load_head(path, trust=True).name == "RandomForestClassifier"


def test_a_payload_planted_in_a_skops_file_does_not_run(store, tmp_path):
    """A function in place of the kernel's, as an attacker would write it with skops itself."""
    witness = tmp_path / "exploded"
    head = train(store)
    planted = FunctionTransformer(os.system, kw_args={"command": f"touch {witness}"})
    pipeline = Pipeline([("kernel", planted), *head.pipeline.steps])
    content = {
        "pipeline": pipeline,
        "metadata": {"format": FORMAT, "format_version": FORMAT_VERSION},
    }
    path = tmp_path / "gift.skops"
    skops.io.dump(content, path)
    with pytest.raises(HeadError, match=r"gift\.skops: .*posix\.system.*--trust"):
        load_head(path)
    assert not witness.exists()


def test_neither_format_is_read_under_the_name_of_the_other(saved, tmp_path):
    disguised = tmp_path / "head.skops"
    disguised.write_bytes(saved.read_bytes())
    with pytest.raises(HeadError, match=r"head\.skops: not a head"):
        load_head(disguised, trust=True)


def test_coefficients_that_are_not_finite_are_refused(saved):
    content = joblib.load(saved)
    content["pipeline"]["classify"].coef_[0, 3] = np.nan
    joblib.dump(content, saved)
    with pytest.raises(HeadError, match=r"its classifier gives no finite prob|NaN"):
        load_head(saved, trust=True)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("support_", lambda old: old + 10**6), ("_n_support", lambda old: old * 50)],
)
def test_a_machine_that_points_outside_its_vectors_is_refused_before_it_decides(
    store, tmp_path, attribute, value
):
    """libsvm would read whatever lies there."""
    path = tmp_path / "head.joblib"
    train(store, "svm-rbf").save(path)
    content = joblib.load(path)
    (inner,) = content["pipeline"]["classify"].calibrated_classifiers_
    setattr(inner.estimator, attribute, value(getattr(inner.estimator, attribute)))
    joblib.dump(content, path)
    with pytest.raises(HeadError, match="its support vectors contradict each other"):
        load_head(path, trust=True)


@pytest.mark.parametrize("version", [1, 2, 3, FORMAT_VERSION + 1, None])
def test_a_head_of_another_version_is_refused_in_a_line_that_says_what_makes_it_again(
    saved, version
):
    content = joblib.load(saved)
    content["metadata"]["format_version"] = version
    joblib.dump(content, saved)
    with pytest.raises(HeadError) as refused:
        load_head(saved, trust=True)
    assert str(refused.value) == (
        f"{saved}: head format version {version}, this headstart reads version {FORMAT_VERSION}; "
        f"`headstart train FILE.h5 -o head.joblib` makes it again"
    )


def test_metadata_that_contradicts_the_classifier_is_refused(saved):
    for change, message in (
        (lambda m: m | {"label_names": ["dog", "cat"]}, "contradict"),
        (lambda m: m | {"fingerprint": "0" * 64}, "contradict"),
        (lambda m: m | {"format_version": 99}, "version 99"),
        (lambda m: m | {"format": np.zeros(2)}, "not a headstart head"),
        (lambda m: m | {"training_counts": np.array([1, 1, 1])}, "more or fewer classes"),
        (lambda m: m | {"canary": m["canary"][:, 1:]}, "numbers of features"),
        (lambda m: m | {"canary_probabilities": 1 - m["canary_probabilities"]}, "other probab"),
        (lambda m: {k: v for k, v in m.items() if k != "canary"}, "metadata lacks canary"),
        (lambda m: {}, "not a headstart head"),
        (lambda m: m | {"novelty": m["novelty"] | {"mean": np.ones(3)}}, "novelty contradict"),
        (lambda m: m | {"novelty": m["novelty"] | {"thresholds": np.zeros(2)}}, "thresholds has v"),
        (
            lambda m: m | {"novelty": m["novelty"] | {"thresholds": np.ones(3)}},
            "novelty contradict",
        ),
        (lambda m: m | {"novelty": {"mean": np.zeros(12)}}, "novelty lacks components, exempl"),
        (lambda m: m | {"scores": 3}, "scores is a int, not a dictionary"),
        (lambda m: m | {"scores": m["scores"] | {"accuracy": 1.5}}, "accuracy is no number from 0"),
        (lambda m: m | {"scores": m["scores"] | {"rows": 41}}, "more or fewer rows than were scor"),
        (lambda m: m | {"scores": m["scores"] | {"confusion": np.array([[7, 0, 40]])}}, "not know"),
        (lambda m: m | {"novelty": None}, "novelty is a NoneType, not a dictionary"),
        (lambda m: m | {"provenance": {"backbone": "Xception"}}, "missing"),
        (lambda m: m | {"provenance": m["provenance"] | {"size": 10**9}}, "size should be 1 to"),
        (lambda m: m | {"environment": {"weights": 3}}, "environment has weights that are a int"),
        (lambda m: m | {"canary_probabilities": np.nan}, "canary_probabilities is no array"),
        (lambda m: {k: v for k, v in m.items() if k != "canary_probabilities"}, "lacks canary_p"),
    ):
        content = joblib.load(saved)
        other = saved.with_name("other.joblib")
        joblib.dump(content | {"metadata": change(content["metadata"])}, other)
        with pytest.raises(HeadError, match=message):
            load_head(other, trust=True)


def test_a_head_of_another_scikit_learn_is_refused_unless_trusted(saved, monkeypatch):
    import sklearn.base

    monkeypatch.setattr(sklearn.base, "__version__", "99.9")
    with pytest.raises(HeadError, match=r"saved by scikit-learn \d.*here is 99\.9"):
        load_head(saved)
    assert load_head(saved, trust=True).label_names == ["cat", "dog"]


def test_a_head_is_only_saved_under_a_name_that_says_what_it_is(store, tmp_path):
    head = train(store)
    for name in ("head.pkl", "head", "nowhere/head.joblib"):
        with pytest.raises(HeadstartError, match="head"):
            head.save(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"made.h5"}
