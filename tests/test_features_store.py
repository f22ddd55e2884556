import hashlib

import h5py
import numpy as np
import pytest
from headstart.features import FeatureFileError, FeatureStore, layout


@pytest.fixture
def store(make_store):
    features = np.random.default_rng(0).normal(size=(700, 8))
    labels = [None if row % 7 == 0 else f"class {row % 3}" for row in range(700)]
    splits = [("none", "train", "validation", "test")[row % 4] for row in range(700)]
    return make_store(features, labels, splits=splits)


def test_a_store_gives_back_what_was_sealed(store):
    expected = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    np.testing.assert_array_equal(store.features, expected)
    assert store.paths == [f"{row:06}.png" for row in range(700)]
    assert store.label_names == ["class 0", "class 1", "class 2"]
    assert store.labels[:4].tolist() == [-1, 1, 2, 0]
    assert store.splits[:4].tolist() == [0, 1, 2, 3]
    assert len(store) == store.images == 700
    assert store.skipped == []


def test_plain_h5py_reads_the_file_by_the_names_of_the_format(store):
    with h5py.File(store.path) as file:
        np.testing.assert_array_equal(file["features"][:], store.features)
        assert file.attrs["format"] == "headstart-features"
        assert file.attrs["format_version"] == 1
        provenance = file.attrs["provenance"]
        assert file.attrs["fingerprint"] == hashlib.sha256(provenance.encode()).hexdigest()
        assert set(file) == {
            "features", "paths", "labels", "label_names", "splits", "views", "digests", "stats",
            "skipped", "canary",
        }  # fmt: skip
        for name, dataset in file.items():
            assert dataset.fletcher32, name
            assert dataset.chunks, name
            assert np.prod(dataset.chunks) * dataset.dtype.itemsize <= layout.CHUNK_BYTES, name


def test_the_content_digest_can_be_computed_from_the_text_of_the_format_alone(store):
    """Section "Content digest" of FORMAT.md, followed word by word."""
    total = hashlib.sha256()

    def text(value):
        total.update(len(value.encode()).to_bytes(8, "little") + value.encode())

    with h5py.File(store.path) as file:
        text(file.attrs["provenance"])
        arrays = {
            name: file[name][:]
            for name in (
                "features", "paths", "labels", "splits", "views", "digests", "label_names",
            )
        }  # fmt: skip
        arrays |= {name: file["stats"][:][name] for name in ("size", "width", "height")}
        for name, array in arrays.items():
            text(f"{name} {array.dtype.str} {array.shape}")
            total.update(array.tobytes())
        assert total.hexdigest() == file.attrs["content_digest"]


def test_rows_can_be_read_without_the_others(store):
    for rows in ([0], [3, 4, 5], [0, 699], [1, 50, 300, 650]):
        chosen = np.array(rows)
        np.testing.assert_array_equal(store.read_features(chosen), store.features[chosen])


def test_a_sound_file_verifies(store):
    assert store.verify() is None


@pytest.mark.parametrize("name", ["features", "labels", "digests", "stats"])
def test_a_changed_row_does_not_verify(store, name):
    with h5py.File(store.path, "a") as file:
        value = file[name][5]
        if name == "stats":
            value["width"] += 1
        else:
            value = value + 1
        file[name][5] = value
    with pytest.raises(FeatureFileError, match="content digest"):
        FeatureStore(store.path).verify()


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


def test_a_file_of_another_version_is_refused_with_both_versions(store):
    with h5py.File(store.path, "a") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(FeatureFileError, match=r"format version 2.* version 1"):
        FeatureStore(store.path)


def test_a_missing_dataset_is_damage(store):
    with h5py.File(store.path, "a") as file:
        del file["splits"]
    with pytest.raises(FeatureFileError, match="'splits'"):
        FeatureStore(store.path)


def test_rows_of_unequal_number_are_damage(store):
    with h5py.File(store.path, "a") as file:
        file["labels"].resize(699, axis=0)
    with pytest.raises(FeatureFileError, match="'labels' has another number of rows"):
        FeatureStore(store.path)
