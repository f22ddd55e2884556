"""features.write: vectors from anywhere become a feature file, and stay apart from others."""

import dataclasses
import hashlib
import json
import os

import h5py
import joblib
import numpy as np
import pandas
import pytest
import scipy.sparse
from headstart.apply import export, predict
from headstart.classify import compare, evaluate, load_head, train
from headstart.features import (
    FeatureFileError,
    FeatureStore,
    Given,
    HeadError,
    Provenance,
    ProvenanceMismatch,
    SourceError,
    TrainingError,
    WrongUsage,
    layout,
    verify,
    write,
)
from headstart.features.journal import units
from headstart.features.journal.writing import relabel, spool
from headstart.features.provenance import read
from headstart.pages.report import report

NUMBER, DIMENSION = 240, 12
MADE_BY = {"encoder": "words", "revision": "2", "settings": {"layer": -1}}


def example(number=NUMBER, seed=0):
    """Vectors of two classes that can be told apart, and ids whose order is not that of rows."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(number, DIMENSION)).astype(np.float32)
    vectors[::2] += 1
    return vectors, [f"doc-{row}" for row in range(number)]


LABELS = ["ham", "spam"] * (NUMBER // 2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "texts.h5"


def written(out, vectors=None, ids=None, labels=LABELS, **more):
    every, names = example()
    return write(
        out,
        every if vectors is None else vectors,
        names if ids is None else ids,
        labels,
        **{"made_by": MADE_BY} | more,
    )


# ------------------------------------------------------------------------------- what is in it


def test_every_value_lies_with_its_id_and_rows_are_sorted_by_the_bytes_of_ids(out):
    vectors, ids = example()
    splits = ["train", "test", None, "validation"] * (NUMBER // 4)
    groups = [row // 3 if row % 5 else None for row in range(NUMBER)]
    texts = [f"text {row} é" for row in range(NUMBER)]
    store = written(out, splits=splits, groups=groups, texts=texts)
    assert store.paths == sorted(ids)
    row_of = {path: row for row, path in enumerate(store.paths)}
    for given, name in enumerate(ids):
        row = row_of[name]
        np.testing.assert_array_equal(store.features[row], vectors[given])
        assert store.label_names[store.labels[row]] == LABELS[given]
        assert layout.SPLIT_NAMES[store.splits[row]] == (splits[given] or "none")
        group = store.groups[row]
        assert (store.group_names[group] if group >= 0 else None) == (
            None if groups[given] is None else str(groups[given])
        )
        assert store.texts[row] == texts[given]
        digest = hashlib.sha256(vectors[given].tobytes()).digest()
        assert store.digests[row].tobytes() == digest
    assert verify(out) == []
    assert os.listdir(out.parent) == [out.name]


def test_its_provenance_is_what_was_said_of_it(out):
    store = written(out)
    made = store.provenance
    assert isinstance(made, Given)
    assert (made.encoder, made.revision, made.kind) == ("words", "2", "given")
    assert json.loads(made.settings) == {"layer": -1}
    assert made.settings_digest == hashlib.sha256(made.settings.encode()).hexdigest()
    assert store.canary.shape == (0, DIMENSION)
    assert read(made.to_json()) == made
    assert made.to_json() == json.dumps(
        json.loads(made.to_json()), sort_keys=True, separators=(",", ":")
    )


VARIANTS = {
    "an iterator of blocks": lambda v, p: iter(np.array_split(v, 7)),
    "a generator": lambda v, p: (block for block in np.array_split(v, 3)),
    "a list": lambda v, p: v.tolist(),
    "float64 in another order of memory": lambda v, p: np.asfortranarray(v.astype(np.float64)),
    "big-endian": lambda v, p: v.astype(">f4"),
    "a mapped file": lambda v, p: mapped(v, p),
    "a mapped file that may be written": lambda v, p: mapped(v, p, "r+"),
    "a data set": lambda v, p: in_hdf5(v, p, None),
    "a chunked data set": lambda v, p: in_hdf5(v, p, (17, 5)),
    "a sparse matrix": lambda v, p: scipy.sparse.coo_matrix(v),
    "a data frame": lambda v, p: pandas.DataFrame(v),
    "a tensor of another library": lambda v, p: Tensor(v),
    "a masked array without a mask": lambda v, p: np.ma.masked_array(v),
    "sparse blocks": lambda v, p: map(scipy.sparse.csr_matrix, np.array_split(v, 3)),
}


class Tensor:
    """As those of TensorFlow and PyTorch: of a type that NumPy does not have."""

    dtype = "tensor of floats"

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)


def mapped(vectors, folder, mode="r"):
    np.save(folder / "vectors.npy", vectors)
    return np.load(folder / "vectors.npy", mmap_mode=mode)


def in_hdf5(vectors, folder, chunks):
    file = h5py.File(folder / "elsewhere.h5", "w")
    return file.create_dataset("vectors", data=vectors, chunks=chunks)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_file_is_the_same_whatever_the_vectors_come_in(out, tmp_path, monkeypatch, variant):
    monkeypatch.setattr(spool, "_UNIT_BYTES", 40 * DIMENSION * 4)
    expected = written(tmp_path / "expected.h5").content_digest
    vectors, _ = example()
    assert written(out, VARIANTS[variant](vectors, tmp_path)).content_digest == expected
    assert verify(out) == []


def test_texts_are_cut_between_characters_and_a_file_without_any_has_no_such_data_set(out):
    long = "é" * 1000
    store = written(out, texts=[long] + [None] * (NUMBER - 1))
    kept = store.texts[store.paths.index("doc-0")]
    assert kept.endswith("…")
    assert len(kept.encode()) <= layout.MOST_TEXT
    assert long.startswith(kept[:-1])
    assert set(store.texts) == {kept, ""}
    bare = written(out)
    assert not bare.has_texts
    assert bare.texts == []


# ---------------------------------------------------------------------------------- again


def test_the_same_again_changes_nothing_and_a_changed_vector_replaces_one(out, monkeypatch):
    vectors, _ = example()
    assert written(out).summary.new == NUMBER
    before = out.stat()
    again = written(out)
    assert (again.summary.new, again.summary.kept) == (0, NUMBER)
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    published = []
    publish = units.publish
    monkeypatch.setattr(
        units, "publish", lambda *given: published.append(len(given[3])) or publish(*given)
    )
    vectors[3] *= 2
    changed = written(out, vectors)
    assert published == [1]
    assert (changed.summary.new, changed.summary.kept) == (1, NUMBER - 1)
    np.testing.assert_array_equal(changed.features[changed.paths.index("doc-3")], vectors[3])


def test_labels_are_those_of_the_last_call(out):
    written(out)
    store = written(out, labels=None)
    assert store.summary.new == 0
    assert store.label_names == []


def test_more_examples_are_added_and_none_is_lost_unasked(out):
    vectors, ids = example()
    written(out, vectors[:-10], ids[:-10], LABELS[:-10])
    store = written(out)
    assert (len(store), store.summary.new) == (NUMBER, 10)
    with pytest.raises(WrongUsage, match=r"10 of its 240 examples .*'doc-230'.*--remove"):
        written(out, vectors[:-10], ids[:-10], LABELS[:-10])
    assert len(FeatureStore(out)) == NUMBER
    fewer = written(out, vectors[:-10], ids[:-10], LABELS[:-10], remove=True)
    assert (len(fewer), fewer.summary.removed) == (NUMBER - 10, 10)


def test_a_killed_run_goes_on_and_the_file_is_the_old_one_until_then(
    out, tmp_path, monkeypatch, interrupted_after
):
    monkeypatch.setattr(spool, "_UNIT_BYTES", 40 * DIMENSION * 4)
    vectors, _ids = example()
    written(out)
    old, more = out.read_bytes(), vectors + 1
    with interrupted_after(3):
        written(out, more)
    assert out.read_bytes() == old
    assert len(list(units.folder_of(out).glob("*.h5"))) == 3
    store = written(out, more)
    assert store.summary.new == NUMBER - 3 * 40
    assert store.content_digest == written(tmp_path / "other.h5", more).content_digest
    assert not units.folder_of(out).exists()


def test_equal_vectors_are_stored_for_each_id_and_counted(out):
    vectors, _ = example()
    vectors[5] = vectors[2]
    store = written(out, vectors)
    assert store.summary.duplicates == 1
    rows = [store.paths.index(name) for name in ("doc-2", "doc-5")]
    np.testing.assert_array_equal(*store.features[rows])
    assert verify(out) == []


def test_float16_is_kept_as_such_and_does_not_mix_with_float32(out):
    store = written(out, dtype="float16")
    assert store.features.dtype == np.float16
    with pytest.raises(ProvenanceMismatch, match="dtype is float16 against float32"):
        written(out)


# ------------------------------------------------------------------------------- bad input


def not_a_number(row, value=np.nan):
    vectors = example()[0].astype(np.float64)
    vectors[row, 3] = value
    return vectors


BAD = {
    "fewer ids": ({"ids": ["a"]}, r"labels: there are 240, and 1 ids"),
    "fewer vectors": ({"vectors": example()[0][:9]}, r"vectors: there are 9, and 240 ids"),
    "fewer in blocks": ({"vectors": iter([np.ones((9, 2))])}, r"there are 9, and 240 ids"),
    "more in blocks": ({"vectors": iter([np.ones((241, 2))])}, r"more than 240"),
    "no blocks": ({"vectors": iter([])}, r"there are none"),
    "uneven blocks": ({"vectors": iter([np.ones((9, 2)), np.ones((9, 3))])}, r"number 9 on .* 3 "),
    "uneven rows": ({"vectors": [[1, 2], [1]]}, r"not all of one length"),
    "fewer splits": ({"splits": ["train"]}, r"splits: there are 1, and 240 ids"),
    "NaN": ({"vectors": not_a_number(7)}, r"'doc-7' has NaN or infinity"),
    "infinity": ({"vectors": not_a_number(8, np.inf)}, r"'doc-8' has NaN or infinity"),
    "too large": (
        {"vectors": not_a_number(9, 1e300)},
        r"'doc-9' has numbers that are too large for float32",
    ),
    "too large to compute with": (
        {"vectors": not_a_number(9, 1e20)},
        r"'doc-9' has numbers that are too large for float32 \(here at most 1e\+15\)",
    ),
    "an id twice": (
        {"ids": ["x", *example()[1][1:-1], "x"]},
        r"'x' is given twice, as number 0 and",
    ),
    "an empty id": ({"ids": ["", *example()[1][1:]]}, r"ids: number 0 is ''"),
    "an id that is none": ({"ids": [1.5, *example()[1][1:]]}, r"ids: number 0 is 1.5"),
    "no ids": ({"ids": [], "labels": None}, r"ids: there are none"),
    "a text for ids": ({"ids": "abc"}, r"one value an example"),
    "objects": ({"vectors": np.full((NUMBER, 2), None)}, r"numbers are expected.*object"),
    "texts for vectors": ({"vectors": np.full((NUMBER, 2), "a")}, r"numbers are expected"),
    "three dimensions": ({"vectors": np.ones((NUMBER, 2, 2))}, r"\(N, D\) is expected"),
    "no dimension": ({"vectors": np.ones((NUMBER, 0))}, r"of 0 numbers each"),
    "a number for vectors": ({"vectors": 5}, r"a int is none"),
    "an unknown split": ({"splits": ["training"] * NUMBER}, r"'training'; use one of none, train"),
    "a label that is none": ({"labels": [{}] * NUMBER}, r"labels: number 0 is \{\}"),
    "a dtype": ({"dtype": "float64"}, r"dtype 'float64': use one of float32, float16"),
    "nobody": ({"made_by": {}}, r"needs a name"),
    "an empty encoder": ({"made_by": {"encoder": " "}}, r"needs a name"),
    "an unknown field": ({"made_by": {"encoder": "a", "revison": "1"}}, r"'revison'.*'revision'"),
    "settings of objects": (
        {"made_by": {"encoder": "a", "settings": {"a": {1}}}},
        r"settings: JSON",
    ),
    "settings of NaN": (
        {"made_by": {"encoder": "a", "settings": {"a": np.nan}}},
        r"settings: JSON",
    ),
    "settings that are no mapping": ({"made_by": {"encoder": "a", "settings": []}}, r"not a mapp"),
    "a digest that is none": (
        {"made_by": {"encoder": "a", "settings_digest": "v1"}},
        r"settings_digest 'v1': a SHA-256 is expected",
    ),
    "a digest that is a number": (
        {"made_by": {"encoder": "a", "settings_digest": 5}},
        r"settings_digest 5: a SHA-256 is expected",
    ),
    "a masked number": (
        {"vectors": np.ma.masked_greater(example()[0], 1.5)},
        r"has NaN or infinity",
    ),
    "a masked number in a block": (
        {"vectors": iter([np.ma.masked_greater(example()[0], 1.5)])},
        r"has NaN or infinity",
    ),
    "texts that are bytes": ({"texts": [b"a"] * NUMBER}, r"texts: number 0 is b'a'; decode"),
    "several files": ({"out": "x-*-of-00002.h5"}, r"several files"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(out, case):
    change, expected = BAD[case]
    change = dict(change)
    if "vectors" in change and hasattr(change["vectors"], "__next__"):
        change["vectors"] = iter(list(change["vectors"]))
    with pytest.raises(WrongUsage, match=expected) as refused:
        written(change.pop("out", out), **change)
    assert "\n" not in str(refused.value)
    assert not out.exists()


def test_whole_numbers_and_missing_values_are_taken_as_numpy_and_pandas_have_them(out):
    store = write(
        out,
        np.eye(5),
        [np.int64(4), 3, np.uint8(2), np.int32(1), np.str_("0")],
        [np.int64(7), 7.0, np.float32("nan"), pandas.NA, np.bool_(True)],
        pandas.Series(["train", None, "test", np.nan, pandas.NA], dtype=object),
        groups=[pandas.NaT, None, np.str_("g"), "g", ""],
        texts=pandas.Series(["x", None, np.nan, "nan", pandas.NA], dtype=object),
        made_by=MADE_BY,
    )
    assert store.paths == ["0", "1", "2", "3", "4"]
    names = [None if code < 0 else store.label_names[code] for code in store.labels]
    assert names == ["True", None, None, "7", "7"]
    assert [layout.SPLIT_NAMES[code] for code in store.splits] == [
        *("none", "none", "test", "none", "train")
    ]
    assert [int(code) for code in store.groups] == [-1, 0, 0, -1, -1]
    assert store.texts == ["", "nan", "", "", "x"]


def test_a_data_set_whose_bytes_are_damaged_is_refused_in_one_line(out, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        data = file.create_dataset("v", data=example()[0], chunks=(16, 4), fletcher32=True)
        start = data.id.get_chunk_info(3).byte_offset
    with open(tmp_path / "v.h5", "r+b") as raw:
        raw.seek(start)
        raw.write(b"\xff" * 8)
    expected = r"v\.h5: vectors 0 to 239 cannot be read"
    with (
        h5py.File(tmp_path / "v.h5") as file,
        pytest.raises(SourceError, match=expected) as refused,
    ):
        written(out, file["v"])
    assert "\n" not in str(refused.value)
    assert not out.exists()


def test_another_file_is_not_overwritten(out):
    out.write_text("mine")
    with pytest.raises(FeatureFileError, match="not a headstart feature file"):
        written(out)
    with pytest.raises(FeatureFileError, match="--fresh does not replace it"):
        written(out, fresh=True)
    assert out.read_text() == "mine"


# ------------------------------------------------------------------------ what never mixes


OTHERS = {
    "encoder": {"encoder": "letters"},
    "revision": {"revision": "3"},
    "settings": {"settings": {"layer": -2}},
    "settings_digest": {"settings_digest": "a" * 64},
}


@pytest.mark.parametrize("field", OTHERS)
def test_vectors_of_another_encoder_are_refused_by_name_and_replaced_when_fresh(out, field):
    written(out)
    with pytest.raises(ProvenanceMismatch, match=rf"{field} is .* against .*--fresh") as refused:
        written(out, made_by=MADE_BY | OTHERS[field])
    assert "\n" not in str(refused.value)
    store = written(out, made_by=MADE_BY | OTHERS[field], fresh=True)
    assert store.provenance.fingerprint != Given.of(**MADE_BY, dimension=DIMENSION).fingerprint


def test_unfinished_work_of_another_encoder_is_refused_and_dropped_when_fresh(
    out, monkeypatch, interrupted_after
):
    monkeypatch.setattr(spool, "_UNIT_BYTES", 40 * DIMENSION * 4)
    with interrupted_after(1):
        written(out)
    other = {"encoder": "letters"}
    with pytest.raises(ProvenanceMismatch, match=r"unfinished work in .*encoder is"):
        written(out, made_by=other)
    assert written(out, made_by=other, fresh=True).provenance.encoder == "letters"
    assert not units.folder_of(out).exists()


def test_images_and_given_vectors_never_mix(out, photos, stub, tmp_path):
    from headstart.extract.pipeline import run

    images = run(stub, photos, tmp_path / "images.h5")
    with pytest.raises(ProvenanceMismatch, match="kind is images against given"):
        written(tmp_path / "images.h5")
    written(out)
    with pytest.raises(ProvenanceMismatch, match="kind is given against images"):
        run(stub, photos, out)
    head = train(images)
    with pytest.raises(ProvenanceMismatch, match="kind is images against given"):
        head.predict(FeatureStore(out))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "images"),
        ("kind", "other"),
        ("dimension", 0),
        ("dtype", "float64"),
        ("encoder", 5),
        ("encoder", "x" * 5000),
        ("more", 1),
    ],
)
def test_values_that_no_given_provenance_has_are_refused_by_name(field, value):
    made = Given.of("a", dimension=3)
    with pytest.raises(FeatureFileError, match=field) as refused:
        Given.checked(dataclasses.asdict(made) | {field: value})
    assert len(str(refused.value)) < 300


def test_a_file_of_images_without_test_images_is_refused(stub, photos, tmp_path):
    from headstart.extract.pipeline import run

    run(stub, photos, tmp_path / "images.h5")
    with h5py.File(tmp_path / "images.h5", "a") as file:
        file[layout.CANARY].resize(0, axis=0)
    with pytest.raises(FeatureFileError, match="canary is empty"):
        FeatureStore(tmp_path / "images.h5")


def test_json_of_either_kind_says_which():
    given = Given.of("a", dimension=3)
    assert json.loads(given.to_json())["kind"] == "given"
    assert "kind" in set(Provenance.__dataclass_fields__)


# --------------------------------------------------------------------- what it is good for


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    texts = [f"text {row} <script>alert({row})</script>" for row in range(NUMBER)]
    store = written(folder / "texts.h5", texts=texts)
    head = train(store)
    head.save(folder / "head.skops")
    head.save(folder / "head.joblib")
    return folder, store, head


def test_a_head_of_them_is_scored_saved_and_loaded(trained):
    folder, store, head = trained
    assert head.scores.accuracy > 0.8
    for name in ("head.skops", "head.joblib"):
        loaded = load_head(folder / name, trust=True)  # its list is of another test
        assert loaded.provenance == store.provenance
        found, expected = (one.predict(store).probabilities for one in (loaded, head))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_head_file_whose_coefficients_changed_is_refused_though_it_has_no_test_images(
    trained, tmp_path
):
    _, _, head = trained
    head.save(tmp_path / "other.joblib")
    content = joblib.load(tmp_path / "other.joblib")
    content["metadata"]["canary_probabilities"] = 1 - content["metadata"]["canary_probabilities"]
    joblib.dump(content, tmp_path / "other.joblib")
    with pytest.raises(HeadError, match="other probabilities"):
        load_head(tmp_path / "other.joblib", trust=True)


def test_texts_of_one_file_among_several_are_those_of_its_rows(tmp_path):
    vectors, ids = example()
    written(tmp_path / "x-00000-of-00002.h5", vectors[::2], ids[::2], None, texts=ids[::2])
    written(tmp_path / "x-00001-of-00002.h5", vectors[1::2], ids[1::2], None)
    store = FeatureStore(tmp_path / "x-*-of-00002.h5")
    every = zip(store.paths, store.texts, strict=True)
    assert all(text == (path if int(path[4:]) % 2 == 0 else "") for path, text in every)
    assert len(store.texts) == NUMBER


def test_what_is_refused_is_said_of_examples_and_how_they_get_labels(trained, tmp_path):
    images = tmp_path / "images.h5"
    with pytest.raises(TrainingError, match=r"images\.h5: none of its 240 examples .*--list") as no:
        train(written(images, labels=None))
    assert "folder" not in str(no.value)
    with pytest.raises(TrainingError, match=r"among the 240 labelled training examples"):
        train(written(images, labels=["image"] * NUMBER))
    with pytest.raises(
        TrainingError, match=r"examples can be held out .*'image' \(1\).* add examp"
    ):
        train(written(images, labels=["image", *["other"] * (NUMBER - 1)]))
    texts = np.repeat(example()[0][:120], 2, axis=0)  # each once as ham and once as spam
    with pytest.raises(TrainingError, match=r"240 examples are left out, .* of equal vectors"):
        train(written(images, vectors=texts))
    _, store, head = trained
    with pytest.raises(TrainingError, match="the head was trained on every example in"):
        evaluate(head, store)


def test_new_vectors_are_predicted_and_those_of_another_encoder_refused(trained, tmp_path):
    folder, _, head = trained
    vectors, ids = example(seed=1)
    new = written(tmp_path / "new.h5", vectors, ids, labels=None)
    found = predict(folder / "head.skops", tmp_path / "new.h5", out=tmp_path / "new.csv")
    assert dict(zip(found.paths, found.labels, strict=True)) == dict(
        zip(new.paths, head.predict(new).labels.tolist(), strict=True)
    )
    assert len((tmp_path / "new.csv").read_text().splitlines()) == NUMBER + 1
    made_by = {"encoder": "letters", "revision": "9"}
    written(tmp_path / "other.h5", vectors, ids, labels=None, made_by=made_by)
    with pytest.raises(
        ProvenanceMismatch, match=r"encoder is words against letters; revision is 2"
    ):
        predict(folder / "head.skops", tmp_path / "other.h5")
    assert evaluate(head, written(tmp_path / "scored.h5", vectors, ids)).accuracy > 0.8


def test_images_cannot_be_predicted_nor_a_model_exported(trained, photos, tmp_path):
    folder, _, _ = trained
    with pytest.raises(ProvenanceMismatch, match=r"given, made by 'words 2'.*cannot embed images"):
        predict(folder / "head.skops", photos)
    with pytest.raises(ProvenanceMismatch, match=r"cannot be one model with a backbone") as refused:
        export(folder / "head.skops", tmp_path / "model.keras")
    assert "\n" not in str(refused.value)


def test_files_of_other_encoders_are_compared_by_their_ids(trained, tmp_path):
    _folder, store, _ = trained
    _vectors, ids = example()
    noise = np.random.default_rng(2).normal(size=(NUMBER, 3))
    order = np.random.default_rng(3).permutation(NUMBER)
    other = written(
        tmp_path / "noise.h5",
        noise[order],
        [ids[row] for row in order],
        [LABELS[row] for row in order],
        made_by={"encoder": "noise"},
    )
    found = compare([other, store])
    assert [one.name for one in found.standings] == [store.name, other.name]
    assert found.images == NUMBER
    elsewhere = written(tmp_path / "x.h5", noise, [f"x{name}" for name in ids])
    with pytest.raises(Exception, match="no example in common"):
        compare([store, elsewhere])


def test_a_report_shows_texts_escaped_and_speaks_of_examples(trained, tmp_path):
    pytest.importorskip("jinja2")
    _folder, store, head = trained
    done = report(head, store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert done.missing == {}
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "A map of the examples" in page
    assert "words 2" in page
    assert "import" not in page.partition('<section id="made">')[2].partition("</pre>")[0]
    with pytest.raises(Exception, match="does not say which images they are of"):
        report(head, store, tmp_path / "other.html", images=tmp_path)


def test_labels_are_changed_without_the_vectors_and_digests_stay(trained, tmp_path):
    folder, store, _ = trained
    copy = tmp_path / "copy.h5"
    copy.write_bytes((folder / "texts.h5").read_bytes())
    given = dict.fromkeys(store.raw_paths[:5], "new")
    changed = relabel(FeatureStore(copy), given)
    assert changed.label_names == ["new"]
    assert np.flatnonzero(changed.labels == 0).tolist() == [0, 1, 2, 3, 4]
    for name in (layout.FEATURES, layout.DIGESTS, layout.TEXTS, layout.SPLITS):
        np.testing.assert_array_equal(changed.read(name), store.read(name))
    assert verify(copy) == []


def test_a_page_of_labels_shows_texts_and_brings_labels_into_the_file(trained, tmp_path):
    from headstart.pages.labelling.journal import Journal
    from headstart.pages.labelling.session import Session
    from headstart.pages.labelling.table import bring, extract_command, write_labels
    from headstart.pages.pictures import Missing, Texts, shown

    folder, _, _ = trained
    copy = tmp_path / "copy.h5"
    copy.write_bytes((folder / "texts.h5").read_bytes())
    store = FeatureStore(copy)
    pictures = shown(store)
    assert isinstance(pictures, Texts)
    with pytest.raises(Missing, match=r"text \d+ <script>"):
        pictures.thumbnail(0)
    session = Session(store, Journal(tmp_path / "labels.jsonl"))
    told = session.queue("all", 3)["images"]
    session.stop()
    assert [one["text"] for one in told] == [store.texts[row] for row in range(3)]
    rows = np.arange(len(store))
    write_labels(tmp_path / "labels.csv", store, rows, "", ["eggs"] * len(rows))
    first, second = (tmp_path / "labels.csv").read_text("utf-8").splitlines()[:2]
    assert first == "id,label,split,text"
    assert second.startswith("doc-0,eggs,,text 0")
    assert extract_command(store, tmp_path / "labels.csv") == ""
    said = bring(copy, "", dict.fromkeys(store.raw_paths, "eggs"))
    assert said == f"{NUMBER} labels of {NUMBER} examples are in copy.h5 now; nothing was embedded"
    assert FeatureStore(copy).label_names == ["eggs"]


def test_an_array_is_asked_for_a_few_megabytes_at_a_time(out):
    asked = []

    class Large:
        """Of 64 MB, were it there."""

        shape, dtype = (16_000, 1024), np.dtype(np.float32)

        def __getitem__(self, rows):
            numbers = np.arange(self.shape[0])[rows]
            asked.append(len(numbers))
            return np.repeat(numbers[:, None], self.shape[1], 1).astype(np.float32)

    store = written(out, Large(), range(16_000), labels=None)
    assert sum(asked) == 16_000
    assert max(asked) * 4096 <= 4 << 20
    assert store.features[:, 0].astype(int).tolist() == [int(path) for path in store.paths]
