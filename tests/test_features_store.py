import hashlib
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from headstart.features import FeatureFileError, FeatureStore, layout, verify


@pytest.fixture
def store(make_store):
    features = np.random.default_rng(0).normal(size=(700, 8))
    labels = [None if row % 7 == 0 else f"class {row % 3}" for row in range(700)]
    splits = [("none", "train", "validation", "test")[row % 4] for row in range(700)]
    groups = [None if row % 5 == 0 else f"patient {row % 11:02}" for row in range(700)]
    return make_store(features, labels, splits=splits, groups=groups)


def test_a_store_gives_back_what_was_sealed(store):
    expected = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    np.testing.assert_array_equal(store.features, expected)
    assert store.paths == [f"{row:06}.png" for row in range(700)]
    assert store.label_names == ["class 0", "class 1", "class 2"]
    assert store.labels[:4].tolist() == [-1, 1, 2, 0]
    assert store.splits[:4].tolist() == [0, 1, 2, 3]
    assert store.group_names == [f"patient {number:02}" for number in range(11)]
    assert store.groups[:12].tolist() == [-1, 1, 2, 3, 4, -1, 6, 7, 8, 9, -1, 0]
    assert len(store) == store.images == 700
    assert store.skipped == []


def test_a_store_that_was_just_opened_is_one_line_and_has_no_summary(store):
    opened = FeatureStore(store.path)
    assert repr(opened) == f"FeatureStore({str(store.path)!r}: 700 rows x 8, 3 labels, 11 groups)"
    assert opened.summary is None
    assert opened.provenance == opened.origin.provenance
    assert opened.keys[3] == (opened.digests[3].tobytes(), 0)


def test_plain_h5py_reads_the_file_by_the_names_of_the_format(store):
    with h5py.File(store.path) as file:
        np.testing.assert_array_equal(file["features"][:], store.features)
        assert file.attrs["format"] == b"headstart-features"
        assert file.attrs["format_version"] == layout.FORMAT_VERSION
        fingerprint = hashlib.sha256(file.attrs["provenance"]).hexdigest()
        assert file.attrs["fingerprint"].decode() == fingerprint == store.fingerprint
        assert set(file) == {
            "features", "paths", "labels", "label_names", "splits", "groups", "group_names",
            "views", "digests", "stats", "skipped", "canary",
        }  # fmt: skip
        for name, dataset in file.items():
            assert dataset.fletcher32, name
            assert dataset.chunks, name
            assert np.prod(dataset.chunks) * dataset.dtype.itemsize <= layout.CHUNK_BYTES, name


def test_the_content_digest_can_be_computed_from_the_text_of_the_format_alone(store):
    """Section "Content digest" of FORMAT.md, followed word by word."""
    total = hashlib.sha256()

    def text(value):
        total.update(len(value).to_bytes(8, "little") + value)

    with h5py.File(store.path) as file:
        text(file.attrs["provenance"])
        arrays = {
            name: file[name][:]
            for name in (
                "features", "paths", "labels", "splits", "groups", "views", "digests",
                "label_names", "group_names",
            )
        }  # fmt: skip
        arrays |= {name: file["stats"][:][name] for name in ("size", "width", "height")}
        for name, array in arrays.items():
            text(f"{name} {array.dtype.str} {array.shape}".encode())
            total.update(array.tobytes())
        assert total.hexdigest().encode() == file.attrs["content_digest"]


def test_rows_can_be_read_without_the_others(store):
    for rows in ([0], [3, 4, 5], [0, 699], [1, 50, 300, 650]):
        chosen = np.array(rows)
        np.testing.assert_array_equal(store.read_features(chosen), store.features[chosen])


def test_a_sound_file_verifies(store):
    assert verify(store.path) == []


@pytest.mark.parametrize("name", ["features", "labels", "groups", "digests", "stats"])
def test_a_changed_row_does_not_verify(store, name):
    with h5py.File(store.path, "a") as file:
        value = file[name][5]
        if name == "stats":
            value["width"] += 1
        else:
            value = value - 1
        file[name][5] = value
    assert any("content digest" in problem for problem in verify(store.path))


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("features", 3, np.nan),
        ("paths", 3, b"zzz"),
        ("labels", 3, 3),
        ("labels", 3, -2),
        ("splits", 3, 4),
        ("groups", 3, 11),
        ("groups", 3, -2),
        ("group_names", 0, b"zzz"),
        ("views", 3, -1),
        ("label_names", 0, b"zzz"),
    ],
)
def test_verification_names_the_dataset_that_breaks_a_rule(store, name, row, value):
    with h5py.File(store.path, "a") as file:
        file[name][row] = value
    assert any(problem.startswith(f"{name}: ") for problem in verify(store.path))


def test_a_flipped_bit_in_the_features_is_an_error_and_no_number(store):
    with h5py.File(store.path) as file:
        offset = file["features"].id.get_chunk_info(0).byte_offset
    data = bytearray(store.path.read_bytes())
    data[offset + 1000] ^= 4
    store.path.write_bytes(data)
    with pytest.raises(FeatureFileError, match="damaged"):
        _ = FeatureStore(store.path).features


def test_files_of_another_kind_are_refused_by_name(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(FeatureFileError, match=r"x\.h5: no such file"):
        FeatureStore(path)
    path.write_text("a,b,c")
    with pytest.raises(FeatureFileError, match=r"x\.h5: not a headstart feature file"):
        FeatureStore(path)
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 4))
    with pytest.raises(FeatureFileError, match=r"x\.h5: an HDF5 file, but not a headstart"):
        FeatureStore(path)
    with pytest.raises(FeatureFileError, match="folder"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize("without", [(), ("groups", "group_names")], ids=["as now", "as then"])
def test_a_file_of_another_version_is_refused_with_both_versions(store, without):
    with h5py.File(store.path, "a") as file:
        file.attrs["format_version"] = 2
        for name in without:  # version 2 had none
            del file[name]
    again = r"`headstart extract SOURCE -o .* --fresh`"
    with pytest.raises(FeatureFileError, match=rf"format version 2.* version 6; make it .*{again}"):
        FeatureStore(store.path)


def test_a_missing_dataset_is_damage(store):
    with h5py.File(store.path, "a") as file:
        del file["splits"]
    with pytest.raises(FeatureFileError, match="missing or unknown names: splits"):
        FeatureStore(store.path)


@pytest.mark.parametrize("name", ["labels", "groups"])
def test_rows_of_unequal_number_are_damage(store, name):
    with h5py.File(store.path, "a") as file:
        file[name].resize(699, axis=0)
    with pytest.raises(FeatureFileError, match=f"'{name}' has another number of rows"):
        FeatureStore(store.path)


def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(store, tmp_path):
    """One thousand single flips, spread over the file; none may go unnoticed or hang."""
    program = """
import json, random, sys
from pathlib import Path
from headstart.features import FeatureFileError, FeatureStore

def answer(path):
    store = FeatureStore(path)
    return [
        store.provenance.to_json(), store.environment, store.content_digest, store.label_names,
        store.group_names, store.paths, store.skipped, *(getattr(store, name).tobytes() for name in
        ("features", "labels", "splits", "groups", "views", "digests", "stats", "canary")),
    ]

source, target = Path(sys.argv[1]), Path(sys.argv[2])
data, sound = source.read_bytes(), answer(source)
generator = random.Random(0)
counts = {"error": 0, "unchanged": 0, "different": 0}
for _ in range(1000):
    flipped = bytearray(data)
    flipped[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    target.write_bytes(flipped)
    try:
        counts["unchanged" if answer(target) == sound else "different"] += 1
    except FeatureFileError:
        counts["error"] += 1
print(json.dumps(counts))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.path), str(tmp_path / "flipped.h5")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    counts = json.loads(done.stdout)
    assert counts["different"] == 0, counts
    assert counts["error"] > 100, counts


def hostile(kind, path, elsewhere):
    with h5py.File(path, "a") as file:
        name = "labels"
        rows = len(file[name])
        if kind == "unknown dataset":
            file["extra"] = np.zeros(3)
            return "extra"
        if kind == "unknown attribute":
            file.attrs["extra"] = 1
            return "extra"
        if kind == "attribute on a dataset":
            file[name].attrs["extra"] = 1
            return name
        del file[name]
        if kind == "external link":
            file[name] = h5py.ExternalLink(str(elsewhere), "labels")
        elif kind == "soft link":
            file[name] = h5py.SoftLink("/splits")
        elif kind == "group":
            file.create_group(name)
        elif kind == "virtual dataset":
            virtual = h5py.VirtualLayout((rows,), "<i4")
            virtual[:] = h5py.VirtualSource(str(elsewhere), "labels", (rows,))
            file.create_virtual_dataset(name, virtual)
        elif kind == "external storage":
            file.create_dataset(name, (rows,), "<i4", external=[(str(elsewhere), 0, rows * 4)])
        elif kind == "compression bomb":
            file.create_dataset(name, data=np.zeros(10**7, "<i4"), compression="gzip")
        elif kind == "declared petabytes":
            file.create_dataset(name, (2**50,), "<i4", chunks=(1024,))
        elif kind == "wrong type":
            file.create_dataset(name, data=np.zeros(rows, "<u4"))
        elif kind == "wrong rank":
            file.create_dataset(name, data=np.zeros((rows, 2), "<i4"))
        elif kind == "text of any length":
            file.create_dataset(name, data=["x"] * rows)
    return name


@pytest.mark.parametrize(
    "kind",
    [
        "unknown dataset", "unknown attribute", "attribute on a dataset", "external link",
        "soft link", "group", "virtual dataset", "external storage", "compression bomb",
        "declared petabytes", "wrong type", "wrong rank", "text of any length",
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_before_any_data_is_read(store, kind, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.write_bytes(store.path.read_bytes())
    name = hostile(kind, store.path, elsewhere)

    def read(*arguments):
        raise AssertionError("data was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    with pytest.raises(FeatureFileError, match=name):
        FeatureStore(store.path)


def test_a_huge_attribute_is_refused(store):
    with h5py.File(store.path, "a") as file:
        del file.attrs["provenance"]
        file.attrs["provenance"] = np.zeros(5000)
    with pytest.raises(FeatureFileError, match="provenance"):
        FeatureStore(store.path)
