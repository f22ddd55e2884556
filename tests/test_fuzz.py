"""Inputs that nobody thought of: whatever Hypothesis draws gets a right answer, or a reason.

Each test is run on the same few examples every time, and by hand on new ones for twelve minutes:
``python3 -m pytest -m sweep tests/test_fuzz.py`` (``FUZZ_SECONDS`` sets another time). What that
finds goes in by `example`. What is drawn is described in the folder `fuzz`.
"""

import collections
import contextlib
import functools
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from headstart.classify import train
from headstart.extract import pipeline, scan
from headstart.extract.images import decode as decoding
from headstart.extract.images.decode import Decoded, Undecodable
from headstart.features import HeadstartError, SourceError, child, verify
from headstart.features.errors import printable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

resource = pytest.importorskip("resource")
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="names, links and pipes of POSIX"),
    pytest.mark.filterwarnings("ignore"),
]

SECONDS = float(os.environ.get("FUZZ_SECONDS", 12 * 60))


def budget(examples: int):
    """A number of examples, always the same; or seconds of new ones, by hand."""
    return pytest.mark.parametrize(
        "spent", [examples, pytest.param(SECONDS, marks=pytest.mark.sweep)], ids=["few", "minutes"]
    )


def explore(spent, check, outcomes) -> None:
    """Have Hypothesis try a `given` function, which counts its outcomes; see `budget`."""
    by_hand = isinstance(spent, float)
    tried = settings(
        max_examples=300 if by_hand else spent,
        derandomize=not by_hand,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(check)
    started = time.monotonic()
    tried()
    while by_hand and time.monotonic() - started < spent:
        tried()
    print(dict(outcomes))
    assert len(outcomes) > 1  # otherwise what is drawn is all of one kind, and says little


def require_line(error: Exception, start: str) -> None:
    """It can be read at a glance, and begins with the name of the file."""
    said = printable(str(error))
    assert said.startswith(start)
    assert 0 < len(str(error)) < 1500


def neighbour(name: str):
    """Another file of tests, for what it has in common with this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile, strangers = neighbour("test_features_hostile"), neighbour("test_classify_strangers")
manifests, folders, images = map(neighbour, ("fuzz/manifests", "fuzz/folders", "fuzz/images"))
parts, feature_files = map(neighbour, ("fuzz/heads", "fuzz/feature_files"))

sound = hostile.sound  # a fixture
PROPER = manifests.PROPER
FITS = st.sampled_from(decoding.FITS)


@contextlib.contextmanager
def new_folder():
    """A folder of one example."""
    folder = tempfile.mkdtemp()
    try:
        yield os.fsencode(folder)
    finally:
        shutil.rmtree(os.fsencode(folder))


def mutated(data: bytes, changes) -> bytes:
    """Bytes with parts flipped, cut out, put in, or there again."""
    file = bytearray(data)
    for kind, place, size, more in changes:
        at = int(place * len(file))
        if kind == "flip" and file:
            file[min(at, len(file) - 1)] ^= 1 << size % 8
        elif kind == "cut":
            del file[at : at + size]
        elif kind == "insert":
            file[at:at] = more
        elif kind == "overwrite":
            file[at : at + len(more)] = more
        elif kind == "repeat":
            file[at:at] = file[at : at + size]
        elif kind == "end":
            del file[at:]
    return bytes(file)


# Many numbers that matter stand at the start of a file.
PLACES = st.floats(0, 1, exclude_max=True) | st.floats(0, 1, exclude_max=True).map(lambda x: x**4)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "overwrite", "repeat", "end"]),
        PLACES,
        st.integers(1, 60),
        st.binary(min_size=1, max_size=8)
        | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0"]),
    ),
    max_size=5,
)


@pytest.fixture(scope="module")
def listed_folder(tmp_path_factory):
    folder = os.fsencode(tmp_path_factory.mktemp("manifest"))
    manifests.fill(folder)
    return folder


@budget(700)
def test_a_manifest_is_a_list_of_its_images_or_one_line(spent, listed_folder):
    file = os.path.join(listed_folder, b"list.csv")
    outcomes = collections.Counter()

    @given(
        manifests.TABLES,
        manifests.CSV,
        manifests.ENCODINGS,
        st.just(()) | st.just(()) | MUTATIONS,
        st.sampled_from(["folder", "none"]),
    )
    @example((PROPER, [["a.jpg"], ["x/" * 3000]]), {}, "utf-8", (), "folder")
    @example((PROPER, [["a.jpg", "", "x" * 9000]]), {}, "utf-8", (), "folder")
    @example(([*PROPER, "label "], [["a.jpg", "cat", "", "dog"]]), {}, "utf-8", (), "folder")
    def check(table, options, encoding, changes, labels):
        header, rows = table
        data = manifests.written(table, encoding, options)
        with open(file, "wb") as opened:
            opened.write(mutated(data, changes))
        try:
            listed = scan(os.fsdecode(file), labels)
        except SourceError as error:
            require_line(error, os.fsdecode(file))
            outcomes["refused"] += 1
            return
        outcomes["list"] += 1
        columns = [column.strip() for column in header]
        assert listed
        assert len({image.path for image in listed}) == len(listed)
        there = [os.path.lexists(image.location) for image in listed]
        assert sum(there) * 2 >= len(there)
        here = set(map(os.fsdecode, manifests.HERE))
        if (
            not changes
            and encoding.startswith("utf-8")
            and options.get("delimiter", ",") == ","
            and columns in (PROPER, PROPER[:2])
            # csv quotes the ends of lines that it writes, and no others.
            and not any("\n" in cell or "\r" in cell for row in rows for cell in row)
            and {row[0] for row in rows} <= here
            and len({row[0] for row in rows}) == len(rows)
        ):
            meant = (dict(zip(columns, row, strict=False)) for row in rows)
            given = [
                (
                    os.path.join(listed_folder, os.fsencode(row["path"])),
                    unicodedata.normalize("NFC", row.get("label", "").strip()) or None,
                    manifests.SPLITS.get(row.get("split", "").strip().lower()),
                )
                for row in meant
            ]
            if labels == "none":
                given = [(location, None, "none") for location, _, _ in given]
            assert [(image.location, image.label, image.split) for image in listed] == given
            outcomes["as given"] += 1

    explore(spent, check, outcomes)


@budget(60)
def test_every_image_of_a_folder_has_a_row_or_a_reason_and_is_embedded_once(
    spent, make_stub, monkeypatch
):
    # The child process that seals has tests of its own; here it would cost half a second a run.
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nor does anybody pull the plug
    run = functools.partial(pipeline.run, unit_images=4)
    outcomes = collections.Counter()

    @given(folders.FOLDERS)
    def check(tree):
        with new_folder() as home:
            root, out = os.path.join(home, b"source"), Path(os.fsdecode(home), "out.h5")
            folders.plant(root, tree)
            try:
                store = run(make_stub(), os.fsdecode(root), out)
            except HeadstartError:
                assert not out.exists()
                assert not folders.usable(root)
                outcomes["refused"] += 1
                return
            rows, skipped = store.raw_paths, [file.path for file in store.skipped_files]
            assert sorted([*rows, *skipped]) == sorted(folders.image_files(root))
            assert all(one.reason for one in store.skipped)
            assert verify(out) == []
            again = run(make_stub(), os.fsdecode(root), out)
            assert again.summary.embedded == 0
            assert again.content_digest == store.content_digest
            outcomes["rows and reasons" if skipped else "rows"] += 1

    explore(spent, check, outcomes)


@budget(1500)
def test_an_image_of_any_kind_is_decoded_as_pillow_decodes_it_whatever_stands_beside(spent):
    outcomes = collections.Counter()

    @given(images.files(), images.THINGS, st.integers(1, 8), st.integers(1, 100), FITS)
    def check(file, things, turn, size, fit):
        format, data = file
        whole = images.beside(format, data, turn, things)
        if whole is None or format == "GIF":
            turn = 1
        wanted = images.plainly(data, turn, size, fit).astype(int)
        seen = decoding.decode(data if whole is None else whole, size, fit).pixels
        assert np.abs(seen - wanted).max() <= (turn > 1), (format, len(data))
        outcomes["bare" if whole is None else "turned" if turn > 1 else "upright"] += 1

    explore(spent, check, outcomes)


@budget(1500)
def test_an_image_with_bytes_changed_is_decoded_or_has_a_reason_and_soon(spent):
    outcomes = collections.Counter()

    @given(images.files(), images.THINGS, MUTATIONS, st.sampled_from([16, 150]), FITS)
    def check(file, things, changes, size, fit):
        format, data = file
        data = mutated(images.beside(format, data, 6, things) or data, changes)
        if format == "PNG" and size == 16:
            data = images.repaired(data)
        started = time.thread_time()
        try:
            assert isinstance(decoding.decode(data, size, fit), Decoded)
            outcomes["pixels"] += 1
        except Undecodable as error:
            require_line(error, "")
            outcomes["reason"] += 1
        assert time.thread_time() - started < 10

    explore(spent, check, outcomes)


@budget(400)
def test_a_head_of_anybody_is_a_sound_head_or_one_line(spent, make_store, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 12)) + np.arange(60)[:, None] % 3
    splits = ["train"] * 42 + ["test"] * 18
    store = make_store(features, ["cat", "dog", "hen"] * 20, splits=splits)
    path = tmp_path / "head.skops"
    heads = {}
    for name in ("logistic", "svm", "svm-rbf"):
        train(store, name).save(path)
        heads[name] = parts.taken_apart(strangers.members(path), strangers)
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "another machine"))
    outcomes = collections.Counter()

    @given(parts.archives(heads, strangers), st.just(()) | MUTATIONS)
    def check(contents, changes):
        strangers.archived(path, contents)
        path.write_bytes(mutated(path.read_bytes(), changes))
        outcomes[type(strangers.taken(path)).__name__] += 1

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    explore(spent, check, outcomes)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sys.platform != "linux" or grown < 300 * 1024  # KiB


def answer(use):
    """What a use gives, or the one line that says why it gives nothing."""
    try:
        return use()
    except HeadstartError as error:
        require_line(error, "")
        return error


@budget(250)
def test_a_feature_file_of_anybody_gets_an_answer_or_one_line_from_each_command(
    spent, sound, make_stub, tmp_path, monkeypatch
):
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)
    path = tmp_path / "hostile.h5"
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    commands = sorted(hostile.uses(path, sound, None))
    outcomes = collections.Counter()

    @given(
        st.lists(feature_files.changes(hostile), max_size=4),
        st.just(()) | MUTATIONS,
        st.lists(st.sampled_from(commands), min_size=1, max_size=2, unique=True),
    )
    def check(changes, bytes_changed, used):
        path.write_bytes(sound["data"])
        with h5py.File(path, "a") as file:
            for change in changes:
                with contextlib.suppress(Exception):  # an earlier one took away what it changes
                    change(file)
        with contextlib.suppress(Exception):
            hostile.sealed_again(path)
        path.write_bytes(mutated(path.read_bytes(), bytes_changed))
        feature_files.require_rules(path)
        uses = hostile.uses(path, sound, make_stub())
        before = answer(lambda: verify(path))
        for command in used:
            with contextlib.redirect_stdout(io.StringIO()):
                said = answer(uses[command])
            outcomes["line" if isinstance(said, HeadstartError) else "answer"] += 1
            if command == "extract" and not isinstance(said, HeadstartError):
                assert not isinstance(before, HeadstartError)
                assert set(verify(path)) <= set(before)
                before = verify(path)

    explore(spent, check, outcomes)
