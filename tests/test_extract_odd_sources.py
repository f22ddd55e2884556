"""Whatever a file system can hold under a name that is listed: taken, or skipped with a reason."""

import errno
import functools
import os
import shutil
import socket
import subprocess

import pytest
from headstart.extract import pipeline, scan
from headstart.extract.sources import image, local
from headstart.features import FeatureStore, SourceError, verify

run = functools.partial(pipeline.run, unit_images=5)


def plant(root, name, depth, every, source):
    """A chain of folders too deep for `os.makedirs`, with an image in some of them."""
    os.mkdir(root)
    here = os.open(root, os.O_RDONLY)
    for level in range(1, depth + 1):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        if level % every == 0:
            os.link(source, "image.png", dst_dir_fd=here)
    os.close(here)
    return root


@pytest.fixture
def chain(tmp_path):
    yield functools.partial(plant, tmp_path / "chain")
    # pytest's own way of removing folders is not made for such depths either.
    subprocess.run(["rm", "-rf", tmp_path / "chain"], check=True)


def test_folders_deeper_than_python_recurses_are_searched_to_their_end(
    chain, tmp_path, write_image, stub
):
    source = chain("d", 1100, 550, write_image(tmp_path / "one.png", 1))
    store = run(stub, source, tmp_path / "out.h5")
    assert store.raw_paths == [b"d/" * 1100 + b"image.png", b"d/" * 550 + b"image.png"]
    assert store.label_names == ["d"]


def test_what_lies_under_a_path_too_long_to_open_is_skipped_with_the_reason_and_the_rest_taken(
    chain, tmp_path, write_image, stub
):
    source = chain("e" * 200, 25, 1, write_image(tmp_path / "one.png", 1))  # 5,000 bytes deep
    out = tmp_path / "out.h5"
    for _ in range(2):
        store = run(stub, source, out)
        assert 15 <= len(store.raw_paths) <= 20
        # A folder, and if the name of one fits and not that of the image in it, that image.
        assert store.summary.skipped in (1, 2)
        assert {one.reason for one in store.skipped} == {"cannot be opened: File name too long"}
        assert verify(out) == []


def special(folder):
    """One of each thing that is no file with bytes of its own, all named as images."""
    os.mkfifo(folder / "fifo.jpg")
    (folder / "to fifo.jpg").symlink_to("fifo.jpg")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    (folder / "ring1.jpg").symlink_to("ring2.jpg")
    (folder / "ring2.jpg").symlink_to("ring1.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "below a file.jpg").symlink_to("good.png/image.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "random.jpg").symlink_to("/dev/urandom")
    (folder / "null.jpg").symlink_to("/dev/null")
    (folder / "terminal.jpg").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket.jpg"))  # a path of its own is too long
    with (folder / "sparse.jpg").open("wb") as file:
        for size in (8 << 40, 1 << 40, 4 << 30):  # what the file system takes
            try:
                file.truncate(size)
                break
            except OSError:
                pass
    reasons = {
        "itself.jpg": "Too many levels of symbolic links",
        "ring1.jpg": "Too many levels of symbolic links",
        "ring2.jpg": "Too many levels of symbolic links",
        "dangling.jpg": "No such file",
        "below a file.jpg": "Not a directory",
        "sparse.jpg": "larger than 1024 MiB",
    }
    if os.path.exists("/proc/version"):  # files of the kernel, whose size is not that of their text
        (folder / "kernel.jpg").symlink_to("/proc/version")
        reasons["kernel.jpg"] = "."
    regular = "not a regular file"
    return {name: reasons.get(name, regular) for name in sorted(os.listdir(folder))}


def test_things_that_are_no_files_are_skipped_and_odd_names_are_not(
    tmp_path, write_image, stub, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    reasons = special(folder)
    good = write_image(folder / "good.png", 1)
    names = ["hard link.png", "-x.png", "--help.png", " .png", "a;b&c$(d).png", "n" * 251 + ".png"]
    names += ["..two dots.png", "new\nline.png", "UPPER.PNG", "two.dots..png"]
    for name in names:
        os.link(good, folder / name)
    (folder / "folder.jpg").mkdir()
    os.link(good, folder / "folder.jpg" / "inner.png")
    (folder / "loop.jpg").symlink_to(folder)

    store = run(stub, folder, tmp_path / "out.h5")
    taken = [name for name in names if not name.startswith(".")]
    assert store.paths == sorted(["good.png", "folder.jpg/inner.png", *taken])
    listed = {reference.path.decode(): reference for reference in scan(folder)}
    assert set(listed) == {*store.paths, *reasons}
    for name, reason in reasons.items():
        with pytest.raises(image.Unreadable, match=reason):
            listed[name].read()
    assert verify(tmp_path / "out.h5") == []


def test_a_file_that_has_nothing_to_say_now_is_unreadable_and_no_error(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(b"")

    class Kernel:  # such as /proc/kmsg, which is emptied by whoever reads it
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def read(self, size):
            return None

    monkeypatch.setattr(image, "open", lambda *_: Kernel(), raising=False)
    with pytest.raises(image.Unreadable):
        image.read(os.fsencode(tmp_path / "x.jpg"))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_stops_the_run_by_name_and_changes_nothing(
    photos, tmp_path, stub, monkeypatch, code
):
    out = tmp_path / "out.h5"
    run(stub, photos, out)
    before = out.read_bytes()
    scandir = os.scandir

    def failing(path):
        if os.fsdecode(path).endswith("red"):
            raise OSError(code, os.strerror(code), path)
        return scandir(path)

    monkeypatch.setattr(local.os, "scandir", failing)
    with pytest.raises(SourceError, match=rf"red: this folder cannot .*{os.strerror(code)}"):
        run(stub, photos, out)
    assert out.read_bytes() == before
    assert len(FeatureStore(out)) == 18


def fifo(file):
    os.mkfifo(file)


def link(target):
    return lambda file: file.symlink_to(target)


def link_to_fifo(file):
    os.mkfifo(file.with_name("queue"))
    file.symlink_to("queue")


def listening(file):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(file))


def sparse(file):
    with file.open("wb") as opened:
        opened.truncate(1 << 40)


def holds(data):
    return lambda file: file.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fifo, "not a regular file"),
        (link_to_fifo, "not a regular file"),
        (listening, "not a regular file"),
        (link("/dev/zero"), "not a regular file"),
        (link("/dev/null"), "not a regular file"),
        (link("list.csv"), "no such folder or file"),
        (link("nowhere.csv"), "no such folder or file"),
        (sparse, "larger than 1024 MiB"),
        (lambda file: file.mkdir(), "no images in this folder"),
        (holds(os.urandom(1 << 20)), "line 1: (not valid CSV|the name of a col)|needs the column"),
        (holds(bytes(range(256)) * 99), "line 1: not valid CSV|needs the column 'path'"),
        (holds(b"\0" * 100_000), "line 1: holds NULs"),
        (holds(b"\0" * (9 << 20)), "line 1: holds NULs"),
        (holds(b"," * (9 << 20)), "not valid CSV: a line of 1,048,576 characters"),
        (holds(b"," * 1_000_000), "the list is empty"),
        (holds(b"path\n" + b"x" * 200_000), "not valid CSV: field larger than"),
        (holds(b"path\n" + b"x," * 900_000), "not valid CSV: a line of 1,048,576 characters"),
        (holds(b'path\n"' + b"x\n" * 900_000), "line .*: not valid CSV"),
        (holds(b"path\n\0.jpg\n"), "line 2, column 'path': .* NUL"),
        (holds(b"path,label\nx.jpg,\0\n"), "line 2, column 'path': .* NUL"),
        (holds(b"path\n" + b"x/" * 4000 + b".jpg\n"), "column 'path': a path of more than 4,096"),
    ],
)
def test_a_manifest_that_is_none_is_refused_in_a_line_and_never_waited_for(
    tmp_path, monkeypatch, make, message
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "list.csv"
    make(file)
    with pytest.raises(SourceError, match=message) as refused:
        scan(file)
    assert str(file) in str(refused.value)


@pytest.mark.skipif(shutil.which("mkfifo") is None, reason="no FIFOs on this system")
def test_the_command_says_so_too(tmp_path, cli):
    os.mkfifo(tmp_path / "list.csv")
    line = cli("extract", tmp_path / "list.csv", "-o", tmp_path / "out.h5").failure()
    assert "list.csv: this list cannot be used: not a regular file" in line
