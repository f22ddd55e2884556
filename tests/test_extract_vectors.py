"""Files of vectors, and lists of what they are of -> a feature file."""

import csv
import json
import os
import pickle

import h5py
import numpy as np
import pytest
from headstart.extract import import_vectors
from headstart.features import (
    FeatureStore,
    MissingExtra,
    ProvenanceMismatch,
    SourceError,
    WrongUsage,
    layout,
    write,
)

NUMBER, DIMENSION = 60, 6
VECTORS = np.random.default_rng(0).normal(size=(NUMBER, DIMENSION)).astype(np.float32)
IDS = [f"t{row}" for row in range(NUMBER)]
LABELS = ["a" if row % 3 else "b" for row in range(NUMBER)]
SPLITS = ["test" if row % 5 == 0 else "train" for row in range(NUMBER)]
TEXTS = [f"text, {row}" for row in range(NUMBER)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with vectors in .npy, and a list of what they are of."""
    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", VECTORS)
    write_list("list.csv", id=IDS, text=TEXTS, label=LABELS, split=SPLITS)
    return tmp_path


def write_list(name, **columns):
    with open(name, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))


def imported(vectors="vectors.npy", **how):
    return import_vectors(vectors, "out.h5", **{"list": "list.csv"} | how)


def require_expected(store, *, texts=True):
    """What is in the file is what was given, row by row."""
    for given, name in enumerate(IDS):
        row = store.paths.index(name)
        np.testing.assert_array_equal(store.features[row], VECTORS[given])
        assert store.label_names[store.labels[row]] == LABELS[given]
        assert layout.SPLIT_NAMES[store.splits[row]] == SPLITS[given]
        assert not texts or store.texts[row] == TEXTS[given]
    assert len(store) == NUMBER


# ----------------------------------------------------------------------------------- files


def test_npy_with_a_list(here):
    store = imported(encoder="e", revision="r", settings={"pooling": "mean"})
    require_expected(store)
    made = store.provenance
    assert (made.encoder, made.revision, made.settings) == ("e", "r", '{"pooling":"mean"}')
    assert store.environment["source"] == str(here / "list.csv")
    assert store.environment["vectors"] == str(here / "vectors.npy")


def test_npy_with_a_data_frame(here):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": IDS, "text": TEXTS, "label": LABELS, "split": SPLITS})
    require_expected(imported(list=frame))


def test_hdf5_with_one_data_set_of_vectors_and_with_several(here):
    with h5py.File("vectors.h5", "w") as file:
        file["numbers"] = np.arange(3)
        file["group/vectors"] = VECTORS
    require_expected(imported("vectors.h5"))
    with h5py.File("vectors.h5", "a") as file:
        file["others"] = VECTORS[:, :3]
    with pytest.raises(SourceError, match=r"2 data sets .*: group/vectors, others; .*--dataset"):
        imported("vectors.h5", fresh=True)
    require_expected(imported("vectors.h5", dataset="group/vectors", fresh=True))
    with pytest.raises(SourceError, match=r"no data set 'x' in it; with vectors there are group"):
        imported("vectors.h5", dataset="x")


def test_a_link_in_hdf5_is_not_followed_unasked(here):
    with h5py.File("secret.h5", "w") as file:
        file["vectors"] = VECTORS
    with h5py.File("vectors.h5", "w") as file:
        file["vectors"] = h5py.ExternalLink("secret.h5", "/vectors")
    with pytest.raises(SourceError, match="none has numbers of the shape"):
        imported("vectors.h5")


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "float16"])
@pytest.mark.parametrize("beside", [True, False])
def test_parquet_with_a_list_or_with_columns_of_its_own(here, kind, beside):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), DIMENSION)
    else:
        value = pa.float32()
        of = pa.large_list(value) if kind == "large" else pa.list_(value)
        column = pa.array(VECTORS.tolist(), of)
    columns = {"vector": column, "tags": pa.array([["x"]] * NUMBER)}
    if beside:
        columns |= {"id": IDS, "text": TEXTS, "label": LABELS, "split": SPLITS}
    parquet.write_table(pa.table(columns), "vectors.parquet", row_group_size=7)
    require_expected(imported("vectors.parquet", list=None if beside else "list.csv"))


def test_parquet_with_two_columns_of_vectors_asks_which(here):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"one": VECTORS.tolist(), "other": VECTORS.tolist(), "id": IDS}
    parquet.write_table(pa.table(columns), "vectors.parquet")
    with pytest.raises(SourceError, match="one, other; name one by --vector-column"):
        imported("vectors.parquet")
    require_expected(imported("vectors.parquet", columns={"vector": "other"}))
    with pytest.raises(SourceError, match="--vector-column 'x': is not there"):
        imported("vectors.parquet", columns={"vector": "x"})
    with pytest.raises(SourceError, match="--vector-column 'id': is not of lists of numbers"):
        imported("vectors.parquet", columns={"vector": "id"})


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ([1.0], r"row 7: a vector of 1 numbers, where those before have 6"),
        (None, r"row 7: has no vector"),
        ([None] * DIMENSION, r"'t7' has NaN"),
    ],
)
def test_an_odd_vector_in_parquet_is_named(here, odd, expected):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = VECTORS.tolist()
    rows[7] = odd
    column = pa.array(rows, pa.list_(pa.float32()))
    parquet.write_table(pa.table({"vector": column, "id": IDS}), "vectors.parquet")
    with pytest.raises((SourceError, WrongUsage), match=expected) as refused:
        imported("vectors.parquet", list=None)
    assert "\n" not in str(refused.value)


def test_without_pyarrow_it_says_what_to_install(here, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pyarrow.*not installed"):
        imported("vectors.parquet")


# ------------------------------------------------------------------------------- bad input


class Witness:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_pickle_is_loaded_whatever_the_file_is_called(here):
    ran = here / "ran"
    np.save("objects.npy", np.array([Witness(str(ran))] * 2, object))
    (here / "pickle.npy").write_bytes(pickle.dumps(Witness(str(ran))))
    with h5py.File("objects.h5", "w") as file:
        file["v"] = np.frombuffer(pickle.dumps(Witness(str(ran))), np.uint8)
    assert not ran.exists()
    with pytest.raises(SourceError, match="holds Python objects, a pickle, which is never loaded"):
        imported("objects.npy")
    with pytest.raises(SourceError, match="is a pickle, which is never loaded"):
        imported("pickle.npy")
    with pytest.raises(SourceError, match="none has numbers"):
        imported("objects.h5")
    assert not ran.exists()


def structured():
    np.save("odd.npy", np.zeros(NUMBER, [("a", "f4"), ("b", "f4")]))
    return "odd.npy"


def truncated(size):
    with open("vectors.npy", "rb") as file:
        data = file.read()
    with open("odd.npy", "wb") as file:
        file.write(data[:size])
    return "odd.npy"


def archived():
    np.savez("odd.npz", VECTORS)
    return "odd.npz"


def renamed():
    archived()
    with open("odd.npz", "rb") as file, open("odd.npy", "wb") as other:
        other.write(file.read())
    return "odd.npy"


def text(name):
    with open(name, "w") as file:
        file.write("no vectors")
    return name


def feature_file():
    write("odd.h5", VECTORS, IDS, made_by={"encoder": "e"})
    return "odd.h5"


ODD = {
    "cut in the numbers": (lambda: truncated(300), "odd.npy: damaged"),
    "cut in the header": (lambda: truncated(50), r"odd.npy: (damaged|cannot be read)"),
    "empty": (lambda: truncated(0), "odd.npy: is no .npy"),
    "an archive": (archived, r"archive of arrays \(.npz\)"),
    "an archive called .npy": (renamed, r"archive of arrays \(.npz\)"),
    "records": (structured, "numbers are expected"),
    "text": (lambda: text("odd.npy"), "odd.npy: is no .npy"),
    "text called .h5": (lambda: text("odd.h5"), "odd.h5: is not HDF5"),
    "text called .parquet": (lambda: text("odd.parquet"), "odd.parquet: cannot be read"),
    "another ending": (lambda: text("odd.txt"), r"vectors come as .npy, .parquet or .h5"),
    "a feature file": (feature_file, "is a feature file of headstart already"),
    "nothing .npy": (lambda: "none.npy", "none.npy: cannot be read: No such file"),
    "nothing .h5": (lambda: "none.h5", "none.h5: cannot be read: no such file"),
    "nothing .parquet": (lambda: "none.parquet", "none.parquet: cannot be read: no such file"),
}


@pytest.mark.parametrize("case", ODD)
def test_a_file_without_vectors_is_one_line(here, case):
    make, expected = ODD[case]
    with pytest.raises((SourceError, WrongUsage), match=expected) as refused:
        imported(make())
    assert "\n" not in str(refused.value)
    assert not (here / "out.h5").exists()


LISTS = {
    "fewer lines": ({"id": IDS[1:]}, {}, "there are 60, and 59 ids"),
    "an id twice": ({"id": ["t1", *IDS[1:]]}, {}, "'t1' is given twice, as number 0 and 1"),
    "an empty id": (
        {"id": [" ", *IDS[1:]], "label": LABELS},
        {},
        "line 2, column 'id': the id is empty",
    ),
    "an unknown split": (
        {"id": IDS, "split": ["x", *SPLITS[1:]]},
        {},
        "line 2, column 'split': unknown split 'x'",
    ),
    "an unknown column": (
        {"id": IDS, "topic": LABELS},
        {"label": "x"},
        "no such column; there are",
    ),
    "a column twice": (
        {"id": IDS, "topic": LABELS},
        {"label": "topic", "text": "topic"},
        "given for two things",
    ),
    "an unknown role": ({"id": IDS}, {"path": "id"}, r"columns \['path'\]: there are id, label"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_bad_list_is_one_line(here, case):
    columns, named, expected = LISTS[case]
    write_list("list.csv", **columns)
    with pytest.raises((SourceError, WrongUsage), match=expected) as refused:
        imported(columns=named)
    assert "\n" not in str(refused.value)
    assert not (here / "out.h5").exists()


def test_options_that_a_file_has_no_use_for_are_refused(here):
    with pytest.raises(WrongUsage, match="is not HDF5, and has none"):
        imported(dataset="x")
    with pytest.raises(WrongUsage, match="is not Parquet"):
        imported(columns={"vector": "x"})
    with pytest.raises(WrongUsage, match="no list that could have them"):
        imported(list=None, columns={"label": "x"})
    with pytest.raises(SourceError, match="is no list"):
        imported(list="vectors.npy")


# ------------------------------------------------------------------------------------ lists


def test_columns_are_found_by_their_names_and_those_without_use_are_said(here):
    said = []
    write_list("list.csv", DocID=IDS, Sentence=TEXTS, Category=LABELS, subset=SPLITS, odd=IDS)
    require_expected(imported(seen=lambda name, notes: said.append((name, list(notes)))))
    assert said == [(str(here / "list.csv"), ["1 column is not used: 'odd'"])]


def test_columns_that_are_named_count_whatever_they_are_called(here):
    named = {"id": "a", "text": "b", "label": "id", "split": "label"}
    write_list("list.csv", a=IDS, b=TEXTS, id=LABELS, label=SPLITS)
    require_expected(imported(columns=named))


def test_without_ids_rows_go_by_their_numbers_in_their_order(here):
    store = import_vectors("vectors.npy", "out.h5")
    assert store.paths == [f"{row:08}" for row in range(NUMBER)]
    np.testing.assert_array_equal(store.features, VECTORS)
    write_list("list.csv", label=LABELS)
    said = []
    store = imported(seen=lambda _, notes: said.extend(notes))
    assert [store.label_names[code] for code in store.labels] == LABELS
    assert "row number" in said[0]


def test_more_rows_add_to_those_that_go_by_their_numbers(here):
    import_vectors("vectors.npy", "out.h5", encoder="e")
    np.save("more.npy", np.concatenate([VECTORS, VECTORS[:50] + 1]))
    store = import_vectors("more.npy", "out.h5", encoder="e")
    assert (store.summary.kept, store.summary.new, store.summary.removed) == (NUMBER, 50, 0)


def test_a_folder_of_parquet_is_not_said_to_be_missing(here):
    os.mkdir("parts.parquet")
    with pytest.raises(SourceError, match=r"parts\.parquet: is a folder; name one file"):
        import_vectors("parts.parquet", "out.h5")
    os.mkdir("parts.h5")
    with pytest.raises(SourceError, match=r"parts\.h5: .*is a folder"):
        import_vectors("parts.h5", "out.h5")


def test_columns_of_one_name_are_refused_by_it(here):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = [pyarrow.array(VECTORS.tolist()), pyarrow.array(IDS), pyarrow.array(IDS)]
    parquet.write_table(pyarrow.Table.from_arrays(columns, ["v", "id", "id"]), "twice.parquet")
    with pytest.raises(SourceError, match="several columns of one name, id;"):
        import_vectors("twice.parquet", "out.h5")


def test_the_encoder_is_the_name_of_the_file_unless_it_is_said(here):
    assert imported().provenance.encoder == "vectors.npy"
    np.save("others.npy", VECTORS)
    with pytest.raises(ProvenanceMismatch, match=r"encoder is vectors\.npy against others\.npy"):
        imported("others.npy")


# ---------------------------------------------------------------------------------- command


def test_the_command_says_what_it_did(here, cli):
    done = cli("import", "vectors.npy", "--list", "list.csv", "-o", "out.h5", "--encoder", "e")
    assert done.code == 0
    first, second, *_ = done.out.splitlines()
    assert first == "out.h5: 60 examples x 6 features, 2 labels (a, b)"
    assert second.startswith("  new 60, there already 0, removed 0")
    again = cli(
        "import", "vectors.npy", "--list", "list.csv", "-o", "out.h5", "--encoder", "e", "--json"
    )
    assert json.loads(again.out) | {"seconds": 0} == {
        "examples": 60, "new": 0, "kept": 60, "removed": 0, "duplicates": 0, "seconds": 0,
        "out": "out.h5", "notes": [],
    }  # fmt: skip
    info = cli("info", "out.h5")
    assert info.out.startswith("out.h5: 60 examples x 6 float32 features")
    assert "made by: e, settings {}, as is said of them" in info.out
    assert json.loads(cli("info", "out.h5", "--json").out)["provenance"]["kind"] == "given"
    assert cli("verify", "out.h5").code == 0


def test_the_command_refuses_in_one_line(here, cli):
    base = ("import", "vectors.npy", "--list", "list.csv", "-o", "out.h5")
    assert "--settings is no JSON" in cli(*base, "--settings", "{").failure(2)
    assert "an object is expected" in cli(*base, "--settings", "[1]").failure(2)
    assert "'label': there is no such column" not in cli(*base, "--label-column", "label").err
    assert "there is no such column" in cli(*base, "--label-column", "x").failure()
    refused = cli(*base, "--encoder", "other").failure()
    assert "encoder is vectors.npy against other" in refused


def test_every_command_works_on_the_file_and_a_model_is_refused(here, cli):
    assert cli("import", "vectors.npy", "--list", "list.csv", "-o", "out.h5").code == 0
    assert cli("train", "out.h5", "-o", "head.joblib", "--report", "page.html").code == 0
    assert cli("evaluate", "head.joblib", "out.h5").code == 0
    assert cli("report", "head.joblib", "out.h5", "-o", "page.html").code == 0
    audited = cli("audit", "out.h5", "-o", "suspects.csv")
    assert audited.code == 0
    assert "among 60 labelled examples" in audited.out
    assert "noun" not in json.loads(cli("audit", "out.h5", "--json").out)
    predicted = cli("predict", "head.joblib", "out.h5", "-o", "predictions.csv")
    assert predicted.code == 0
    assert "60 examples predicted" in predicted.out
    assert cli("info", "head.joblib").code == 0
    compared = cli("compare", "out.h5", "out.h5")
    assert compared.code == 0
    assert "48 examples; always guessing" in compared.out
    assert "noun" not in json.loads(cli("compare", "out.h5", "out.h5", "--json").out)
    assert "made from images" not in cli("export", "head.joblib", "-o", "model.keras").failure()
    page = (here / "page.html").read_text("utf-8")
    assert "headstart import" in page
    assert "--list" in page
    store = FeatureStore("out.h5")
    assert len((here / "predictions.csv").read_text().splitlines()) == len(store) + 1
