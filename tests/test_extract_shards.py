"""Parts of a source embedded by separate processes, as in a job array, and sealed by one."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from headstart.extract import extract, extract_shard, scan, seal
from headstart.extract.backbones.weights import QUANTISED, WeightsSource
from headstart.extract.work import plan, shards
from headstart.features import FeatureFileError, FeatureStore, WrongUsage, child, verify
from headstart.features.journal import graphs, units
from headstart.features.journal.lock import exclusive, shared
from headstart.features.journal.shards import Shard, agree, kept, whose
from headstart.features.provenance.graph import Graph

IMAGES = 40
SHARDS = 4

make = functools.partial(extract_shard, unit_images=3, weights="random", size=71)


@pytest.fixture
def photos(tmp_path, fill_photos):
    return fill_photos(tmp_path / "photos", count=IMAGES // 2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture(autouse=True)
def made(stand_in):
    return stand_in("extract.work.shards", "extract.pipeline")


@pytest.fixture(autouse=True)
def _sealed_here(monkeypatch):
    """Have files sealed in this process, which takes half a second less."""
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)


@pytest.fixture
def expected(photos, tmp_path):
    return extract(photos, tmp_path / "whole.h5", weights="random", size=71).content_digest


def all_shards(photos, out, **more):
    return [make(photos, out, (number, SHARDS), **more) for number in range(1, SHARDS + 1)]


def test_shards_in_any_order_are_sealed_into_the_file_of_one_run(photos, out, expected):
    (photos / "blue" / "page.png").write_bytes(b"<html>")
    parts = all_shards(photos, out)[::-1]
    assert sum(part.images for part in parts) == IMAGES + 1 == parts[0].of
    assert sum(part.embedded for part in parts) == IMAGES
    assert sum(part.skipped for part in parts) == 1
    assert not out.exists()
    store = seal(out)
    assert store.content_digest == expected
    assert (store.summary.embedded, store.summary.reused) == (0, IMAGES)
    assert [one.path for one in store.skipped] == ["blue/page.png"]
    assert verify(out) == []
    assert not units.folder_of(out).exists()


def test_shards_at_once_share_an_output_and_no_other_run_comes_between(photos, out, expected):
    with ThreadPoolExecutor(SHARDS) as threads, shared(out):
        parts = list(threads.map(lambda n: make(photos, out, (n, SHARDS)), range(1, SHARDS + 1)))
        with pytest.raises(FeatureFileError, match="another run of headstart"):
            extract(photos, out, weights="random", size=71)
        with pytest.raises(FeatureFileError, match="another run of headstart"):
            seal(out)
    assert sum(part.embedded for part in parts) == IMAGES
    assert seal(out).content_digest == expected


def test_where_an_image_belongs_depends_on_its_path_alone(photos, write_image):
    shares = {image.path: whose(image.path, SHARDS) for image in scan(photos)}
    assert set(shares.values()) == set(range(1, SHARDS + 1))
    write_image(photos / "blue" / "aaa.png", 7)
    again = {image.path: whose(image.path, SHARDS) for image in scan(photos)}
    assert again.items() >= shares.items()


def test_what_is_missing_is_counted_and_its_shards_are_named(photos, out, expected):
    with pytest.raises(FeatureFileError, match="no shard has begun it"):
        seal(out)
    for number in (1, 3):
        make(photos, out, f"{number}/{SHARDS}")
    lacking = [whose(image.path, SHARDS) for image in scan(photos)]
    missing = lacking.count(2) + lacking.count(4)
    with pytest.raises(
        FeatureFileError, match=rf"{missing} of 40 images .* of the shards 2/4, 4/4; run"
    ):
        seal(out)
    make(photos, out, (4, SHARDS))
    with pytest.raises(FeatureFileError, match=r"of the shard 2/4; run"):
        seal(out)
    store = extract(photos, out, weights="random", size=71)  # does the rest itself
    assert (store.content_digest, store.summary.reused) == (expected, IMAGES - lacking.count(2))
    assert not units.folder_of(out).exists()
    with pytest.raises(FeatureFileError, match="sealed already"):
        seal(out)


def test_a_shard_that_was_interrupted_goes_on(photos, out, expected, interrupted_after):
    with interrupted_after(1):
        make(photos, out, (1, SHARDS))
    kept = sum(len(unit.keys) for unit in units.verified(units.folder_of(out)))
    parts = all_shards(photos, out)
    assert sum(part.embedded for part in parts) == IMAGES - kept
    assert seal(out).content_digest == expected


@pytest.mark.parametrize(
    ("shard", "other", "field"),
    [
        ((2, 5), {}, "of 4, and this one with 5"),
        ((2, 4), {"size": 72}, "size 71, and this one with 72"),
        ((2, 4), {"labels": "none"}, "labels 'folder', and this one with 'none'"),
        ((2, 4), {"views": 2}, "views None, and this one with 2"),
    ],
)
def test_a_shard_that_is_asked_otherwise_is_refused(photos, out, shard, other, field):
    make(photos, out, (1, 4))
    before = sorted(units.folder_of(out).iterdir())
    with pytest.raises(WrongUsage, match=f"its first shard was asked with {field}; ask all"):
        make(photos, out, shard, **other)
    assert sorted(units.folder_of(out).iterdir()) == before


def test_another_source_is_another_wish(photos, out, tmp_path, fill_photos):
    make(photos, out, (1, 4))
    with pytest.raises(WrongUsage, match="with source"):
        make(fill_photos(tmp_path / "others"), out, (2, 4))


def test_images_that_vanish_are_no_shards_fault_and_changed_ones_are_missing(
    photos, out, write_image
):
    all_shards(photos, out)
    gone, changed = photos / "red" / "red00.png", photos / "red" / "red01.png"
    gone.unlink()
    write_image(changed, 12345)
    share = whose(b"red/red01.png", SHARDS)
    with pytest.raises(FeatureFileError, match=f"1 of 39 images .* of the shard {share}/{SHARDS}"):
        seal(out)
    assert make(photos, out, (share, SHARDS)).embedded == 1
    assert len(seal(out)) == IMAGES - 1


def test_an_image_that_its_shard_could_not_read_is_listed_as_skipped(photos, out):
    (photos / "red" / "link.png").symlink_to(photos / "nowhere.png")
    all_shards(photos, out)
    store = seal(out)
    assert (len(store), [one.path for one in store.skipped]) == (IMAGES, ["red/link.png"])


def test_an_image_that_its_shard_could_not_read_and_that_can_be_read_now_is_missing(
    photos, out, write_image, tmp_path
):
    (photos / "red" / "link.png").symlink_to(tmp_path / "later.png")
    all_shards(photos, out)
    write_image(tmp_path / "later.png", 4711)
    share = whose(b"red/link.png", SHARDS)
    with pytest.raises(FeatureFileError, match=f"1 of 41 images .* of the shard {share}/{SHARDS}"):
        seal(out)
    assert make(photos, out, (share, SHARDS)).embedded == 1
    assert (len(store := seal(out)), store.skipped) == (IMAGES + 1, [])


def test_a_shard_that_ends_leaves_the_folder_to_the_others(out):
    with shared(out):
        with shared(out):
            pass
        with (
            pytest.raises(FeatureFileError, match="another run of headstart"),
            exclusive(out),
        ):
            pass
        agree(out, {"of": 1, "source": ["x"]})
    assert kept(out) == {"of": 1, "source": ["x"]}


def test_the_last_shard_that_ends_takes_an_empty_folder_along(out):
    with shared(out), shared(out):
        assert units.folder_of(out).exists()
    assert not units.folder_of(out).exists()
    units.folder_of(out).mkdir()  # gone meanwhile, where there are no locks
    units.folder_of(out).rmdir()
    agree(out, {"of": 1, "source": ["x"]})
    assert kept(out) == {"of": 1, "source": ["x"]}


def test_passwords_and_signatures_of_a_source_are_neither_kept_nor_compared(
    photos, out, monkeypatch
):
    url = "https://me:secret@host/photos.zip?X-Amz-Signature={}"
    asked = dict.fromkeys(shards._FILE) | {"weights": "random", "columns": None}
    first, again = (shards._asked(url.format(one), asked, 2) for one in ("abc", "def"))
    with shared(out):
        agree(out, first)
        agree(out, again)
        other = shards._asked("https://me:secret@host/others.zip", asked, 2)
        with pytest.raises(WrongUsage, match="with source") as refused:
            agree(out, other)
    said = str(refused.value) + (units.folder_of(out) / "shards.json").read_text()
    assert "secret@" not in said
    assert "Signature" not in said
    with pytest.raises(
        FeatureFileError, match=r"are not kept; give that again: .* without --shard"
    ):
        seal(out)


def test_shards_that_quantise_otherwise_agree_on_the_graph_of_the_first(
    photos, out, make_stub, monkeypatch
):
    """As on processors that are not alike."""
    digests = []

    def by(stub, weights):
        other = stub.unloaded(0)
        other.request = dataclasses.replace(stub.request, weights=weights)
        other._weights_digest = weights.sha256
        return other

    def calibrated(embedding, out, *_, **__):
        if not embedding.request.uncalibrated:
            return embedding
        graph = Graph(
            b"<net/>", bytes(range(len(digests) + 5)), {"backbone": "Xception", "size": 71}
        )
        digests.append(graph.digest)
        if len(digests) == 1:  # a second shard begins, and is the first to say what it has
            make(photos, out, (2, 2), precision="int8")
        graphs.keep(out, graph)
        return by(embedding, WeightsSource(QUANTISED, str(out), graph.digest))

    monkeypatch.setattr(make_stub, "by", by)
    monkeypatch.setattr(plan, "calibrated", calibrated)
    make(photos, out, (1, 2), precision="int8")
    assert len(digests) == 2
    make(photos, out, (1, 2), precision="int8")
    assert len(digests) == 2
    kept_units = units.verified(units.folder_of(out))
    assert {one.origin.provenance.weights_digest for one in kept_units} == {digests[1]}
    assert kept(out)["graph"] == digests[1]


def test_new_images_of_a_sealed_file_are_shared_out_too(photos, out, write_image):
    all_shards(photos, out)
    seal(out)
    for number in range(8):
        write_image(photos / "blue" / f"new{number}.png", 1000 + number)
    assert sum(part.embedded for part in all_shards(photos, out)) == 8
    store = seal(out)
    assert (len(store), store.summary.reused) == (IMAGES + 8, IMAGES + 8)


def test_shards_can_make_a_file_anew(photos, out):
    extract(photos, out, weights="random", size=72)
    all_shards(photos, out, fresh=True)
    assert FeatureStore(out).provenance.size == 72
    assert seal(out).provenance.size == 71


def test_views_are_made_by_shards_as_by_one_run(photos, out, tmp_path):
    all_shards(photos, out, views=2)
    whole = extract(photos, tmp_path / "v.h5", weights="random", size=71, views=2)
    store = seal(out)
    assert (len(store), store.content_digest) == (2 * IMAGES, whole.content_digest)


@pytest.mark.parametrize("source", ["-", ["a.png", "-"]])
def test_a_source_that_cannot_be_listed_twice_has_no_shards(out, source):
    with pytest.raises(WrongUsage, match="a source with a name is needed"):
        make(source, out, (1, 2))


@pytest.mark.parametrize("shard", ["3/2", "x", "0/4", "1/0", "-1/4", "1.5/4", "", "1/4/5"])
def test_a_shard_that_is_none_is_wrong_usage(photos, out, cli, shard):
    done = cli("extract", photos, "-o", out, f"--shard={shard}")
    assert "which one of how many is expected" in done.failure(2)
    assert not units.folder_of(out).exists()


def test_numbers_that_are_no_shard_are_wrong_usage():
    for odd in (
        (3, 2), (0, 1), (1,), (1, 2, 3), (1, 10**9), 5, None, (1, "x", 2), (True, 2), ("1", "2")
    ):  # fmt: skip
        with pytest.raises(WrongUsage, match="counted from 1"):
            Shard.named(odd)
    assert str(Shard.named(" 3 / 8 ")) == "3/8" == str(Shard.named((3, 8)))


def test_the_commands_of_a_job_array(photos, out, cli, monkeypatch):
    for number in (1, 2):
        done = cli("extract", photos, "-o", out, "--weights", "random", "--size", 71, "--json",
                   "--shard", f"{number}/2")  # fmt: skip
        assert (done.code, json.loads(done.out)["shard"]) == (0, f"{number}/2")
    done = cli("seal", out)
    assert done.code == 0
    assert "nothing new to embed" in done.out
    done = cli("extract", photos, "-o", out, "--shard", "1/2", "--weights", "random", "--size", 71)
    assert "when all shards are done: headstart seal" in done.out
    done = cli("extract", photos, "-o", out, "--shard", "1/2", "--dask", "local")
    assert "--dask and --shard exclude each other" in done.failure(2)


def test_an_odd_setting_is_named(photos, out):
    with pytest.raises(WrongUsage, match="sise: a shard has no such setting"):
        make(photos, out, (1, 2), sise=3)


def test_shards_read_each_others_units_only_when_they_are_whole(photos, out, expected):
    """Each begins and ends at its own time, while others publish."""
    gate, parts = threading.Barrier(SHARDS), []

    def shard(number):
        gate.wait()
        parts.append(make(photos, out, (number, SHARDS)))

    threads = [threading.Thread(target=shard, args=(number,)) for number in range(1, SHARDS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parts) == SHARDS
    assert seal(out).content_digest == expected
