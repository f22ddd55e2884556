import os

import h5py
import numpy as np
import pytest
from headstart.features import FeatureFileError, records
from headstart.features.journal import known, lock, units
from headstart.features.origin import Origin
from headstart.features.records import FileStat, SeenFile


@pytest.fixture
def publish(tmp_path, stub):
    def publish(*names: bytes):
        files = [SeenFile(FileStat(name, 1, 2, 3), name.ljust(32, b"."), 3, 4) for name in names]
        vectors = {file.key: np.full(8, len(file.path), np.float32) for file in files}
        folder = tmp_path / "out.h5.units"
        origin = Origin(stub.provenance, {"a": 1}, stub.canary)
        return units.publish(folder, origin, files, vectors)

    return publish


def test_a_unit_reads_back_as_it_was_published(publish, stub):
    unit = units.Unit(publish(b"one", "zw\xf6lf".encode("latin-1")))
    assert unit.origin.provenance == stub.provenance
    assert unit.origin.environment == {"a": 1}
    assert [file.path for file in unit.files] == [b"one", b"zw\xf6lf"]
    np.testing.assert_array_equal(unit.features()[:, 0], [3, 5])


def test_the_same_work_gets_the_same_name(publish, tmp_path):
    assert publish(b"a", b"b") == publish(b"a", b"b")
    assert publish(b"a", b"c") != publish(b"a", b"b")
    assert len(list((tmp_path / "out.h5.units").iterdir())) == 2


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_unit_counts_as_never_published(publish, tmp_path, position):
    path = publish(b"a", b"b")
    sound = publish(b"c")
    data = bytearray(path.read_bytes())
    data[int(position * len(data)) :] = b""
    path.write_bytes(data)
    with pytest.raises(FeatureFileError):
        units.Unit(path)
    assert [unit.path for unit in units.verified(tmp_path / "out.h5.units")] == [sound]


def test_the_lock_is_had_though_another_run_has_just_removed_the_folder(tmp_path, monkeypatch):
    original, once = os.open, [True]

    def open_(path, *how):
        if once and once.pop():
            os.rmdir(path)
        return original(path, *how)

    monkeypatch.setattr(lock.os, "open", open_)
    with lock.exclusive(tmp_path / "out.h5"):
        assert units.folder_of(tmp_path / "out.h5").is_dir()
    assert not once


def test_discarding_spares_what_is_published_meanwhile(publish, tmp_path, monkeypatch):
    damaged, unwanted = publish(b"a"), units.Unit(publish(b"b"))
    damaged.write_bytes(b"half")
    verify, late = units.Unit, []

    def verify_and_publish(path):
        if not late:
            late.append(publish(b"c"))
        return verify(path)

    monkeypatch.setattr(units, "Unit", verify_and_publish)
    units.discard(damaged.parent, [unwanted])
    assert list(damaged.parent.iterdir()) == late


def test_the_same_files_with_more_vectors_are_another_unit(publish, stub):
    """Who knows fewer contents gives more vectors to the same files; neither may hide the other."""
    whole = units.Unit(publish(b"a", b"b"))
    origin = Origin(stub.provenance, {}, stub.canary)
    vectors = {(b"b".ljust(32, b"."), 0): np.ones(8, np.float32)}
    part = units.Unit(units.publish(whole.path.parent, origin, whole.files, vectors))
    assert part.path != whole.path
    assert len(part.features()) == 1
    assert len(whole.features()) == 2
    assert whole in units.verified(whole.path.parent, [whole])  # not read again


def test_a_seen_file_survives_packing():
    files = [
        SeenFile(FileStat(b"ok.png", 10**12, 2**62, 2**64 - 1), bytes(range(32)), 1, 2),
        SeenFile(FileStat(b"\xff bad \n", 0, 0, 0), records.UNREAD, 0, 0, "\u201cquoted\u201d"),
    ]
    assert records.seen_files(records.table(files)) == files
    assert units.seen_files(units.table([])) == []


def test_units_of_another_version_are_refused_and_kept(publish, tmp_path):
    path = publish(b"a")
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
    with pytest.raises(FeatureFileError, match=r"out\.h5\.units: unfinished work.*version 1.*same"):
        units.verified(path.parent)
    assert path.exists()


def test_sealing_reads_no_unit_again_and_again_where_each_has_images_from_everywhere(
    tmp_path, stub, monkeypatch
):
    out, shards, dimension = tmp_path / "out.h5", 10, stub.provenance.dimension
    files = [
        SeenFile(FileStat(f"{row:04}".encode(), 1, 2, 3), f"{row:032}".encode(), 3, 4)
        for row in range(2000)
    ]
    vectors = {file.key: np.full(dimension, row, np.float32) for row, file in enumerate(files)}
    for shard in range(shards):
        own = files[shard::shards]
        origin = Origin(stub.provenance, {}, stub.canary)
        units.publish(units.folder_of(out), origin, own, {one.key: vectors[one.key] for one in own})
    monkeypatch.setattr(known, "_BLOCK_ROWS", 100)
    read, features = [], units.Unit.features
    monkeypatch.setattr(units.Unit, "features", lambda unit: read.append(1) or features(unit))
    every, wanted = known.Known(out), [file.key for file in files]
    found = np.concatenate([every.vectors(wanted[block]) for block in every.blocks(wanted)])
    np.testing.assert_array_equal(found[:, 0], np.arange(2000))
    assert len(read) <= 4 * shards
    read.clear()
    in_order = sorted(wanted, key=lambda key: (int(key[0]) % shards, int(key[0])))
    assert max(block.stop - block.start for block in every.blocks(in_order)) == 100
