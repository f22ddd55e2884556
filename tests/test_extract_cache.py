"""What the caches hold, what of it is in use, and that nothing else is removed."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from headstart.extract import ImageEmbedder, cache
from headstart.extract.backbones.build import Backbone
from headstart.extract.backbones.request import Request
from headstart.extract.cache import held
from headstart.extract.engines import kept
from headstart.features import durable
from headstart.features.durable import caches
from headstart.features.durable.remote import copies

GRAPH = "Xception-299-0123456789abcdef"
LONG_AGO = 1_000_000_000.0
USING = """
import sys
from pathlib import Path
from headstart.features.durable import caches
caches.use(Path(sys.argv[1]))
print("in use", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caches, "_held", {})
    return tmp_path / "cache"


def put(path: Path, size: int = 10, used: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    if used is not None:
        os.utime(path, (used, used))
    return path


def graph(home: Path, name: str = GRAPH, size: int = 10, used: float | None = None) -> Path:
    folder = home / "graphs" / name
    put(folder / "graph.bin", size)
    if used is not None:
        os.utime(folder, (used, used))
    return folder


@pytest.fixture
def one_of_each(home):
    """Something of each kind, with 10 bytes in each file."""
    return {
        "graphs": graph(home),
        "int8": put(home / "graphs" / f"{GRAPH}.graph"),
        "embeddings": put(home / "embeddings" / f"{GRAPH}.h5"),
        "heads": put(home / "heads" / f"{64 * 'a'}.json"),
        "remote": put(home / "remote" / (32 * "b") / "pets.h5").parent,
    }


@pytest.fixture
def another_process():
    """Start a process that uses a path until it is ended."""
    started = []

    def using(path: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", USING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline().strip() == b"in use"
        return process

    yield using
    for process in started:
        process.kill()
        process.communicate()


def names(kind: str) -> list[str]:
    return [Path(item.path).name for item in cache.contents().kinds[kind].items]


def bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# What there is


def test_where_nothing_was_kept_the_caches_are_empty_and_stay_unmade(home):
    found = cache.contents()
    assert (found.folder, found.bytes, found.problems) == (str(home), 0, [])
    assert not any(kind.items for kind in found.kinds.values())
    done = cache.clear()
    assert (done.removed, done.freed, done.kept, done.problems) == (0, 0, [], [])
    assert not home.exists()


def test_everything_in_the_folder_is_counted_once_under_its_kind(home, one_of_each):
    put(home / "embeddings" / f"{GRAPH}.h5.units" / "one.h5")  # goes with the file
    put(home / "embeddings" / f"{GRAPH[:-1]}0.h5.units" / "one.h5")  # no file yet
    put(home / "graphs" / ".x.tmp")
    put(home / "graphs" / "notes.txt")
    put(home / "photos" / "1.jpg")
    found = cache.contents()
    assert {name: len(kind.items) for name, kind in found.kinds.items()} == {
        "graphs": 1,
        "int8": 1,
        "embeddings": 2,
        "heads": 1,
        "remote": 1,
        "unfinished": 1,
        "other": 2,
    }
    assert found.bytes == bytes_under(home)
    assert found.kinds["embeddings"].bytes == 30
    for name, path in one_of_each.items():
        assert path.name in names(name)


def test_a_link_counts_as_itself_and_not_as_what_it_leads_to(home, tmp_path):
    put(tmp_path / "photos" / "1.jpg", 5000)
    (home / "graphs").mkdir(parents=True)
    (home / "graphs" / GRAPH).symlink_to(tmp_path / "photos")
    assert cache.contents().bytes < 5000
    cache.clear()
    assert not (home / "graphs" / GRAPH).is_symlink()
    assert (tmp_path / "photos" / "1.jpg").exists()


def test_a_use_is_noted_without_changing_what_is_used(home, one_of_each):
    path = put(one_of_each["embeddings"], used=LONG_AGO)
    before = durable.state(path)
    (item,) = cache.contents().kinds["embeddings"].items
    assert item.last_used == LONG_AGO
    assert not item.in_use
    cache.use(path)
    (item,) = cache.contents().kinds["embeddings"].items
    assert time.time() - item.last_used < 100
    assert item.in_use
    assert durable.state(path) == before


def test_what_lies_elsewhere_is_no_business_of_the_caches(home, tmp_path):
    elsewhere = put(tmp_path / "mine" / "embeddings" / f"{GRAPH}.h5")
    cache.use(elsewhere)
    assert not home.exists()
    assert os.listdir(elsewhere.parent) == [elsewhere.name]


# What is removed


def test_clearing_removes_every_kind_and_says_what_the_disk_has_gained(home, one_of_each):
    put(home / "embeddings" / f"{GRAPH}.h5.units" / "one.h5")
    before = bytes_under(home)
    done = cache.clear()
    assert done.removed == len(one_of_each)
    assert done.freed == before - bytes_under(home) == before
    assert not done.kept
    assert not [path for path in home.rglob("*") if path.parent != home]


def test_what_headstart_did_not_make_is_left_alone(home, one_of_each):
    others = [
        put(home / "photos" / "1.jpg"),
        put(home / "graphs" / "notes.txt"),
        put(home / "embeddings" / "pets.h5"),
        put(home / "heads" / "pets.json"),
        put(home / "letter.txt"),
    ]
    cache.clear()
    assert all(path.exists() for path in others)
    assert not any(path.exists() for path in one_of_each.values())


@pytest.mark.parametrize("kind", ["graphs", "int8", "embeddings", "heads", "remote"])
def test_what_a_living_process_uses_stays_until_it_has_died(
    kind, home, one_of_each, another_process
):
    path = one_of_each[kind]
    process = another_process(path)
    assert cache.contents().kinds[kind].in_use == 1
    done = cache.clear()
    assert [path for path in one_of_each.values() if path.exists()] == [path]
    assert done.kept == [f"{path}: in use"]
    process.kill()
    process.wait()
    assert cache.contents().kinds[kind].in_use == 0
    done = cache.clear()
    assert (done.removed, done.freed, done.kept) == (1, 10, [])
    assert not path.exists()


def test_what_this_process_uses_stays_too(home, one_of_each):
    cache.use(one_of_each["graphs"])
    assert cache.clear().removed == len(one_of_each) - 1
    assert one_of_each["graphs"].exists()


def test_marks_of_what_is_gone_go_and_those_of_what_is_used_stay(home, another_process):
    another_process(graph(home))
    (home / "used" / "graphs-of-long-ago").mkdir()
    cache.clear()
    assert os.listdir(home / "used") == [f"graphs-{GRAPH}"]


def test_a_process_holds_only_so_many_marks_and_the_last_of_them(home, monkeypatch):
    monkeypatch.setattr(caches, "_MOST_HELD", 3)
    used = [graph(home, f"Xception-299-{number:016x}") for number in range(5)]
    for path in used:
        cache.use(path)
    assert [caches.is_used(path) for path in used] == [False, False, True, True, True]


def test_a_use_that_begins_while_the_thing_is_removed_has_a_mark_of_its_own(home):
    path = graph(home)
    mark = home / "used" / f"graphs-{GRAPH}"
    with caches._claimed(mark) as free:
        assert free
        using = threading.Thread(target=cache.use, args=(path,))
        using.start()
        mark.rmdir()
    using.join()
    assert caches.is_used(path)


def test_where_folders_cannot_be_locked_what_was_used_within_a_day_stays(home, monkeypatch):
    monkeypatch.setattr(caches, "_lock", lambda *_: None)
    path = graph(home)
    cache.use(path)
    assert cache.clear().kept == [f"{path}: in use"]
    os.utime(home / "used" / f"graphs-{GRAPH}", (LONG_AGO, LONG_AGO))
    assert cache.clear().removed == 1
    assert not path.exists()


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(home):
    graph(home)
    mine = put(durable.temporary_beside(home / "graphs" / GRAPH))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    other = put(mine.with_name(mine.name.replace(f".{os.getpid()}-", f".{dead.pid}-")), 1000)
    done = cache.clear()
    assert (mine.exists(), other.exists()) == (True, False)
    assert (done.removed, done.freed) == (2, 1010)


def test_unfinished_work_that_is_not_at_its_url_yet_stays(home):
    run = home / "remote" / (32 * "b") / "run-here" / "3-of-8"
    put(run / "pets.h5.units" / "one.h5")
    (line,) = cache.clear().kept
    assert "unfinished work that is not at its URL yet" in line
    (run / ".there").write_text("one.h5\n")
    assert cache.clear().removed == 1
    assert not run.exists()


# What cannot be


def test_a_folder_that_cannot_be_read_is_a_problem_and_the_others_are_told(home, one_of_each):
    put(home / "other")
    (home / "heads").rename(home / "moved")
    (home / "heads").write_text("in the way")
    found = cache.contents()
    assert found.problems == [f"{home / 'heads'}: cannot be read: Not a directory"]
    assert len(found.kinds["graphs"].items) == 1
    done = cache.clear()
    assert (done.removed, done.problems) == (4, found.problems)


def test_a_thing_that_cannot_be_removed_is_a_problem_and_the_others_go(
    home, one_of_each, monkeypatch
):
    original = os.rename

    def refuse(path, other):
        if Path(path) == one_of_each["graphs"]:
            raise PermissionError(13, "Permission denied")
        original(path, other)

    monkeypatch.setattr(os, "rename", refuse)
    done = cache.clear()
    place = one_of_each["graphs"]
    assert done.problems == [f"{place}: cannot be removed: Permission denied"]
    assert (done.removed, done.freed) == (4, 40)
    assert place.exists()
    assert cache.contents().kinds["graphs"].last_used == pytest.approx(place.stat().st_mtime)


def test_a_use_that_cannot_be_noted_is_one_all_the_same(home):
    home.write_text("in the way")
    cache.use(home / "graphs" / GRAPH)
    cache.trim()


# What goes by itself


def sparse(path: Path, size: int, used: float) -> Path:
    """A graph of that many bytes, which take no room."""
    folder = graph(path, f"Xception-299-{int(used):016x}", used=used)
    os.truncate(folder / "graph.bin", size)
    os.utime(folder, (used, used))
    return folder


def test_graphs_are_trimmed_to_five_gigabytes_by_the_oldest_use(home, one_of_each):
    os.utime(one_of_each["int8"], (1, 1))  # the oldest
    by_age = [sparse(home, 1_000_000_000, LONG_AGO + number) for number in range(7)]
    cache.use(by_age[0])  # the oldest of the others that was written, and the last that was used
    cache.trim()
    assert [path.exists() for path in by_age] == [True, False, False, False, True, True, True]
    assert not one_of_each["int8"].exists()
    graphs = held._found({"graphs"})
    assert graphs.bytes <= held.MOST_GRAPHS < graphs.bytes + 1_000_000_000
    assert all(one_of_each[kind].exists() for kind in ("embeddings", "heads", "remote"))


def test_trimming_never_takes_what_is_in_use(home, another_process):
    used, other = sparse(home, 4_000_000_000, 5.0), sparse(home, 4_000_000_000, 6.0)
    another_process(used)
    os.utime(home / "used" / f"graphs-{used.name}", (1, 1))  # of long ago, and still at work
    cache.trim()
    assert (used.exists(), other.exists()) == (True, False)
    sparse(home, 6_000_000_000, 7.0)
    cache.use(home / "graphs" / f"Xception-299-{7:016x}")
    cache.trim()
    assert sorted(os.listdir(home / "graphs")) == [used.name, f"Xception-299-{7:016x}"]


@pytest.fixture
def converting(monkeypatch):
    """Graphs of an engine that takes no library: a file of 10 bytes."""
    backend = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setattr(kept, "import_keras", lambda: backend)
    monkeypatch.setattr(
        kept.backbones, "build", lambda request: Backbone(None, 64 * "0", request.size, 8)
    )
    return kept.Graphs(
        engine="stand-in",
        files=("graph",),
        version=1,
        libraries=(),
        make=lambda _: bytes(10),
        save=lambda model, place, _: (place / "graph").write_bytes(model),
    )


def test_a_conversion_trims_what_earlier_ones_left_and_keeps_its_own(home, converting, caplog):
    old = sparse(home, 6_000_000_000, LONG_AGO)
    with caplog.at_level(logging.WARNING, "headstart"):
        found = converting.convert(Request.checked(weights="random", size=71))
    assert not old.exists()
    assert found.graph.exists()
    assert not caplog.records
    (item,) = cache.contents().kinds["graphs"].items
    assert Path(item.path) == found.graph.parent
    assert item.in_use


def test_reading_a_graph_is_a_use_of_it(home, converting):
    request = Request.checked(weights="random", size=71)
    place = converting.convert(request).graph.parent
    caches._held.clear()  # as in another process
    mark = home / "used" / f"graphs-{place.name}"
    os.utime(mark, (1, 1))
    assert cache.contents().kinds["graphs"].last_used == 1
    assert converting.cached(request) is not None
    assert time.time() - cache.contents().kinds["graphs"].last_used < 100


def test_the_vectors_of_an_image_embedder_are_in_use_as_long_as_it_may_be_asked(
    home, stand_in, photos
):
    stand_in("extract.vector_cache")
    embedder = ImageEmbedder(weights="random", size=71)
    paths = sorted(photos.rglob("*.png"))
    vectors = embedder.transform(paths)
    assert cache.clear().removed == 0  # they are those of this process
    (item,) = cache.contents().kinds["embeddings"].items
    assert item.in_use
    assert item.bytes > vectors.nbytes


def test_a_copy_of_a_url_is_in_use_where_it_is_read(home):
    folder = copies.home("s3://bucket/pets.h5")
    put(folder / "pets.h5")
    (item,) = cache.contents().kinds["remote"].items
    assert (item.path, item.in_use) == (str(folder), True)


def test_vectors_that_were_cleared_by_another_process_are_embedded_again(home, stand_in, photos):
    made = stand_in("extract.vector_cache")
    paths = sorted(photos.rglob("*.png"))
    embedder = ImageEmbedder(weights="random", size=73)
    vectors = embedder.transform(paths)
    for descriptor, _ in caches._held.values():
        os.close(descriptor)
    caches._held.clear()  # as if that process could not be seen
    assert cache.clear().removed == 1
    np.testing.assert_array_equal(embedder.transform(paths), vectors)
    assert made
