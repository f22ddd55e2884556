"""Sealing when things go wrong, with the real file system's own limits."""

import os
import resource
import shutil
import subprocess
import sys

import pytest
from headstart.extract.pipeline import run
from headstart.features import FeatureFileError, FeatureStore, child, verify
from headstart.features.journal import units


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def sealed(photos, out, stub, write_image):
    """A sealed file, and an image more than it holds."""
    run(stub, photos, out)
    write_image(photos / "blue" / "new.png", 1234)
    return out.read_bytes()


def test_a_full_disk_is_told_before_anything_is_written(
    sealed, photos, out, make_stub, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Free())
    with pytest.raises(FeatureFileError, match=r"needs .* MB on the disk of .*0\.0 MB are free"):
        run(make_stub(), photos, out)
    assert out.read_bytes() == sealed
    monkeypatch.undo()
    summary = run(make_stub(), photos, out).summary
    assert (summary.embedded, summary.reused) == (0, 19)


class _Free:
    free = 1


def test_a_writer_that_dies_is_a_message_and_the_work_is_kept(
    sealed, photos, out, make_stub, monkeypatch
):
    original = subprocess.run

    def kill(command, **options):
        program = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        return original([command[0], "-c", program], **options)

    monkeypatch.setattr(subprocess, "run", kill)
    monkeypatch.setattr(child, "prepare", lambda _: None)
    with pytest.raises(FeatureFileError, match=r"the process that wrote it was ended by SIGSEGV"):
        run(make_stub(), photos, out)
    assert out.read_bytes() == sealed
    assert len(list(units.folder_of(out).glob("*.h5"))) == 1
    monkeypatch.undo()
    assert run(make_stub(), photos, out).summary.embedded == 0
    assert verify(out) == []


PROGRAM = """
import pickle, resource, signal, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from headstart.features.child import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main()
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits on file sizes")
def test_a_disk_that_fills_while_sealing_leaves_the_old_file_at_every_size(
    sealed, photos, out, make_stub, monkeypatch
):
    """A limit on the size of a file stops HDF5 in the middle of its writing as a full disk does."""
    original = subprocess.run
    limit = 0

    def limited(command, **options):
        return original([command[0], "-P", "-c", PROGRAM, str(limit)], **options)

    monkeypatch.setattr(subprocess, "run", limited)
    monkeypatch.setattr(child, "prepare", lambda _: None)
    size = len(sealed)
    failures = 0
    for step in range(30):
        limit = size * step // 30
        with pytest.raises(FeatureFileError) as error:
            run(make_stub(), photos, out)
        message = str(error.value)
        assert "\n" not in message
        assert str(out) in message
        assert "run the same command again" in message
        assert out.read_bytes() == sealed
        failures += 1
    assert failures == 30
    assert [path.name for path in out.parent.glob(".*")] == []
    monkeypatch.undo()
    summary = run(make_stub(), photos, out).summary
    assert (summary.embedded, summary.reused) == (0, 19)
    assert verify(out) == []


def test_a_run_killed_at_any_of_its_system_calls_resumes_to_the_same_file(
    photos, tmp_path, make_stub
):
    """Die at the N-th durable step (write, sync, link, rename) of a run, for every N there is."""
    whole = tmp_path / "whole.h5"
    run(make_stub(), photos, whole)
    expected = FeatureStore(whole).content_digest
    program = tmp_path / "kill.py"
    program.write_text(KILLED)
    helper = os.path.join(os.path.dirname(__file__), "conftest.py")
    done = subprocess.run(
        [sys.executable, str(program), helper, str(photos), str(tmp_path), expected],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    kills, recomputed = map(int, done.stdout.split())
    assert kills > 15
    assert recomputed == 0


KILLED = """
import importlib.util, itertools, os, signal, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = sys.modules["helpers"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
from headstart.extract.pipeline import run
from headstart.features import FeatureStore
from headstart.features.journal import units

photos, folder, expected = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
STEPS = ("fsync", "link", "replace", "open", "close", "rmdir", "unlink", "mkdir")


def die_at(number):
    steps = itertools.count(1)  # next() is atomic, and two threads publish

    def counted(function):
        def step(*arguments, **options):
            if next(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return step

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def in_child(action):
    process = os.fork()
    if process == 0:
        try:
            action()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def published(out):
    return sum(len(unit.keys) for unit in units.verified(units.folder_of(out)))


kills = recomputed = 0
number = 1
while True:
    out = folder / f"out{number}.h5"

    def first():
        die_at(number)
        run(helpers.StubEmbedding(), photos, out, unit_images=5)

    status = in_child(first)
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        assert number > 15
        break
    kills += 1
    kept = 18 if out.exists() else published(out)
    stub = helpers.StubEmbedding()
    summary = run(stub, photos, out, unit_images=5).summary
    recomputed += summary.embedded != 18 - kept
    store = FeatureStore(out)
    assert store.content_digest == expected, number
    assert not units.folder_of(out).exists(), number
    assert not list(folder.glob(".out*")), number
    number += 1
print(kills, recomputed)
"""


def fail_and_chatter():
    import atexit

    atexit.register(os.write, 2, b"RuntimeError: a library that ends with complaints\n")
    raise FeatureFileError("the reason\nin two lines")


def die_without_a_word():
    os._exit(7)


def test_why_a_child_failed_is_heard_whatever_else_it_says(monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    here = sys.modules[__name__]
    monkeypatch.setattr(here.fail_and_chatter, "__module__", "test_features_seal")
    monkeypatch.setitem(sys.modules, "test_features_seal", here)
    with pytest.raises(FeatureFileError, match=r"^the reason in two lines$"):
        child.call(fail_and_chatter)
    monkeypatch.setattr(here.die_without_a_word, "__module__", "test_features_seal")
    with pytest.raises(child.ChildDied, match=r"^failed: 7$"):
        child.call(die_without_a_word)


def answer(out, number):
    out.write_text(f"{number} {os.getpid()} {os.environ.get('LATE')}")


@pytest.fixture
def answering(monkeypatch):
    """`answer`, as another process finds it."""
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    monkeypatch.setattr(answer, "__module__", "test_features_seal")
    monkeypatch.setitem(sys.modules, "test_features_seal", sys.modules[__name__])
    yield answer
    child.dismiss()


def test_a_child_that_was_prepared_makes_the_one_next_call(answering, tmp_path, monkeypatch):
    child.prepare(answering)
    child.prepare(answering)  # the same one goes on waiting
    monkeypatch.setenv("LATE", "yes")
    for number, late in ((1, "None"), (2, "yes")):
        child.call(answering, tmp_path / "said", number)
        said = (tmp_path / "said").read_text().split()
        assert said[::2] == [str(number), late]
        assert int(said[1]) != os.getpid()


@pytest.mark.parametrize("gone", ["killed", "dismissed", "of another call", "of another process"])
def test_a_child_that_waits_no_more_is_replaced(gone, answering, tmp_path, monkeypatch):
    child.prepare(die_without_a_word if gone == "of another call" else answering)
    ((_, _, process),) = child._waiting
    if gone == "killed":
        process.kill()
        process.wait()
    elif gone == "dismissed":
        child.dismiss()
    elif gone == "of another process":
        child._waiting[:] = [(os.getppid(), answering, process)]
    child.call(answering, tmp_path / "said", 3)
    assert (tmp_path / "said").read_text().split()[0] == "3"
    assert not child._waiting
    assert gone == "of another process" or process.poll() is not None
    process.kill()
    process.communicate()


def test_no_child_waits_for_a_run_that_has_failed(photos, out, stub, monkeypatch):
    started = []
    original = subprocess.Popen

    def start(*arguments, **options):
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(type(stub), "submit", property(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        run(stub, photos, out)
    assert len(started) == 1
    assert started[0].poll() is not None
