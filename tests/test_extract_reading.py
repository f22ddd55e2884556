"""Files that are not what they seem, or do not stay what they are."""

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from headstart.extract.pipeline import run
from headstart.extract.sources.image import Unreadable, read
from headstart.features import FeatureStore


def test_the_bytes_and_the_status_belong_together(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"some bytes")
    data, status = read(bytes(path))
    assert data == b"some bytes"
    assert (status.st_size, status.st_mtime_ns) == (10, path.stat().st_mtime_ns)


def test_what_is_no_regular_file_is_not_even_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    monkeypatch.setattr(os, "open", None)
    for name in ("pipe.jpg", "folder.jpg", "device.jpg"):
        with pytest.raises(Unreadable, match="not a regular file"):
            read(bytes(tmp_path / name))


def test_a_fifo_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"x")
    status = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda _: status)
    with pytest.raises(Unreadable, match="not a regular file"):
        read(bytes(path))


def test_links_that_lead_nowhere_or_in_a_circle_are_told(tmp_path):
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "one.jpg").symlink_to(tmp_path / "two.jpg")
    (tmp_path / "two.jpg").symlink_to(tmp_path / "one.jpg")
    with pytest.raises(Unreadable, match="cannot be opened: No such file"):
        read(bytes(tmp_path / "dangling.jpg"))
    with pytest.raises(Unreadable, match="cannot be opened: Too many levels of symbolic links"):
        read(bytes(tmp_path / "one.jpg"))


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched", "vanishes"])
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, monkeypatch, change):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"0123456789")
    original, calls = os.fstat, []

    def fstat(descriptor):
        status = original(descriptor)
        if not calls:
            if change == "grows":
                path.open("ab").write(b"more")
            elif change == "shrinks":
                os.truncate(path, 4)
            elif change == "is touched":
                os.utime(path, ns=(1, 1))
            else:
                path.unlink()
        calls.append(descriptor)
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    if change == "vanishes":  # what was opened stays whole
        assert read(bytes(path))[0] == b"0123456789"
    else:
        with pytest.raises(Unreadable, match="changed while it was read"):
            read(bytes(path))


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_file_that_may_not_be_read_is_told(open_folder):
    path = open_folder / "image.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    process = os.fork()
    if process == 0:
        # Root may read everything, so be somebody else (user 65534 is nobody).
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            read(bytes(path))
        except Unreadable as error:
            code = 0 if str(error) == "cannot be opened: Permission denied" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_names_of_every_kind_come_back_byte_for_byte(tmp_path, stub, write_image):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    names = [
        b"new\nline.png",
        b"\xff\xfe.png",
        b"  two  spaces .png",
        b"tab\t.png",
        b"'quote\".png",
    ]
    names += [composed.encode(), decomposed.encode()]
    photos = tmp_path / "photos"
    image = write_image(tmp_path / "image.png", 1).read_bytes()
    (photos / "a").mkdir(parents=True)
    for name in names:
        with open(os.path.join(os.fsencode(photos / "a"), name), "wb") as file:
            file.write(image)
    run(stub, photos, tmp_path / "out.h5")
    store = FeatureStore(tmp_path / "out.h5")
    assert store.raw_paths == sorted(b"a/" + name for name in names)
    assert [os.fsencode(path) for path in store.paths] == store.raw_paths
    assert stub.engine.images == 1 + 8  # and the canary
