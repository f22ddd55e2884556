"""What is said of a feature file that cannot be opened: damage is only what is damage."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from headstart.features import FeatureFileError, FeatureStore, verify
from headstart.features.opening import CannotRead, is_hdf5, lookup3, marked, replaceable

SEALED = []


@pytest.fixture
def store(make_store, tmp_path):
    if not SEALED:
        features = np.random.default_rng(0).normal(size=(60, 8))
        SEALED.append(make_store(features, ["cat", "dog"] * 30, name="first.h5").path.read_bytes())
    path = tmp_path / "made.h5"
    path.write_bytes(SEALED[0])
    return FeatureStore(path)


def held_open(path, change=""):
    """Another program that has the file open for writing, after a change, and waits."""
    program = f"import h5py, sys\nfile = h5py.File(sys.argv[1], 'r+')\n{change}\n"
    program += "print(flush=True)\nsys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    return other


def killed(other):
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()


def test_a_file_that_another_program_has_open_for_writing_is_read_while_and_after(store):
    features, before = store.features, store.path.read_bytes()
    other = held_open(store.path)
    try:
        assert marked(store.path)
        np.testing.assert_array_equal(FeatureStore(store.path).features, features)
        assert verify(store.path) == []
    finally:
        killed(other)
    assert marked(store.path)
    marked_bytes = store.path.read_bytes()
    again = FeatureStore(store.path)
    np.testing.assert_array_equal(again.features, features)
    np.testing.assert_array_equal(again.read_features(np.array([3, 50])), features[[3, 50]])
    assert verify(store.path) == []
    assert replaceable(store.path)
    assert store.path.read_bytes() == marked_bytes != before


def test_a_file_that_another_program_is_changing_is_read_as_it_is_or_said_to_be_open_there(store):
    """Never a wrong number: what does not fit the checksums is refused, and not called damaged."""
    other = held_open(
        store.path, "file['labels'][...] = 9\nfile['features'][...] = 0\nfile.flush()"
    )
    try:
        assert any("content digest" in problem for problem in verify(store.path))
    finally:
        killed(other)
    data = bytearray(store.path.read_bytes())
    with open(store.path, "r+b") as file:
        file.truncate(len(data) // 2)
    with pytest.raises(CannotRead, match="another program has it open for writing") as refused:
        FeatureStore(store.path)
    assert "damaged" not in str(refused.value)


@pytest.mark.parametrize("how", [{}, {"locking": True}, {"libver": "latest"}])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_this_process_has_open_in_another_way_is_read(store, mode, how):
    with h5py.File(store.path, mode, **how):
        assert FeatureStore(store.path).label_names == ["cat", "dog"]
        assert verify(store.path) == []


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks there")
def test_a_file_that_somebody_has_locked_is_read(store):
    import fcntl

    with open(store.path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verify(store.path) == []


def test_the_checksum_is_the_one_that_its_author_and_hdf5_give(store):
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    with open(store.path, "rb") as file:
        superblock = file.read(48)
    assert lookup3(superblock[:44]).to_bytes(4, "little") == superblock[44:]


NUMBERS = (
    "EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM", "ENOLCK", "EBUSY", "ELOOP",
    "ETIMEDOUT", "ENODEV", "EINTR",
)  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("where", ["opening", "reading", "looking"])
def test_what_the_system_does_not_let_us_read_is_not_called_damaged(
    store, monkeypatch, name, where
):
    number = getattr(errno, name)

    def fail(*arguments, **how):
        if where == "reading":  # h5py says so of objects, with the number in the text alone
            raise KeyError(
                f"Unable to open object (file read failed: time = x\n, errno = {number},"
            )
        raise OSError(number, os.strerror(number))

    of, what = {
        "opening": (h5py, "File"), "reading": (h5py.Group, "__getitem__"), "looking": (os, "stat"),
    }[where]  # fmt: skip
    monkeypatch.setattr(of, what, fail)
    with pytest.raises(CannotRead) as refused:
        FeatureStore(store.path)
    monkeypatch.undo()
    line = str(refused.value)
    assert line.startswith(f"{store.path}: cannot be read: {os.strerror(number)}; ")
    assert "damaged" not in line
    assert len(line.splitlines()) == 1


def test_verification_does_not_call_a_failing_disk_a_broken_rule(store, monkeypatch):
    def fail(dataset, *arguments):
        if dataset.name == "/labels":
            raise OSError("Can't read data (file read failed: time = x\n, errno = 5, error")
        return read(dataset, *arguments)

    read = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(CannotRead, match=os.strerror(errno.EIO)):
        verify(store.path)


def test_a_lack_of_memory_is_not_called_damage(store, monkeypatch):
    def fail(*arguments):
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(CannotRead, match="free memory"):
        FeatureStore(store.path)


def test_a_file_that_vanishes_while_it_is_opened_is_no_such_file(store, monkeypatch):
    def vanish(*arguments, **how):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(h5py, "File", vanish)
    with pytest.raises(FeatureFileError, match="no such file"):
        FeatureStore(store.path)


def test_a_file_that_cannot_be_read_now_is_not_taken_for_one_to_replace(store, monkeypatch):
    def fail(*arguments, **how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(CannotRead):
        replaceable(store.path)


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes there")
def test_a_pipe_or_device_is_refused_without_waiting_for_it(tmp_path):
    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", tmp_path):
        with pytest.raises(FeatureFileError, match="is a folder or device"):
            FeatureStore(path)
        assert not is_hdf5(path)
        assert not replaceable(path)


@pytest.mark.parametrize("name", ["nothing.h5", "file/x.h5", "x" * 300])
def test_a_name_that_nothing_has_is_no_such_file(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FeatureFileError, match=r"no such file|File name too long"):
        FeatureStore(tmp_path / name)
