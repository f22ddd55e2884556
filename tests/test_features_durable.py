"""Files that appear whole: through links, under long names, with the modes that were there."""

import os
import platform
import stat
import subprocess
import sys

import pytest
from headstart.features import HeadstartError, durable
from headstart.features.journal import lock, units

root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs the rights of root"
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(RuntimeError), durable.replacing(path) as temporary:
        temporary.write_text("new, but never finished")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with durable.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_publisher_of_a_name_wins(tmp_path):
    path = tmp_path / "unit"
    assert durable.publish(path, b"first")
    assert not durable.publish(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def write(path, text="new"):
    with durable.replacing(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("before", ["old", None], ids=["to a file", "to nothing yet"])
def test_a_link_is_written_through_and_stays(tmp_path, hops, before):
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    if before is not None:
        target.write_text(before)
    links = [tmp_path / f"link{number}" for number in range(hops)]
    for link, to in zip(links, [*links[1:], "elsewhere/target"], strict=True):
        link.symlink_to(to)
    assert durable.require_target(links[0]) == target
    write(links[0])
    assert all(link.is_symlink() for link in links)
    assert target.read_text() == "new"
    assert not target.is_symlink()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "kept"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_new_contents_are_never_readable_by_those_who_could_not_read_the_old(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    path.chmod(0o600)
    with durable.replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("new")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


def test_a_new_file_has_the_mode_that_other_programs_would_give_it(tmp_path):
    (tmp_path / "other").touch()
    write(tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


@root_only
def test_a_file_of_another_user_stays_theirs(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


LONGEST = 255


@pytest.mark.parametrize("letter", ["n", "ä", "猫"])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path, letter):
    most = LONGEST // len(letter.encode())
    for length in (1, most // 2, most):
        path = tmp_path / (letter * length)
        assert durable.require_target(path) == path
        write(path)
        assert path.read_text() == "new"
        path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_name_is_short_and_says_whose_it_is(tmp_path):
    names = {f"{'n' * 200}{number}" for number in range(20)}
    temporaries = [durable.temporary_beside(tmp_path / name).name for name in names]
    assert max(len(name.encode()) for name in temporaries) <= 143  # eCryptfs has no longer ones
    assert all(f".{os.getpid()}-" in name for name in temporaries)
    assert len({durable.short(name) for name in names}) == len(names)
    assert ".pets.h5." in durable.temporary_beside(tmp_path / "pets.h5").name


def temporary_of(process, path):
    """The name that a process gives its temporary file."""
    temporary = durable.temporary_beside(path)
    return temporary.with_name(temporary.name.replace(f".{os.getpid()}-", f".{process.pid}-"))


def left_by_a_killed_process(path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return temporary_of(process, path)


@pytest.mark.parametrize("name", ["short.csv", "l" * 220 + ".csv"], ids=["short", "long"])
def test_what_killed_processes_left_under_a_name_goes_when_that_name_is_written(tmp_path, name):
    path = tmp_path / name
    ours, folder, others, living = (
        left_by_a_killed_process(path),
        left_by_a_killed_process(path),
        left_by_a_killed_process(tmp_path / f"other-{name[:200]}"),
        durable.temporary_beside(path),
    )
    for left in (ours, others, living):
        left.touch()
    folder.mkdir()
    (folder / "half a model").touch()
    (tmp_path / "link").symlink_to(path)
    write(tmp_path / "link")
    assert set(tmp_path.iterdir()) == {path, tmp_path / "link", others, living}


@pytest.mark.skipif(os.name == "nt", reason="a dead process leaves no number behind on Windows")
def test_what_a_killed_process_left_goes_though_nobody_has_asked_after_that_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        left = temporary_of(process, tmp_path / "out")
        left.touch()
        write(tmp_path / "out")
    finally:
        process.wait()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.skipif(os.name == "nt", reason="there are no locks on Windows")
def test_what_a_dying_process_wrote_goes_when_the_next_run_has_the_lock(tmp_path):
    out = tmp_path / "out.h5"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        temporary_of(process, out).touch()
        (waited_for := temporary_of(process, out)).mkdir()
        with lock.exclusive(out):
            assert set(tmp_path.iterdir()) == {units.folder_of(out), waited_for}


def test_names_that_only_look_like_ours_stop_nothing(tmp_path):
    node = platform.node()
    for name in (f".out.{9**30}-ab@{node}.tmp", f".out.٣-ab@{node}.tmp", ".tmp", "..tmp"):
        (tmp_path / name).touch()
    (tmp_path / f".out.1-ab@{node}.tmp").symlink_to(tmp_path)
    write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new"


def fifo(path):
    os.mkfifo(path)


def loop(path):
    path.symlink_to(path.name)


def folder(path):
    path.mkdir()


def link_to_a_folder(path):
    path.symlink_to(path.parent)


def link_into_nothing(path):
    path.symlink_to("gone/target")


def link_to_a_device(path):
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "is a pipe or a device"),
        (link_to_a_device, "is a pipe or a device"),
        (loop, "is a link that leads back to itself"),
        (folder, "is a folder"),
        (link_to_a_folder, "is a folder"),
        (link_into_nothing, "gone: no such folder for target"),
    ],
)
def test_what_cannot_be_replaced_is_refused_in_one_line_about_it(tmp_path, make, said):
    path = tmp_path / "out"
    make(path)
    with pytest.raises(HeadstartError, match=said) as caught:
        durable.require_target(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n" * 256, "the name is too long"),
        ("ä" * 128, "the name is too long"),
        ("/".join(["folder"] * 700), "no such folder"),
        ("nul\0", "no file can have this name"),
        ("half \ud83d", "no file can have this name"),
        ("missing/out", "no such folder for out"),
        (".", "is a folder"),
    ],
    ids=["ascii", "umlauts", "path", "nul", "surrogate", "parent", "dot"],
)
def test_a_name_that_cannot_be_written_is_refused_in_words_about_that_name(tmp_path, name, said):
    with pytest.raises(HeadstartError, match=said) as caught:
        durable.require_target(tmp_path / name)
    assert ".tmp" not in str(caught.value)


def test_a_name_is_refused_if_what_the_work_adds_to_it_is_too_long(tmp_path):
    path = tmp_path / ("n" * 250)
    durable.require_target(path)
    with pytest.raises(HeadstartError, match="too long"):
        durable.require_target(path, ".units")


@pytest.mark.parametrize("protected", ["the file", "its folder"])
def test_what_is_write_protected_is_not_replaced(tmp_path, monkeypatch, protected):
    path = tmp_path / "out"
    path.write_text("old")
    allowed = os.access
    closed = path if protected == "the file" else tmp_path
    # Root may write everywhere, so that the answer of the system is stood in for.
    monkeypatch.setattr(os, "access", lambda one, how: one != closed and allowed(one, how))
    with pytest.raises(HeadstartError, match=r"write-protected|no permission"):
        durable.require_target(path)


def test_the_error_of_a_full_disk_names_file_and_remedy_and_claims_no_more_than_is_so(tmp_path):
    full = OSError(28, "No space left on device")
    said = [str(durable.cannot_write(tmp_path, full, work_kept=kept)) for kept in (True, False)]
    for line in said:
        assert line.startswith(f"{tmp_path}: cannot be written: No space left on device.")
        assert line.endswith("make space on the disk and run the same command again")
    assert ["finished work" in line for line in said] == [True, False]
