"""`embed`: whatever makes vectors, through the same units as images."""

import gc
import logging
import os
import subprocess
import sys
import time
import weakref
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas
import pytest
from headstart.extract import embed
from headstart.extract.encoders import making
from headstart.extract.encoders.encoder import described
from headstart.features import (
    BackboneError,
    FeatureFileError,
    FeatureStore,
    ProvenanceMismatch,
    SourceError,
    WrongUsage,
    child,
    layout,
    verify,
)
from headstart.features.journal import outputs, units
from headstart.features.journal.lock import exclusive

sys.path.insert(0, str(Path(__file__).parent))  # where the server of buckets is

TEXTS = [f"text number {number}" for number in range(30)]
D = 5


def vector_of(text):
    """Five numbers that no two texts have in common."""
    return np.random.default_rng(list(text.encode())).standard_normal(D).astype(np.float32)


class Counting:
    """An encoder of texts that remembers what it was asked for."""

    def __init__(self, broken=(), nan=(), error=ValueError):
        self.calls, self.broken, self.nan, self.error = [], set(broken), set(nan), error

    def __call__(self, texts):
        assert isinstance(texts, list)
        self.calls.append(list(texts))
        for text in texts:
            if text in self.broken:
                raise self.error(f"cannot read {text!r}\nsecond line")
        vectors = np.stack([vector_of(text) for text in texts])
        vectors[[text in self.nan for text in texts]] = np.nan
        return vectors

    @property
    def asked(self):
        return [text for call in self.calls for text in call]


STATED = {"name": "stub", "revision": "1"}


@pytest.fixture(autouse=True)
def _sealed_here(monkeypatch):
    """Have files sealed in this process: starting one takes longer than most tests."""
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "texts.h5"


@pytest.fixture
def a_batch_a_unit(monkeypatch):
    monkeypatch.setattr(making, "UNIT_SECONDS", 0.0)


def rows(store):
    return dict(zip(store.paths, store.features, strict=True))


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_file_holds_what_the_encoder_gives_row_by_row(counting, out):
    labels = ["even" if number % 2 == 0 else "odd" for number in range(30)]
    splits = ["train", "val", "test"] * 10
    groups = [number // 10 for number in range(30)]
    store = embed(
        counting, TEXTS, out, labels=labels, splits=splits, groups=groups, batch_size=7, **STATED
    )
    assert verify(out) == []
    assert sorted(store.paths) == store.paths == sorted(TEXTS)
    for number, text in enumerate(TEXTS):
        row = store.paths.index(text)
        np.testing.assert_array_equal(store.features[row], vector_of(text))
        assert store.label_names[store.labels[row]] == labels[number]
        assert store.splits[row] == 1 + number % 3
        assert store.group_names[store.groups[row]] == str(groups[number])
    assert [len(call) for call in counting.calls] == [7, 7, 7, 7, 2]
    made = store.provenance
    assert (made.kind, made.encoder, made.revision) == ("given", "stub", "1")
    assert (made.dimension, made.dtype) == (D, "float32")
    assert store.read("texts").tolist() == [text.encode() for text in store.paths]
    assert not units.folder_of(out).exists()
    summary = store.summary
    assert (summary.items, summary.embedded, summary.reused, summary.duplicates) == (30, 30, 0, 0)
    assert (summary.skipped, summary.removed) == (0, 0)


def test_nothing_is_embedded_twice_by_later_calls_whatever_the_ids(counting, out):
    embed(counting, TEXTS[:20], out, **STATED)
    first = FeatureStore(out).content_digest
    counting.calls.clear()
    again = embed(counting, TEXTS[:20], out, **STATED)
    assert (counting.calls, again.content_digest) == ([], first)
    more = embed(counting, TEXTS, out, **STATED)
    # Four known ones are looked at first, to see that the encoder is still the same.
    assert counting.calls == [TEXTS[:4], TEXTS[20:]]
    assert (more.summary.embedded, more.summary.reused) == (10, 20)
    counting.calls.clear()
    renamed = embed(counting, TEXTS, out, ids=range(30), **STATED)
    assert counting.calls == []
    np.testing.assert_array_equal(rows(renamed)["7"], vector_of(TEXTS[7]))
    assert renamed.summary.removed == 30
    assert verify(out) == []


def test_what_comes_twice_is_embedded_once_and_has_a_row_each(counting, out):
    given = ["a", "b", "a", "a", "b", "c"]
    store = embed(counting, iter(given), out, batch_size=2, **STATED)
    assert sorted(counting.asked) == ["a", "b", "c"]
    assert store.paths == ["a", "a#2", "a#3", "b", "b#2", "c"]
    assert (store.summary.embedded, store.summary.duplicates) == (3, 3)
    np.testing.assert_array_equal(rows(store)["a#3"], vector_of("a"))
    calls = len(counting.calls)
    assert embed(counting, given, out, **STATED).content_digest == store.content_digest
    assert len(counting.calls) == calls


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_an_interrupted_call_goes_on_to_the_file_of_an_undisturbed_one(
    batch, counting, out, tmp_path, interrupted_after, a_batch_a_unit
):
    whole = embed(Counting(), TEXTS, tmp_path / "whole.h5", **STATED)
    if batch < len(TEXTS):
        with interrupted_after(2):
            embed(counting, TEXTS, out, batch_size=batch, **STATED)
        assert len(list(units.folder_of(out).glob("*.h5"))) == 2
    done = 2 * batch if batch < len(TEXTS) else 0
    counting.calls.clear()
    store = embed(counting, iter(TEXTS), out, batch_size=batch, **STATED)
    assert store.content_digest == whole.content_digest
    probes = min(done, 4)
    assert counting.asked == TEXTS[:probes] + TEXTS[done:]
    assert store.summary.reused == done


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from headstart.extract import embed
from headstart.extract.encoders import making
from test_extract_embed import TEXTS, STATED, Counting

class Slow(Counting):
    def __call__(self, texts):
        time.sleep(0.05)
        return super().__call__(texts)

making.UNIT_SECONDS = 0.0
embed(Slow(), TEXTS, sys.argv[2], batch_size=2, **STATED)
"""


def test_a_killed_call_loses_no_published_unit(counting, out, tmp_path):
    whole = embed(Counting(), TEXTS, tmp_path / "whole.h5", **STATED)
    program = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(out)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, env=os.environ)
    folder = units.folder_of(out)
    try:
        while len(list(folder.glob("*.h5"))) < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    kept = sum(len(unit.keys) for unit in units.verified(folder))
    assert 6 <= kept < len(TEXTS)
    store = embed(counting, TEXTS, out, **STATED)
    assert store.content_digest == whole.content_digest
    assert counting.asked == TEXTS[:4] + TEXTS[kept:]
    assert sorted(os.listdir(tmp_path)) == [out.name, "whole.h5"]


@pytest.mark.skipif(find_spec("s3fs") is None, reason="s3fs is not installed")
@pytest.mark.usefixtures("opened_once")
def test_a_call_that_was_killed_goes_on_from_a_bucket_on_another_machine(
    served, counting, out, tmp_path, monkeypatch, interrupted_after, a_batch_a_unit
):
    whole = embed(Counting(), TEXTS, out, **STATED)
    served.reset()
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    how = {"out": "s3://photos/made/texts.h5", "batch_size": 5, **STATED}
    for machine in ("first", "second"):
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / machine))
        monkeypatch.setattr(outputs.platform, "node", lambda name=machine: name)
        if machine == "first":
            with interrupted_after(2):
                embed(counting, TEXTS, **how)
    counting.calls.clear()
    store = embed(counting, TEXTS, **how)
    assert store.content_digest == whole.content_digest
    assert counting.asked == TEXTS[:4] + TEXTS[10:]
    assert served.names() == ["made/texts.h5"]


@pytest.mark.parametrize("broken", [{3}, {0, 13, 29}, {4, 5, 6, 7}])
def test_items_that_the_encoder_fails_on_are_found_skipped_and_not_tried_again(broken, out):
    encoder = Counting(broken={TEXTS[number] for number in broken})
    store = embed(encoder, TEXTS, out, batch_size=8, **STATED)
    assert store.paths == sorted(set(TEXTS) - encoder.broken)
    assert {one.path for one in store.skipped} == encoder.broken
    for one in store.skipped:
        assert one.reason == f"the encoder fails on it: ValueError: cannot read {one.path!r}"
        assert not one.transient
    assert store.summary.skipped == len(broken)
    assert verify(out) == []
    encoder.calls.clear()
    assert embed(encoder, TEXTS, out, **STATED).content_digest == store.content_digest
    assert encoder.calls == []


def test_a_broken_item_that_comes_again_under_another_id_is_skipped_there_too(out):
    encoder = Counting(broken={"b"})
    store = embed(encoder, ["a", "b", "c", "b"], out, batch_size=2, **STATED)
    assert store.paths == ["a", "c"]
    assert [one.path for one in store.skipped] == ["b", "b#2"]
    assert encoder.asked.count("b") == 2  # in its batch, and alone


def test_an_item_whose_failure_may_pass_is_tried_again(out):
    encoder = Counting(broken={TEXTS[2]}, error=ConnectionError)
    (skipped,) = embed(encoder, TEXTS, out, **STATED).skipped
    assert skipped.transient
    encoder.broken.clear()
    store = embed(encoder, TEXTS, out, **STATED)
    assert (store.skipped, len(store)) == ([], 30)
    assert store.summary.embedded == 1


def test_vectors_that_are_not_finite_are_skipped(out):
    encoder = Counting(nan={TEXTS[1], TEXTS[20]})
    store = embed(encoder, TEXTS, out, batch_size=16, **STATED)
    assert {one.path for one in store.skipped} == encoder.nan
    assert {one.reason for one in store.skipped} == {
        "its vector has numbers that are not finite as float32"
    }
    assert len(encoder.calls) == 2
    assert verify(out) == []


def test_numbers_that_float16_does_not_hold_are_skipped(out):
    store = embed(
        lambda items: [[1e6 if item == "b" else 1.0] for item in items],
        ["a", "b"],
        out,
        dtype="float16",
        **STATED,
    )
    assert [one.path for one in store.skipped] == ["b"]
    assert store.features.dtype == np.float16


def test_a_batch_too_large_for_the_memory_is_halved_and_nothing_is_skipped(out, caplog):
    sizes = []

    def encode(texts):
        sizes.append(len(texts))
        if len(texts) > 5:
            raise MemoryError("no room")
        return [vector_of(text) for text in texts]

    with caplog.at_level(logging.WARNING, "headstart"):
        store = embed(encode, TEXTS, out, batch_size=16, **STATED)
    assert (len(store), store.skipped) == (30, [])
    assert sizes[:5] == [16, 8, 4, 4, 8]
    assert max(sizes[7:]) <= 8
    assert "going on with" in caplog.text


def test_an_encoder_that_dies_ends_the_call_and_what_was_finished_is_kept(out, a_batch_a_unit):
    texts = [f"t{number}" for number in range(100)]
    encoder = Counting()

    def dying(items):
        if len(encoder.asked) >= 20:
            raise RuntimeError("connection refused\nat 0x1")
        return encoder(items)

    with pytest.raises(BackboneError) as caught:
        embed(dying, texts, out, batch_size=10, **STATED)
    assert one_line(caught) == (
        "encoder: it failed on 10 items in a row, and then on one that it had embedded; the last "
        "time with RuntimeError: connection refused; mend it, then make the same call again: what "
        "is finished is kept"
    )
    later = Counting()
    assert len(embed(later, texts, out, batch_size=10, **STATED)) == 100
    assert not set(later.asked[4:]) & set(texts[:20])


def test_many_broken_items_in_a_row_do_not_end_the_call(out):
    encoder = Counting(broken={f"t{number}" for number in range(10, 60)})
    texts = [f"t{number}" for number in range(70)]
    store = embed(encoder, texts, out, batch_size=10, **STATED)
    assert (len(store), len(store.skipped)) == (20, 50)


def test_an_encoder_that_never_works_says_what_it_said(out):
    def wrong(items):
        return items.shape

    with pytest.raises(BackboneError, match=r"failed on 32 items in a row; .*AttributeError"):
        embed(wrong, [f"t{number}" for number in range(40)], out, **STATED)
    with pytest.raises(SourceError) as caught:
        embed(wrong, ["a", "b"], out, **STATED)
    assert "none of the 2 items can be used; the first is a: the encoder fails" in one_line(caught)
    assert not out.exists()
    assert not units.folder_of(out).exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.zeros((n, 3, 4)), r"shape \(6, 3, 4\)"),
        (lambda n: np.zeros(n), r"shape \(6,\); numbers of shape \(6, D\)"),
        (lambda n: np.zeros((n - 1, 4)), r"shape \(5, 4\)"),
        (lambda n: np.zeros((n, 0)), r"shape \(6, 0\)"),
        (lambda n: [["x"]] * n, r"array of <U1"),
        (lambda n: [[1], [1, 2]] * (n // 2), "is no array of numbers"),
        (lambda n: None, "shape"),
        (lambda n: {"a": 1}, "shape"),
    ],
)
def test_an_answer_that_is_no_vectors_is_told_in_one_line(answer, message, out):
    with pytest.raises(BackboneError, match=message) as caught:
        embed(lambda items: answer(len(items)), TEXTS[:6], out, **STATED)
    assert one_line(caught).startswith("encoder: ")
    assert not out.exists()


def test_vectors_of_two_lengths_are_refused(counting, out):
    embed(counting, TEXTS[:5], out, **STATED)
    with pytest.raises(BackboneError, match=r"shape \(\d, 3\); numbers of shape .* D = 5"):
        embed(lambda items: np.ones((len(items), 3)), TEXTS, out, **STATED)
    assert len(FeatureStore(out)) == 5


def test_an_encoder_that_gives_other_vectors_than_before_is_refused(counting, out, a_batch_a_unit):
    embed(counting, TEXTS[:10], out, **STATED)
    before = out.read_bytes()

    def shifted(texts):
        return [1.01 * vector_of(text) for text in texts]

    for given in (TEXTS, TEXTS[::-1]):  # known ones first, and last
        with pytest.raises(ProvenanceMismatch, match=r"relative distance 0.0099, at most 0.001"):
            embed(shifted, given, out, batch_size=4, **STATED)
        assert out.read_bytes() == before
        assert not units.folder_of(out).exists()
    near = embed(shifted, TEXTS, out, tolerance=0.02, **STATED)
    assert near.summary.embedded == 20


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"name": "other"}, "encoder is stub against other"),
        ({"revision": "2"}, "revision is 1 against 2"),
        ({"settings": {"layer": 2}}, "settings of stub differ, in layer"),
        ({"dtype": "float16"}, "dtype is float32 against float16"),
    ],
)
def test_another_encoder_never_adds_to_a_file_and_fresh_makes_it_anew(said, field, counting, out):
    embed(counting, TEXTS, out, settings={"layer": 1, "pooling": "mean"}, **STATED)
    counting.calls.clear()
    how = {"settings": {"layer": 1, "pooling": "mean"}} | STATED | said
    with pytest.raises(ProvenanceMismatch, match=field) as caught:
        embed(counting, [*TEXTS, "new"], out, **how)
    assert "fresh=True" in one_line(caught)
    assert counting.calls == []
    anew = embed(counting, [*TEXTS, "new"], out, fresh=True, **how)
    assert anew.summary.embedded == 31
    assert verify(out) == []


def test_fresh_goes_on_with_what_an_interrupt_left_of_the_same_settings(
    counting, out, interrupted_after, a_batch_a_unit
):
    embed(Counting(), TEXTS, out, name="old", revision="0")
    with interrupted_after(2):
        embed(counting, TEXTS, out, fresh=True, batch_size=5, **STATED)
    counting.calls.clear()
    assert len(embed(counting, TEXTS, out, fresh=True, batch_size=5, **STATED)) == 30
    assert counting.asked == TEXTS[:4] + TEXTS[10:]


def test_a_file_of_images_is_refused_by_its_kind(counting, out, make_store):
    store = make_store(np.ones((4, D)), ["a", "a", "b", "b"], name="texts.h5")
    with pytest.raises(ProvenanceMismatch, match="kind is images against given"):
        embed(counting, TEXTS, store.path, **STATED)


def test_no_vector_is_let_go_of_unasked(counting, out):
    embed(counting, TEXTS, out, **STATED)
    for few in (TEXTS[:5], iter(TEXTS[:5])):
        with pytest.raises(WrongUsage, match="25 of its 30 vectors are of no item of this call"):
            embed(counting, few, out, **STATED)
        assert len(FeatureStore(out)) == 30
    store = embed(counting, TEXTS[:5], out, remove=True, **STATED)
    assert (len(store), store.summary.removed) == (5, 25)


def test_one_call_at_a_time_works_on_a_file(counting, out):
    with exclusive(out), pytest.raises(FeatureFileError, match="another run of headstart"):
        embed(counting, TEXTS, out, **STATED)


class Thing:
    """What weak references can point at, and only the user knows the content of."""

    def __init__(self, number):
        self.number = number


def test_no_more_than_a_batch_of_an_iterator_is_in_memory(out):
    alive, most = weakref.WeakSet(), 0

    def things():
        nonlocal most
        for number in range(200):
            thing = Thing(number)
            alive.add(thing)
            gc.collect(0)
            most = max(most, len(alive))
            yield thing

    store = embed(
        lambda batch: [[one.number, 1.0] for one in batch],
        things(),
        out,
        digest=lambda thing: str(thing.number),
        batch_size=8,
        **STATED,
    )
    assert len(store) == 200
    assert most <= 8 + 3


def test_texts_bytes_and_arrays_of_the_same_bytes_are_other_contents(out):
    given = ["ab", b"ab", np.frombuffer(b"ab", np.uint8), np.array([[97, 98]], np.uint8)]
    given += [np.array([97, 98], np.int16), np.array([97, 98], ">i2")]
    seen = []

    def encode(items):
        seen.extend(items)
        return [[float(len(seen))]] * len(items)

    store = embed(encode, given, out, batch_size=1, **STATED)
    assert len(store) == 6
    assert len(seen) == 5  # the order of the bytes of a number is no content
    assert "ab" in store.paths


def test_files_are_known_by_their_content_and_read_again_only_if_they_changed(
    tmp_path, out, monkeypatch
):
    from headstart.extract.encoders.items import ImageReference

    paths = [tmp_path / f"{name}.txt" for name in "abc"]
    for path in paths:
        path.write_text(path.stem * 3)
    read, original = [], ImageReference.read
    monkeypatch.setattr(
        ImageReference, "read", lambda self: (read.append(self.location), original(self))[1]
    )
    asked = []

    def encode(given):
        asked.extend(given)
        return [[len(path.read_text()), ord(path.stem)] for path in given]

    store = embed(encode, paths, out, **STATED)
    assert asked == paths
    assert store.paths == [str(path) for path in paths]
    read.clear()
    embed(encode, paths, out, **STATED)
    assert read == []
    paths[1].write_text("longer now")
    (tmp_path / "copy.txt").write_text("aaa")
    asked.clear()
    more = [*paths, tmp_path / "copy.txt", tmp_path / "none.txt"]
    store = embed(encode, more, out, remove=True, **STATED)  # of what was in b.txt
    assert [path.name for path in asked] == ["a.txt", "c.txt", "b.txt"]  # two to compare by
    assert rows(store)[str(tmp_path / "copy.txt")].tolist() == [3, ord("a")]
    (skipped,) = store.skipped
    assert (Path(skipped.path).name, skipped.reason[:16]) == ("none.txt", "cannot be opened")
    paths[0].unlink()
    assert str(paths[0]) in embed(encode, paths, out, **STATED).paths  # not lost, only away


def test_ids_of_long_and_odd_texts_are_short_and_tell_them_apart(counting, out):
    long = "word " * 100
    given = [long + "a", long + "b", "two\nlines", "nul\0", "", "é" * 100, "\ud800"]
    store = embed(counting_bytes, given, out, **STATED)
    assert len(set(store.paths)) == len(given)
    assert max(len(path) for path in store.raw_paths) <= 160
    assert sum(path.startswith("word word") for path in store.paths) == 2
    assert all(path.isprintable() for path in store.paths)


def counting_bytes(texts):
    return [[len(text), 1.0] for text in texts]


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        (["a"], {"name": None}, "encoder: counting_bytes does not say what it is"),
        (["a"], {"name": None, "revision": None}, "give name=.* and revision="),
        ("one text", {}, "items: several are expected, .* received a str"),
        (3, {}, "items: several are expected, .* received a int"),
        ([], {}, "there are no items to embed"),
        ([["tokens"]], {}, r"items\[0\] is a list: texts, bytes, arrays .* give digest="),
        (["a", None], {}, r"items\[1\] is a NoneType"),
        ([np.array([object()])], {}, r"items\[0\] is a ndarray"),
        (["a", "b"], {"ids": ["x"]}, "ids: 1 of them, but 2 items"),
        (["a", "b"], {"labels": iter("x")}, "labels: 1 of them, but more items"),
        (["a", "b"], {"groups": iter("xyz")}, "groups: more than the 2 items"),
        (["a", "b"], {"labels": "xy"}, "labels: several are expected"),
        (["a", "b"], {"ids": ["x", "x"]}, r"ids: 'x' is that of items\[0\] and of items\[1\]"),
        (["a"], {"ids": [""]}, r"ids\[0\]: 1 to 4,096 bytes"),
        (["a"], {"ids": [1.5]}, r"ids\[0\] is a float"),
        (["a"], {"splits": ["dev2"]}, r"splits\[0\] is 'dev2'; use one of none, train"),
        (["a"], {"ids": ["\ud800"]}, r"ids\[0\] is '.ud800': half a character"),
        (["a"], {"labels": ["\ud800"]}, r"labels\[0\] is '.ud800'; a text or a whole number"),
        (["a"], {"groups": [np.arange(2)]}, r"groups\[0\] is array"),
        (["a"], {"settings": ["layer"]}, "settings: JSON cannot say them .*not a mapping"),
        (["a"], {"batch_size": 0}, "batch_size 0"),
        (["a"], {"dtype": "int8"}, "dtype 'int8'"),
        (["a"], {"tolerance": float("nan")}, "tolerance nan"),
        (["a"], {"settings": {"layer": object()}}, "settings: JSON cannot say them"),
        (["a"], {"preprocessor": len}, "preprocessor: only a Keras model"),
        (["a"], {"digest": lambda item: None}, r"digest: of items\[0\] it gave None"),
    ],
)
def test_bad_input_gets_one_clear_line(given, how, message, out):
    with pytest.raises((WrongUsage, SourceError), match=message) as caught:
        embed(counting_bytes, given, out, **STATED | how)
    one_line(caught)
    assert not out.exists()
    assert not units.folder_of(out).exists()


def test_values_that_are_missing_and_whole_numbers_are_taken_as_pandas_has_them(out):
    store = embed(
        counting_bytes,
        ["a", "bb", "ccc"],
        out,
        labels=pandas.Series([1, None, 2]),
        groups=pandas.Series(["x", None, "x"], dtype="string"),
        splits=pandas.Series(["train", None, "test"]),
        **STATED,
    )
    assert store.label_names == ["1", "2"]
    assert store.labels.tolist() == [0, -1, 1]
    assert store.groups.tolist() == [0, -1, 0]
    assert [layout.SPLIT_NAMES[code] for code in store.splits] == ["train", "none", "test"]


def test_arrays_that_differ_in_their_mask_are_other_items(out):
    items = [np.ma.masked_array([1.0, 2.0], mask) for mask in ([0, 1], [0, 0], [1, 0])]
    store = embed(lambda some: [[one.sum()] for one in some], items, out, **STATED)
    assert sorted(store.features.ravel().tolist()) == [1.0, 2.0, 3.0]


def test_numbers_of_a_vector_that_are_masked_are_none(out):
    def partly(items):
        return np.ma.masked_array(np.ones((len(items), 2)), [[item == "b", 0] for item in items])

    store = embed(partly, ["a", "b"], out, **STATED)
    assert store.paths == ["a"]
    assert "not finite" in store.skipped_files[0].reason


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (7, "received a int"),
        (Counting, "the class Counting .give an instance"),
        (None, "received a NoneType"),
    ],
)
def test_what_embeds_nothing_is_refused(encoder, message, out):
    with pytest.raises(WrongUsage, match=message):
        embed(encoder, TEXTS, out, **STATED)


def test_more_shards_than_one_are_refused(counting, tmp_path):
    with pytest.raises(WrongUsage, match="makes one file"):
        embed(counting, TEXTS, tmp_path / "texts-*-of-00002.h5", **STATED)


# Encoders that say what they are.


WORDS = [f"{a} {b} {c}" for a in ("red", "blue") for b in ("cat", "dog") for c in ("sat", "ran")]


def fitted(words=WORDS, **how):
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(**how).fit(words)


def test_a_transformer_of_texts_is_an_encoder_as_it_is(out):
    encoder = fitted()
    store = embed(encoder, WORDS, out, batch_size=3)
    expected = encoder.transform(WORDS).toarray().astype(np.float32)
    for text, vector in zip(WORDS, expected, strict=True):
        np.testing.assert_array_equal(rows(store)[text], vector)
    made = store.provenance
    assert made.encoder == "TfidfVectorizer"
    assert made.revision.startswith("scikit-learn 1.")
    # One that was fitted anew to the same is the same; to others, or with others, it is not.
    assert embed(fitted(), [*WORDS, "red"], out).summary.embedded == 1
    for other in (fitted(WORDS[1:]), fitted(sublinear_tf=True)):
        with pytest.raises(ProvenanceMismatch, match="settings of TfidfVectorizer differ, in "):
            embed(other, WORDS, out)


def test_a_pipeline_of_arrays_is_an_encoder_as_it_is(out):
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    arrays = np.random.default_rng(0).standard_normal((20, 6))
    encoder = make_pipeline(StandardScaler(), PCA(2)).fit(arrays)
    store = embed(encoder, arrays, out, ids=range(10, 30), batch_size=6)
    np.testing.assert_allclose(store.features, encoder.transform(arrays), rtol=1e-5, atol=1e-6)
    assert store.provenance.encoder == "StandardScaler + PCA"


def test_a_transformer_that_is_not_fitted_or_cannot_be_told_apart_is_refused(out):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(WrongUsage, match="this TfidfVectorizer is not fitted yet"):
        embed(TfidfVectorizer(), WORDS, out)
    unnamed = FunctionTransformer(lambda texts: [[len(text)] for text in texts])
    with pytest.raises(WrongUsage, match=r"lambda.* has no lasting name, .* revision=") as caught:
        embed(unnamed, WORDS, out)
    one_line(caught)
    assert len(embed(unnamed, WORDS, out, revision="1")) == len(WORDS)


def test_the_digest_of_a_fitted_transformer_is_the_same_in_every_process():
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "from test_extract_embed import *; encoder = fitted(); encoder.transform(WORDS);"
        "print(described(encoder).settings['fitted'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},  # other orders of sets
    )
    assert done.stdout.strip() == described(fitted()).settings["fitted"]


def dense(units=3, seed=0):
    import keras

    inputs = keras.Input((4,))
    kernel = keras.initializers.GlorotUniform(seed=seed)
    hidden = keras.layers.Dense(8, "relu", kernel_initializer=kernel)(inputs)
    hidden = keras.layers.Dropout(0.5)(hidden)
    return keras.Model(inputs, keras.layers.Dense(units, kernel_initializer=kernel)(hidden))


def test_a_keras_model_is_an_encoder_as_it_is_and_the_same_when_it_is_built_again(out):
    model = dense()
    arrays = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    store = embed(model, arrays[:5], out, ids=range(5), batch_size=2)
    np.testing.assert_allclose(
        store.features, model.predict(arrays[:5], verbose=0), rtol=1e-5, atol=1e-6
    )
    assert store.provenance.encoder == "Functional"
    again = dense()  # Keras gives its layers other names
    assert again.layers[1].name != model.layers[1].name
    assert embed(again, arrays, out, ids=range(9)).summary.embedded == 4
    with pytest.raises(ProvenanceMismatch, match="revision is weights"):
        embed(dense(seed=1), arrays, out, ids=range(9))


def test_models_that_differ_in_what_is_no_weight_are_not_the_same():
    import keras

    def settings(activation):
        inputs = keras.Input((4,))
        return described(keras.Model(inputs, keras.layers.Activation(activation)(inputs))).settings

    assert settings("relu") == settings("relu")
    assert settings("relu") != settings("tanh")

    def vocabulary(words):
        layer = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=10)
        layer.adapt(words)
        return described(keras.Sequential([keras.Input((), dtype="string"), layer])).settings

    assert vocabulary(["red cat"]) == vocabulary(["red cat"])
    assert vocabulary(["red cat"]) != vocabulary(["red dog"])


def test_a_model_of_texts_gets_texts_and_so_does_a_layer(out):
    import keras

    layer = keras.layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(WORDS)
    model = keras.Sequential([keras.Input((), dtype="string"), layer])
    store = embed(model, WORDS, out, batch_size=3)
    expected = keras.ops.convert_to_numpy(layer(WORDS))
    for text, vector in zip(WORDS, expected, strict=True):
        np.testing.assert_allclose(rows(store)[text], vector, rtol=1e-6)
    alone = embed(layer, WORDS, out.with_name("layer.h5"), batch_size=3)
    np.testing.assert_array_equal(alone.features, store.features)
    assert alone.provenance.encoder == "TextVectorization"


def tokens(texts):
    """Lengths of words, and which there are: what a preprocessor of keras-hub gives."""
    rows = [[len(word) for word in text.split()][:4] for text in texts]
    padded = np.array([row + [0] * (4 - len(row)) for row in rows])
    return {"token_ids": padded, "padding_mask": (padded > 0).astype(int)}


class Tokens:
    """The same, saying how it is set."""

    def __init__(self, most=4):
        self.most = most

    def __call__(self, texts):
        return tokens(texts)

    def get_config(self):
        return {"most": self.most}


def backbone():
    """Gives what BERT does: a vector of each token, and one of the first alone."""
    import keras

    ids, mask = (
        keras.Input((4,), dtype="int32", name=name) for name in ("token_ids", "padding_mask")
    )
    table = keras.layers.Embedding(10, 3, embeddings_initializer=keras.initializers.Orthogonal(0))
    sequence = table(ids)
    outputs = {"sequence_output": sequence, "pooled_output": sequence[:, 0]}
    return keras.Model({"token_ids": ids, "padding_mask": mask}, outputs)


def test_of_the_tokens_of_a_text_the_mean_is_taken_over_those_that_there_are(out):
    model, texts = backbone(), ["a", "a bb", "ccc bb a dddd"]
    store = embed(model, texts, out, preprocessor=Tokens())
    (table,) = model.get_weights()
    for text in texts:
        lengths = [len(word) for word in text.split()]
        expected = table[lengths].mean(axis=0)
        np.testing.assert_allclose(rows(store)[text], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ProvenanceMismatch, match="settings of Functional differ, in preprocessor"):
        embed(model, texts, out, preprocessor=Tokens(3))
    with pytest.raises(WrongUsage, match=r"preprocessor: a function does not say .*settings="):
        embed(model, texts, out, preprocessor=tokens)
    stated = embed(
        model,
        texts,
        out.with_name("stated.h5"),
        preprocessor=tokens,
        settings={"preprocessor": "lengths of words"},
    )
    np.testing.assert_array_equal(stated.features, store.features)


def test_a_backbone_of_keras_hub_is_an_encoder_with_its_preprocessor(out):
    keras_hub = pytest.importorskip("keras_hub")
    import keras

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "ran"]

    def preprocessor(vocabulary):
        tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
        return keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)

    keras.utils.set_random_seed(0)
    bert = keras_hub.models.BertBackbone(
        vocabulary_size=len(words),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
    )
    texts = ["the cat sat", "the dog", "the cat ran the dog ran"]
    store = embed(bert, texts, out, preprocessor=preprocessor(words), batch_size=2)
    inputs = preprocessor(words)(texts)
    inputs = inputs[0] if isinstance(inputs, tuple) else inputs
    tokens = keras.ops.convert_to_numpy(bert(inputs)["sequence_output"])
    there = keras.ops.convert_to_numpy(inputs["padding_mask"]).astype(bool)
    for text, vectors, mask in zip(texts, tokens, there, strict=True):
        expected = vectors[mask].mean(axis=0)
        np.testing.assert_allclose(rows(store)[text], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ProvenanceMismatch, match="settings of BertBackbone differ, in preproc"):
        embed(bert, texts, out, preprocessor=preprocessor([*words[:-1], "slept"]))


def test_a_model_without_weights_yet_or_of_several_answers_is_refused_in_one_line(out):
    import keras

    with pytest.raises(WrongUsage, match="weights of Sequential come into being"):
        embed(keras.Sequential([keras.layers.Dense(3)]), np.ones((3, 4)), out)
    inputs = keras.Input((4,))
    two = keras.Model(inputs, {"a": keras.layers.Dense(1)(inputs), "b": inputs})
    with pytest.raises(BackboneError, match=r"several arrays \(a, b\)") as caught:
        embed(two, np.ones((3, 4)), out)
    one_line(caught)
