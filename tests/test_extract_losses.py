"""Nothing that happens to the images takes away what is known of them, or confuses two of them."""

import functools
import os
import shutil

import h5py
import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.sources import image as images
from headstart.features import FeatureFileError, FeatureStore, SourceError, WrongUsage, verify
from headstart.features.journal import units
from headstart.features.records import FileStat
from PIL import Image

run = functools.partial(pipeline.run, unit_images=5)
DATE = (1_600_000_000 * 10**9,) * 2


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def links(photos, tmp_path):
    """A folder of links into `photos`, as into a drive."""
    folder = tmp_path / "links"
    for path in photos.rglob("*.png"):
        link = folder / path.relative_to(photos)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


@pytest.fixture
def bitmaps(tmp_path):
    """Two classes of four BMP files, all of one size and date, as archives unpack them."""
    folder = tmp_path / "bitmaps"
    for seed in range(8):
        path = folder / "ab"[seed // 4] / f"{seed % 4}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(path)
        os.utime(path, ns=DATE)
    return folder


def published(out):
    return sorted(path.name for path in units.folder_of(out).glob("*.h5"))


def same_as_new(out, source, make_stub):
    """Whether a file is what a first run over the source would make."""
    fresh = out.with_name("fresh.h5")
    fresh.unlink(missing_ok=True)
    run(make_stub(), source, fresh)
    return FeatureStore(fresh).content_digest == FeatureStore(out).content_digest


def test_a_drive_that_goes_away_between_two_runs_takes_no_finished_work_along(
    photos, links, out, stub, make_stub, interrupted_after
):
    with interrupted_after(2):
        run(stub, links, out)
    photos.rename(photos.with_name("away"))
    store = run(make_stub(), links, out)
    assert (len(store), store.summary.unreachable, store.summary.skipped) == (10, 10, 8)
    assert store.summary.embedded == 0
    photos.with_name("away").rename(photos)
    assert run(make_stub(), links, out).summary.embedded == 8
    assert same_as_new(out, links, make_stub)


def test_images_that_cannot_be_reached_keep_their_rows_under_what_is_listed_now(
    photos, links, out, stub, make_stub
):
    run(stub, links, out)
    (photos / "blue").rename(photos / "away")
    (links / "blue").rename(links / "cold")  # other paths: nothing is known of these
    for link in (links / "cold").iterdir():
        link.rename(links / "red" / link.name)
    (links / "red" / "red00.png").unlink()  # not listed any more
    with pytest.raises(WrongUsage, match=r"10 of the 18 vectors"):
        run(make_stub(), links, out)
    for link in (links / "red").glob("blue*"):
        (links / "blue").mkdir(exist_ok=True)
        link.rename(links / "blue" / link.name)
    store = run(make_stub(), links, out)
    assert (store.summary.unreachable, store.summary.removed, len(store)) == (9, 1, 17)
    assert store.skipped == []
    assert verify(out) == []
    assert run(make_stub(), links, out).summary.reused == 17  # and once more
    (photos / "away").rename(photos / "blue")
    again = make_stub()
    assert run(again, links, out).summary.unreachable == again.loads == 0
    assert same_as_new(out, links, make_stub)


def test_a_file_that_may_not_be_read_now_is_no_other_than_one_that_is_away(
    photos, out, stub, make_stub, monkeypatch
):
    run(stub, photos, out)
    path = photos / "red" / "red00.png"
    os.utime(path, ns=DATE)  # so that it has to be read
    read = images.read

    def refused(location):
        if location == os.fsencode(path):
            raise images.Unreadable("cannot be opened: Permission denied")
        return read(location)

    monkeypatch.setattr(images, "read", refused)
    store = run(make_stub(), photos, out)
    assert (len(store), store.summary.unreachable) == (18, 1)
    monkeypatch.undo()
    run(make_stub(), photos, out)
    assert same_as_new(out, photos, make_stub)


def test_another_source_never_takes_the_place_of_the_one_before_unasked(
    photos, out, stub, make_stub
):
    run(stub, photos, out)
    before = out.read_bytes()
    with pytest.raises(WrongUsage, match=r"out\.h5: 9 of the 18 .* in .*red \(they come from .*-r"):
        run(make_stub(), photos / "red", out)
    assert out.read_bytes() == before
    assert not units.folder_of(out).exists()
    store = run(make_stub(), photos / "red", out, remove=True)
    assert (store.summary.embedded, len(store)) == (0, 9)


@pytest.mark.parametrize("kind", ["of images", "of none that can be read"])
def test_a_mistyped_source_leaves_unfinished_work_alone(
    kind, photos, tmp_path, out, stub, make_stub, interrupted_after, write_image
):
    with interrupted_after(2):
        run(stub, photos, out)
    wrong, before = tmp_path / "wrong", published(out)
    if kind == "of images":
        write_image(wrong / "x.png", 77)
    else:
        wrong.mkdir()
        (wrong / "x.png").write_text("no image")
    with pytest.raises(WrongUsage, match="10 of the 10"):
        run(make_stub(), wrong, out)
    with pytest.raises(SourceError) if kind != "of images" else interrupted_after(0):
        run(make_stub(), wrong, out, remove=True)
    assert set(before) <= set(published(out))
    assert run(make_stub(), photos, out, remove=True).summary.embedded == 8


def test_a_folder_that_moved_goes_on_without_a_question_and_without_embedding(
    photos, out, stub, make_stub
):
    run(stub, photos, out)
    moved = photos.rename(photos.with_name("moved"))
    (moved / "blue").rename(moved / "cold")
    again = make_stub()
    assert run(again, moved, out).summary.reused == 18
    assert again.loads == 0
    assert same_as_new(out, moved, make_stub)


@pytest.mark.parametrize("how", ["deleted", "overwritten"])
def test_half_of_the_images_may_go_and_more_than_half_are_asked_about(
    how, photos, out, stub, make_stub, write_image
):
    run(stub, photos, out)
    paths = sorted(photos.rglob("*.png"))
    for seed, path in enumerate(paths[:10]):
        path.unlink()
        if how == "overwritten":
            write_image(path, 1000 + seed)
    with pytest.raises(WrongUsage, match="10 of the 18"):
        run(make_stub(), photos, out)
    assert len(FeatureStore(out)) == 18
    run(make_stub(), photos, out, remove=True)
    assert same_as_new(out, photos, make_stub)
    left = sorted(photos.rglob("*.png"))
    for path in left[: len(left) // 2]:
        path.unlink()
    run(make_stub(), photos, out)
    assert same_as_new(out, photos, make_stub)


def without_number(path, status):
    """What tells one file from another where there are no inodes and no times of change."""
    return FileStat(path, status.st_size, status.st_mtime_ns, 1)


def swap(one, other):
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def overwrite(one, other):
    other_bytes, one_bytes = other.read_bytes(), one.read_bytes()
    for path, data in ((one, other_bytes), (other, one_bytes)):
        path.write_bytes(data)
        os.utime(path, ns=DATE)


def renumber(one, other):
    one.unlink()
    other.rename(one)


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "no inode numbers"])
@pytest.mark.parametrize("change", [swap, overwrite, renumber], ids=lambda one: one.__name__)
def test_files_of_one_size_and_date_are_told_apart_without_embedding_them_again(
    change, numbered, bitmaps, out, stub, make_stub, monkeypatch
):
    if not numbered:
        monkeypatch.setattr(images, "_stat", without_number)
    run(stub, bitmaps, out)
    change(bitmaps / "a" / "0.bmp", bitmaps / "b" / "1.bmp")
    again = make_stub()
    assert run(again, bitmaps, out).summary.embedded == again.loads == 0
    assert same_as_new(out, bitmaps, make_stub)


def test_reading_unchanged_files_of_one_date_again_leaves_the_file_alone(
    bitmaps, out, stub, make_stub
):
    run(stub, bitmaps, out)
    before = out.stat()
    run(make_stub(), bitmaps, out)
    assert os.path.samestat(out.stat(), before)
    assert not units.folder_of(out).exists()


def test_rescan_finds_what_no_date_tells(bitmaps, out, stub, make_stub, monkeypatch):
    monkeypatch.setattr(images, "_stat", without_number)
    path = bitmaps / "a" / "0.bmp"
    date = (DATE[0] + 1,) * 2  # of no other file
    os.utime(path, ns=date)
    run(stub, bitmaps, out)
    Image.new("RGB", (8, 8), "red").save(path)
    os.utime(path, ns=date)
    assert run(make_stub(), bitmaps, out).summary.embedded == 0
    again = make_stub()
    run(again, bitmaps, out, rescan=True)
    assert again.engine.images == 1 + 8  # and the canary
    assert same_as_new(out, bitmaps, make_stub)


@pytest.mark.parametrize(
    "seconds", [-(2**40), -1, 0, 2**31, 10_000_000_000, 253_402_300_800], ids=str
)
def test_no_date_stops_a_run_or_is_taken_for_a_change(seconds, photos, out, stub, make_stub):
    path = photos / "red" / "red00.png"
    try:
        os.utime(path, (seconds, seconds))
    except OSError:
        pytest.skip("this file system does not take the date")
    assert run(stub, photos, out).summary.embedded == 18
    again = make_stub()
    assert run(again, photos, out).summary.reused == 18
    assert again.loads == 0
    os.utime(path, (seconds, seconds))  # its change time moves: read, and found to be the same
    assert run(make_stub(), photos, out).summary.reused == 18


def test_vectors_that_were_changed_in_place_are_never_sealed_again(
    photos, out, stub, make_stub, write_image
):
    run(stub, photos, out)
    with h5py.File(out, "r+") as file:
        file["features"][:3] = file["features"][3:6]
    before = out.read_bytes()
    write_image(photos / "red" / "new.png", 501)
    with pytest.raises(FeatureFileError, match=r"out\.h5: .*not those that were sealed.*--fresh"):
        run(make_stub(), photos, out)
    assert out.read_bytes() == before
    assert len(published(out)) == 1  # what is finished is kept
    run(make_stub(), photos, out, fresh=True)
    assert same_as_new(out, photos, make_stub)


def two_killed_runs(bitmaps, out, make_stub, monkeypatch):
    """Embed, swap two files of one size and date, and embed; both runs die before they seal."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "seal", die)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(make_stub(), bitmaps, out)
            swap(bitmaps / "a" / "0.bmp", bitmaps / "b" / "1.bmp")
    swap(bitmaps / "a" / "0.bmp", bitmaps / "b" / "1.bmp")


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "no inode numbers"])
@pytest.mark.parametrize("seed", range(4))
def test_of_two_unfinished_runs_the_later_one_is_believed(
    numbered, seed, bitmaps, out, make_stub, monkeypatch
):
    """Whatever their units are called: the names are digests, which change with the images."""
    Image.effect_noise((8, 8), 50 + seed).convert("RGB").save(bitmaps / "a" / "3.bmp")
    os.utime(bitmaps / "a" / "3.bmp", ns=DATE)
    if not numbered:
        monkeypatch.setattr(images, "_stat", without_number)
    two_killed_runs(bitmaps, out, make_stub, monkeypatch)
    bitmaps.rename(bitmaps.with_name("away"))
    bitmaps.mkdir()
    for path in bitmaps.with_name("away").rglob("*.bmp"):
        link = bitmaps / path.relative_to(bitmaps.with_name("away"))
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path.with_name("nowhere"))
    run(make_stub(), bitmaps, out)
    shutil.rmtree(bitmaps)
    bitmaps.with_name("away").rename(bitmaps)
    assert same_as_new(out, bitmaps, make_stub)


def test_fresh_keeps_unfinished_work_of_other_settings_until_the_new_file_is_there(
    photos, tmp_path, out, stub, make_stub, interrupted_after
):
    with interrupted_after(2):
        run(stub, photos, out)
    before = published(out)
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "x.png").write_text("no image")
    with pytest.raises(SourceError):
        run(make_stub(size=96), wrong, out, fresh=True)
    assert published(out) == before
    assert run(make_stub(size=96), photos, out, fresh=True).summary.embedded == 18
    assert published(out) == []


def test_fresh_asks_as_well_before_images_leave_the_file(photos, out, stub, make_stub):
    run(stub, photos, out)
    with pytest.raises(WrongUsage, match="9 of the 18"):
        run(make_stub(size=96), photos / "red", out, fresh=True)
    store = run(make_stub(size=96), photos / "red", out, fresh=True, remove=True)
    assert len(store) == 9


def test_a_class_that_was_renamed_while_its_images_are_away_is_asked_about(
    photos, links, out, stub, make_stub
):
    run(stub, links, out)
    (photos / "blue").rename(photos / "away")
    (links / "blue").rename(links / "cold")
    with pytest.raises(WrongUsage, match="9 of the 18"):
        run(make_stub(), links, out)


def test_images_named_one_by_one_never_leave_a_file_unasked(photos, out, stub, make_stub):
    every = sorted(photos.rglob("*.png"))
    run(stub, every, out)
    with pytest.raises(WrongUsage, match="1 of the 18"):
        run(make_stub(), every[:-1], out)
    assert len(run(make_stub(), iter(every), out)) == 18


def test_a_file_that_is_overwritten_while_it_is_read_is_read_again(
    photos, out, stub, make_stub, monkeypatch
):
    """With its date put back, only the time of its last change tells."""
    path = photos / "red" / "red00.png"
    original = os.fstat

    def overwrite_then_fstat(descriptor):
        status = original(descriptor)
        if os.path.samestat(status, os.stat(path)):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return status

    monkeypatch.setattr(images.os, "fstat", overwrite_then_fstat)
    store = run(stub, photos, out)
    assert [(one.path, one.reason) for one in store.skipped] == [
        ("red/red00.png", "changed while it was read")
    ]
    monkeypatch.undo()
    assert run(make_stub(), photos, out).summary.embedded == 1
