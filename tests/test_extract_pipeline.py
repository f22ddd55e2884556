"""The rules of the frozen pass, with a stand-in for the backbone that counts what it embeds."""

import functools
import itertools
import os
import platform
import shutil
import time

import h5py
import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.work.progress import Progress
from headstart.features import (
    BackboneError,
    FeatureFileError,
    FeatureStore,
    HeadstartError,
    ProvenanceMismatch,
    SourceError,
    durable,
    verify,
)
from headstart.features.journal import units
from headstart.features.origin import Origin
from PIL import Image
from PIL.PngImagePlugin import PngImageFile


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


run = functools.partial(pipeline.run, unit_images=5)


def counts(store):
    names = ("embedded", "reused", "duplicates", "removed", "skipped")
    return {name: value for name in names if (value := getattr(store.summary, name))}


def test_each_row_is_the_vector_of_its_own_image(photos, out, stub):
    store = run(stub, photos, out)
    assert counts(store) == {"embedded": 18}
    assert store.paths == sorted(f"{c}/{c}{i:02}.png" for c in ("blue", "red") for i in range(9))
    assert [store.label_names[k] for k in store.labels] == ["blue"] * 9 + ["red"] * 9
    blue, red = store.features[:9], store.features[9:]
    assert (blue[:, 2] > blue[:, 0]).all()
    assert (red[:, 0] > red[:, 2]).all()
    assert set(store.stats["width"].tolist()) == {32}
    assert not units.folder_of(out).exists()
    assert verify(out) == []


def test_a_second_run_reads_no_image_and_loads_no_backbone(
    photos, out, stub, make_stub, monkeypatch
):
    run(stub, photos, out)
    before = out.read_bytes()
    monkeypatch.delattr("headstart.extract.sources.image.ImageReference.read")
    again = make_stub()
    assert counts(run(again, photos, out)) == {"reused": 18}
    assert again.loads == 0
    assert out.read_bytes() == before


def test_a_grown_shrunk_and_edited_folder_embeds_only_new_content(
    photos, out, stub, make_stub, write_image
):
    run(stub, photos, out)
    write_image(photos / "green" / "new.png", 999)
    write_image(photos / "blue" / "blue00.png", 998)
    (photos / "red" / "red00.png").unlink()
    (photos / "red" / "red01.png").rename(photos / "red" / "renamed.png")
    again = make_stub()
    assert counts(run(again, photos, out)) == {"embedded": 2, "reused": 16, "removed": 2}
    assert again.engine.images == 2 + 8  # and the canary

    fresh = out.with_name("fresh.h5")
    run(make_stub(), photos, fresh)
    assert FeatureStore(out).content_digest == FeatureStore(fresh).content_digest


def test_identical_bytes_are_embedded_once_however_many_paths_hold_them(photos, out, stub):
    for number in range(7):
        shutil.copy(photos / "blue" / "blue03.png", photos / "red" / f"copy{number}.png")
    assert counts(run(stub, photos, out)) == {"embedded": 18, "duplicates": 7}
    assert stub.engine.images == 18 + 8
    store = FeatureStore(out)
    original = store.features[store.paths.index("blue/blue03.png")]
    copies = [store.features[k] for k, path in enumerate(store.paths) if "copy" in path]
    assert len(copies) == 7
    assert all((copy == original).all() for copy in copies)


def test_new_labels_and_splits_need_no_embedding(photos, out, stub, make_stub):
    run(stub, photos, out)
    moved = photos.with_name("moved")
    shutil.copytree(photos / "blue", moved / "train" / "cold")
    shutil.copytree(photos / "red", moved / "test" / "warm")
    again = make_stub()
    assert counts(run(again, moved, out)) == {"reused": 18, "removed": 18}
    assert again.loads == 0
    store = FeatureStore(out)
    assert store.label_names == ["cold", "warm"]
    assert sorted(set(store.splits.tolist())) == [1, 3]


def test_a_bad_image_is_skipped_with_its_reason_and_tried_again_only_when_it_changes(
    photos, out, stub, make_stub, write_image
):
    bad = {
        "blue/empty.jpg": (b"", "empty file"),
        "blue/page.jpg": (b"<html>", "not an image"),
        "red/cut.png": ((photos / "red" / "red00.png").read_bytes()[:-300], "truncated|damaged"),
    }
    for path, (data, _) in bad.items():
        (photos / path).write_bytes(data)
    os.mkfifo(photos / "red" / "pipe.png")
    assert counts(run(stub, photos, out)) == {"embedded": 18, "skipped": 4}
    ledger = {one.path: one.reason for one in FeatureStore(out).skipped}
    assert ledger.keys() == bad.keys() | {"red/pipe.png"}
    assert "not a regular file" in ledger["red/pipe.png"]

    assert counts(run(make_stub(), photos, out)) == {"reused": 18, "skipped": 4}
    write_image(photos / "blue" / "empty.jpg", 997)
    assert counts(run(make_stub(), photos, out)) == {"embedded": 1, "reused": 18, "skipped": 3}


def test_a_run_that_dies_goes_on_where_it_stopped(photos, out, stub, make_stub, interrupted_after):
    whole = out.with_name("whole.h5")
    run(make_stub(), photos, whole)

    with interrupted_after(2):
        run(stub, photos, out)
    assert not out.exists()
    again = make_stub()
    assert counts(run(again, photos, out)) == {"embedded": 8, "reused": 10}
    assert again.engine.images == 8 + 8
    assert FeatureStore(out).content_digest == FeatureStore(whole).content_digest


def test_other_settings_never_mix_and_are_named(photos, out, stub, make_stub):
    run(stub, photos, out)
    before = out.read_bytes()
    for settings, field in (
        ({"size": 96}, "size is 71 against 96"),
        ({"fit": "crop"}, "fit is stretch against crop"),
        ({"dtype": "float16"}, "dtype is float32 against float16"),
        ({"backbone": "VGG16"}, "backbone is Xception against VGG16"),
    ):
        other = make_stub(**settings)
        with pytest.raises(ProvenanceMismatch, match=f"{field}.*another output.*--fresh"):
            run(other, photos, out)
        assert other.loads == 0
    assert out.read_bytes() == before


def test_other_weights_never_mix(photos, out, stub, make_stub, write_image):
    run(stub, photos, out)
    write_image(photos / "blue" / "new.png", 1)
    with pytest.raises(ProvenanceMismatch, match="weights_digest"):
        run(make_stub("1" * 64), photos, out)


def test_a_machine_that_computes_other_vectors_never_mixes(
    photos, out, stub, make_stub, write_image
):
    run(stub, photos, out)
    before = out.read_bytes()
    write_image(photos / "blue" / "new.png", 1)
    other = make_stub()
    embed = other.engine.embed
    other.engine.embed = lambda images: embed(images) * np.float32(1.01)
    with pytest.raises(ProvenanceMismatch, match=r"test images come out differently.*0\.01"):
        run(other, photos, out)
    assert out.read_bytes() == before


def test_fresh_replaces_a_file_of_other_settings(photos, out, stub, make_stub):
    run(stub, photos, out)
    assert counts(run(make_stub(size=96), photos, out, fresh=True)) == {"embedded": 18}
    assert FeatureStore(out).provenance.size == 96


def test_fresh_replaces_a_file_of_another_version(photos, out, stub, make_stub):
    run(stub, photos, out)
    with h5py.File(out, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(FeatureFileError, match="format version 99"):
        run(make_stub(), photos, out)
    assert counts(run(make_stub(), photos, out, fresh=True)) == {"embedded": 18}


def test_unfinished_work_of_other_settings_is_refused_and_kept(photos, out, stub, make_stub):
    run(stub, photos, out)
    folder = units.folder_of(out)
    other = make_stub(size=96)
    path = units.publish(folder, Origin(other.provenance, {}, other.canary), [], {})
    with pytest.raises(ProvenanceMismatch, match=r"out\.h5\.units.*size is 96 against 71.*--fresh"):
        run(make_stub(), photos, out)
    assert path.exists()


def test_vectors_that_are_not_finite_are_refused(photos, out, stub):
    embed = stub.engine.embed
    stub.engine.embed = lambda images: embed(images) * np.float32("nan")
    with pytest.raises(BackboneError, match="not finite as float32"):
        run(stub, photos, out)
    assert not out.exists()


def test_float16_is_stored_when_asked_for(photos, out, make_stub):
    run(make_stub(dtype="float16"), photos, out)
    run(make_stub(), photos, out.with_name("32.h5"))
    halves, singles = FeatureStore(out).features, FeatureStore(out.with_name("32.h5")).features
    assert halves.dtype == np.float16
    np.testing.assert_allclose(halves, singles, rtol=2**-11)


def test_no_usable_image_at_all_is_an_error_and_leaves_nothing(tmp_path, out, stub):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(SourceError, match=r"none of the 1 images can be used.*a\.jpg: empty file"):
        run(stub, tmp_path / "photos", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_outputs_that_cannot_be_written_are_refused_before_any_work(photos, tmp_path, stub):
    text = tmp_path / "notes.h5"
    text.write_text("mine")
    for out, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "x.h5", "nowhere: no such folder"),
        (text, "not a headstart feature file"),
    ):
        with pytest.raises(HeadstartError, match=message):
            run(stub, photos, out)
    with pytest.raises(FeatureFileError, match="--fresh does not replace it"):
        run(stub, photos, text, fresh=True)
    assert text.read_text() == "mine"
    assert stub.loads == 0


def test_a_damaged_unit_is_done_again(photos, out, stub, make_stub, monkeypatch):
    monkeypatch.setattr(pipeline, "seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(stub, photos, out)
    monkeypatch.undo()
    victim = sorted(units.folder_of(out).glob("*.h5"))[1]
    victim.write_bytes(victim.read_bytes()[:-100])
    summary = run(make_stub(), photos, out).summary
    assert summary.embedded in (3, 5)
    assert summary.embedded + summary.reused == 18
    assert verify(out) == []


def test_a_second_run_on_the_same_output_is_refused_and_harms_nothing(
    photos, out, stub, make_stub, monkeypatch
):
    original, refused = units.publish, []

    def publish(*arguments):
        with pytest.raises(FeatureFileError, match="another run of headstart is using it") as error:
            run(make_stub(), photos, out)
        refused.append(error)
        return original(*arguments)

    monkeypatch.setattr(units, "publish", publish)
    assert counts(run(stub, photos, out)) == {"embedded": 18}
    assert len(refused) == 4
    assert not units.folder_of(out).exists()


def test_sealing_beside_a_seal_that_got_past_the_lock_is_an_error_and_never_a_mixture(
    photos, out, stub, make_stub, monkeypatch, write_image
):
    """Where locks do not work: the row numbers of the old file must not be used on a new one."""
    run(stub, photos, out)
    write_image(photos / "blue" / "new.png", 5)
    original = pipeline.seal

    def seal_after_another(known, listing):
        (photos / "blue" / "blue00.png").unlink()
        monkeypatch.setattr(pipeline, "seal", original)
        monkeypatch.setattr(pipeline, "exclusive", lambda _: __import__("contextlib").nullcontext())
        run(make_stub(), photos, out)
        return original(known, listing)

    monkeypatch.setattr(pipeline, "seal", seal_after_another)
    with pytest.raises(FeatureFileError, match="it was replaced"):
        run(make_stub(), photos, out)
    assert verify(out) == []
    assert len(FeatureStore(out)) == 18


def test_leftovers_of_killed_runs_are_swept_and_files_of_the_user_are_not(photos, out, stub):
    folder = units.folder_of(out)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    nobody = 99_999_999  # more than any system has processes
    litter = [
        folder / f".abc.h5.{nobody}-ff@{platform.node()}.tmp",
        out.with_name(f".{out.name}.{nobody}-ff@{platform.node()}.tmp"),
    ]
    at_work = [
        # A process that is still alive, a file of another machine, another output.
        durable.temporary_beside(folder / "def.h5"),
        folder / f".def.h5.{nobody}-ff@another-machine.tmp",
        durable.temporary_beside(out.with_name(f"{out.name}.csv")),
    ]
    for path in (*litter, *at_work):
        path.write_bytes(b"half")
    run(stub, photos, out)
    assert not any(path.exists() for path in litter)
    assert all(path.exists() for path in at_work)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_linked_output_is_brought_up_to_date_where_it_lies(photos, tmp_path, stub, write_image):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "real" / "out.h5")
    run(stub, photos, link)
    assert link.is_symlink()
    assert len(FeatureStore(tmp_path / "real" / "out.h5")) == 18


def test_files_of_another_folder_are_not_taken_for_those_seen_before(
    tmp_path, out, stub, make_stub
):
    """Same names, sizes and times, as archives with a fixed date unpack them; other pixels."""
    for folder, colour in (("one", "red"), ("two", "blue")):
        for name in "ab":
            path = tmp_path / folder / name / "1.bmp"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour if name == "a" else "green").save(path)
            os.utime(path, ns=(10**18, 10**18))
    run(stub, tmp_path / "one", out)
    again = run(make_stub(), tmp_path / "two", out, remove=True)
    assert counts(again) == {"embedded": 1, "reused": 1}
    vector = FeatureStore(out).features[0]
    assert vector[2] > vector[0]
    assert counts(run(make_stub(), tmp_path / "two", out)) == {"reused": 2}


def test_fresh_drops_unfinished_work_whose_canary_disagrees(
    photos, out, stub, make_stub, monkeypatch
):
    monkeypatch.setattr(pipeline, "seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(stub, photos, out)
    monkeypatch.undo()

    def other():
        made = make_stub()
        embed = made.engine.embed
        made.engine.embed = lambda images: embed(images) * np.float32(1.01)
        return made

    (photos / "blue" / "blue00.png").write_bytes((photos / "red" / "red00.png").read_bytes()[:-1])
    assert counts(run(other(), photos, out, fresh=True))["embedded"] >= 17


def test_an_image_that_needs_too_much_memory_is_tried_again(
    photos, out, stub, make_stub, monkeypatch
):
    load = PngImageFile.load
    (photos / "red" / "red04.png").unlink()
    Image.new("RGB", (40, 40), "red").save(photos / "red" / "large.png")

    def load_small(image):
        if image.size == (40, 40):
            raise MemoryError
        return load(image)

    with monkeypatch.context() as patch:
        patch.setattr(PngImageFile, "load", load_small)
        assert counts(run(stub, photos, out)) == {"embedded": 17, "skipped": 1}
    assert counts(run(make_stub(), photos, out)) == {"embedded": 1, "reused": 17}


def test_progress_says_nothing_before_the_first_image_counts(monkeypatch, capsys):
    ticks = itertools.count(step=20)  # long enough for a line at every look at the clock
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    shown = Progress(10, shown=True)
    shown.add(0)
    assert capsys.readouterr().err == ""
    shown.add(5)
    assert capsys.readouterr().err.startswith("5 of 10 images, ")
