"""Folders as people have them, and what is understood; docs/sources.md has the same table."""

import os
import re
import unicodedata
from pathlib import Path

import pytest
from headstart.extract import pipeline, scan
from headstart.features import FeatureStore, SourceError, WrongUsage


def touch(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return folder


def understood(folder, *paths):
    """Label and split of each image, in the order of `paths`."""
    found = {image.path.decode(): image for image in scan(touch(folder, *paths))}
    assert set(found) == set(paths)
    return [(found[path].label, found[path].split) for path in paths]


LAYOUTS = {
    "a folder for each class": {"cat/1.jpg": "cat none", "dog/1.jpg": "dog none"},
    "folders in folders": {"a/b/cat/1.PNG": "cat none", "a/dog/2.png": "dog none"},
    "one folder and nothing else": {"1.jpg": "- none", "2.jpg": "- none"},
    "train, val, test": {
        "train/cat/1.jpg": "cat train",
        "val/cat/2.jpg": "cat validation",
        "test/dog/3.jpg": "dog test",
    },
    "Training and Testing": {
        "Training/cat/1.jpg": "cat train",
        "Testing/cat/2.jpg": "cat test",
        "dev/cat/3.jpg": "cat validation",
        "evaluation/cat/4.jpg": "cat test",
    },
    "train_images and test-set": {
        "train_images/cat/1.jpg": "cat train",
        "test-set/cat/2.jpg": "cat test",
        "ValidationData/cat/3.jpg": "cat validation",
        "val2/cat/4.jpg": "cat validation",
    },
    "an unpacked archive": {
        "archive/train/cat/1.jpg": "cat train",
        "archive/test/dog/1.jpg": "dog test",
    },
    "splits below the classes": {
        "cat/train/1.jpg": "cat train",
        "cat/test/2.jpg": "cat test",
        "dog/train/3.jpg": "dog train",
    },
    "splits in other depths": {
        "train/cat/1.jpg": "cat train",
        "more/2024/test/cat/2.jpg": "cat test",
    },
    "a split twice on a path": {
        "seg_train/seg_train/sea/1.jpg": "sea train",
        "seg_test/seg_test/sea/2.jpg": "sea test",
    },
    "a wrapping folder named as a split": {
        "dev/train/cat/1.jpg": "cat train",
        "dev/test/cat/2.jpg": "cat test",
    },
    "test images without labels": {
        "train/cat/1.jpg": "cat train",
        "train/dog/2.jpg": "dog train",
        "test/3.jpg": "- test",
    },
    "an image beside the folders": {
        "train/cat/1.jpg": "cat train",
        "test/cat/2.jpg": "cat test",
        "sample.jpg": "- none",
    },
    "a class named as a split, in a split": {
        "train/valid/1.jpg": "valid train",
        "train/broken/2.jpg": "broken train",
        "test/valid/3.jpg": "valid test",
    },
    "a class named as a split, above splits": {
        "test/train/1.jpg": "test train",
        "blood/train/2.jpg": "blood train",
        "blood/val/3.jpg": "blood validation",
    },
    "splits and nothing below them": {
        "data/train/1.jpg": "- train",
        "data/test/2.jpg": "- test",
    },
    "a class named as a split": {
        "blood/1.jpg": "blood none",
        "urine/2.jpg": "urine none",
        "test/3.jpg": "test none",
    },
    "a split that lacks images": {
        "train/cat/1.jpg": "cat none",
        "test/cat/2.jpg": "cat none",
        "more/cat/3.jpg": "cat none",
    },
    "words that only begin like splits": {
        "train station/1.jpg": "train station none",
        "testament/2.jpg": "testament none",
        "trainers/3.jpg": "trainers none",
        "value/4.jpg": "value none",
    },
    "two things with a split word each": {
        "train station/1.jpg": "train station none",
        "test tube/2.jpg": "test tube none",
    },
    "a folder in each class": {
        "n01/images/1.jpg": "n01 none",
        "n02/images/1.jpg": "n02 none",
    },
    "a folder in each class, and splits": {
        "train/n01/images/1.jpg": "n01 train",
        "train/n02/images/1.jpg": "n02 train",
        "val/n01/images/2.jpg": "n01 validation",
    },
    "folders in most classes": {
        "n01/jpg/1.jpg": "n01 none",
        "n02/png/1.jpg": "n02 none",
        "n03/1.jpg": "n03 none",
    },
    "folders in classes, and test images without": {
        "tiny/train/n01/images/1.jpg": "n01 train",
        "tiny/train/n02/images/1.jpg": "n02 train",
        "tiny/test/images/1.jpg": "- test",
    },
    "splits below a folder of images": {
        "images/train/1.jpg": "- train",
        "images/val/2.jpg": "- validation",
    },
    "a folder of images in each split": {
        "train/images/1.jpg": "- train",
        "val/images/2.jpg": "- validation",
    },
    "photos and drawings": {
        "photos/1.jpg": "photos none",
        "drawings/1.jpg": "drawings none",
    },
    "the same classes from two places": {
        "s1/small/1.jpg": "small none",
        "s1/large/2.jpg": "large none",
        "s2/small/3.jpg": "small none",
        "s2/large/4.jpg": "large none",
    },
    "one class from two cameras": {
        "camera1/train/cat/1.jpg": "cat train",
        "camera2/train/cat/2.jpg": "cat train",
    },
    "classes in the names of the splits": {
        "train_cats/1.jpg": "cats train",
        "train_dogs/2.jpg": "dogs train",
        "test_cats/3.jpg": "cats test",
    },
    "classes named as their split": {
        "train/valid/1.jpg": "valid train",
        "train/broken/2.jpg": "broken train",
        "valid/valid/3.jpg": "valid validation",
        "valid/broken/4.jpg": "broken validation",
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_as_people_mean_it(tmp_path, name):
    layout = LAYOUTS[name]
    meant = [
        (None if label == "-" else label)
        for label in (v.rpartition(" ")[0] for v in layout.values())
    ]
    splits = [value.rpartition(" ")[2] for value in layout.values()]
    assert understood(tmp_path, *layout) == list(zip(meant, splits, strict=True))


@pytest.mark.parametrize(
    ("paths", "note"),
    [
        (["blood/1.jpg", "test/3.jpg"], r"'test' looks like a split.* taken for a class.*in blood"),
        (["train/cat/1.jpg", "new/cat/2.jpg"], r"'train' looks like a split, not used as"),
        (["train/valid/1.jpg", "test/bad/2.jpg"], r"'valid' is named like a split, and taken"),
        (["train/cat/1.jpg", "test/3.jpg", "test/4.jpg"], "2 images of test have no label"),
        (["cat/1.jpg", "3.jpg"], "1 image beside the folders has no label"),
        (["Cat/1.jpg", "cat/2.jpg"], "the classes 'Cat' and 'cat' differ only in capitals"),
        (["hot dog/1.jpg", "hot  dog/2.jpg"], "differ only in capitals or spaces"),
        (["a/images/1.jpg", "b/images/2.jpg"], "called 'images' are no classes; those above"),
        (["cat/1.jpg", "cat/a.svg", "cat/b.svg"], r"2 \.svg are not taken: .* PNG"),
        (["cat/1.jpg", "cat/a.CR2"], r"1 \.cr2 is not taken: raw"),
        (["cat/1.jpg", "cat/a.psd"], r"1 \.psd is not taken"),
        (["cat/1.jpg", "more.zip"], r"1 \.zip is not taken: "),
        (["cat/1.jpg", "more.tar.gz"], r"1 \.tar is not taken: "),
        (["s1/a/1.jpg", "s2/a/2.jpg", "s2/b/3.jpg"], "'a' stand below each of 's1' and 's2'"),
    ],
)  # fmt: skip
def test_what_one_might_miss_is_said_in_one_line(tmp_path, paths, note):
    listing = scan(touch(tmp_path, *paths))
    said = [line for line in (*listing.notes, *listing.label_notes) if re.search(note, line)]
    assert len(said) == 1, (listing.notes, listing.label_notes)


def test_nothing_is_said_of_a_plain_folder(tmp_path):
    listing = scan(touch(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg"))
    assert (listing.notes, listing.label_notes, listing.passed_over) == ([], [], {})


def test_an_empty_class_folder_is_named(tmp_path):
    touch(tmp_path, "cat/1.jpg")
    (tmp_path / "dog").mkdir()
    (tmp_path / "deep" / "cow").mkdir(parents=True)
    (note,) = scan(tmp_path).label_notes
    assert note == "2 folders hold no images: 'deep/cow' and 'dog'"


@pytest.mark.parametrize(
    "other",
    ["@eaDir", "$RECYCLE.BIN", "#recycle", "__MACOSX", ".ipynb_checkpoints", ".thumbnails",
     "System Volume Information", "lost+found", "@Recycle", ".Trash-1000"],
)  # fmt: skip
def test_folders_of_other_programs_are_no_classes_at_any_depth(tmp_path, other):
    touch(tmp_path, "cat/1.jpg", f"{other}/2.jpg", f"cat/{other}/1.jpg/SYNO_THUMB.jpg")
    touch(tmp_path, "cat/._1.jpg", "cat/.hidden.jpg", "cat/Thumbs.db")
    listing = scan(tmp_path)
    assert [image.path for image in listing] == [b"cat/1.jpg"]
    assert listing.classes == {"cat": {"none": 1}}
    assert listing.passed_over == {"hidden, or of other programs": 5}


def test_images_without_their_suffix_are_noticed_by_their_content(tmp_path, write_image):
    write_image(tmp_path / "cat" / "1.png", 1)
    data = (tmp_path / "cat" / "1.png").read_bytes()
    for name in ("IMG_1", "photo.jpg_large", "b.download"):
        (tmp_path / "cat" / name).write_bytes(data)
    os.mkfifo(tmp_path / "cat" / "queue")
    (tmp_path / "cat" / "notes").write_bytes(b"text")
    listing = scan(tmp_path)
    assert listing.passed_over == {".download": 1, ".jpg_large": 1, "without a suffix": 3}
    assert sum("images by their content" in note for note in listing.notes) == 3


def test_a_folder_of_other_things_says_what_there_is(tmp_path):
    touch(tmp_path, "a.psd", "b.psd", "c.txt")
    with pytest.raises(SourceError, match=r"no images .*; 2 \.psd are not taken: "):
        scan(tmp_path)


def test_links_to_class_folders_are_followed_under_their_own_names(tmp_path):
    touch(tmp_path, "photos/cat/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg")
    (tmp_path / "photos" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "wolf").symlink_to("dog")
    (tmp_path / "photos" / "lynx").symlink_to("cat")
    found = {image.path.decode(): image.label for image in scan(tmp_path / "photos")}
    assert found == {
        "cat/1.jpg": "cat", "lynx/1.jpg": "lynx", "dog/2.jpg": "dog", "dog/deep/3.jpg": "deep",
        "wolf/2.jpg": "wolf", "wolf/deep/3.jpg": "deep",
    }  # fmt: skip


def test_linked_splits_are_splits(tmp_path):
    touch(tmp_path, "a/cat/1.jpg", "b/cat/2.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "train").symlink_to(tmp_path / "a")
    (tmp_path / "photos" / "test").symlink_to(tmp_path / "b")
    assert [(image.label, image.split) for image in scan(tmp_path / "photos")] == [
        ("cat", "test"),
        ("cat", "train"),
    ]


def test_links_that_lead_back_are_followed_once_and_said(tmp_path):
    touch(tmp_path, "photos/cat/1.jpg", "photos/dog/2.jpg")
    (tmp_path / "photos" / "loop").symlink_to(".")
    (tmp_path / "photos" / "cat" / "up").symlink_to("..")
    (tmp_path / "photos" / "cat" / "far up").symlink_to(tmp_path)
    (tmp_path / "photos" / "dog" / "to cat").symlink_to("../cat")
    (tmp_path / "photos" / "cat" / "to dog").symlink_to("../dog")
    listing = scan(tmp_path / "photos")
    found = {image.path.decode(): image.label for image in listing}
    assert found == {
        "cat/1.jpg": "cat", "cat/to dog/2.jpg": "to dog",
        "dog/2.jpg": "dog", "dog/to cat/1.jpg": "to cat",
    }  # fmt: skip
    assert any("lead each to a folder that it lies in itself" in note for note in listing.notes)


def test_links_that_multiply_are_refused_and_not_followed_for_ever(tmp_path):
    for name in "abcdef":
        touch(tmp_path, f"{name}/1.jpg")
        for other in "abcdef":
            if other != name:
                (tmp_path / name / f"to {other}").symlink_to(f"../{other}")
    with pytest.raises(SourceError, match=r"more than 32 ways lead to .* through links"):
        scan(tmp_path)


def test_a_folder_link_that_leads_nowhere_loses_no_row_that_came_through_it(
    photos, tmp_path, stub, make_stub
):
    source, out = tmp_path / "source", tmp_path / "out.h5"
    source.mkdir()
    for name in ("blue", "red"):
        (source / name).symlink_to(photos / name)
    for k in range(9):
        (source / f"more{k}").symlink_to(photos / "red")
    pipeline.run(stub, source, out)
    before = out.read_bytes()
    (photos / "blue").rename(tmp_path / "unplugged")
    with pytest.raises(WrongUsage, match=r"9 of the 18 vectors .*\(the link blue leads to nothing"):
        pipeline.run(make_stub(), source, out)
    assert out.read_bytes() == before
    store = pipeline.run(make_stub(), source, out, remove=True)
    assert store.label_names == sorted(["red", *(f"more{k}" for k in range(9))])


def test_a_linked_folder_that_is_empty_now_loses_no_row_either(photos, tmp_path, stub, make_stub):
    source, out = tmp_path / "source", tmp_path / "out.h5"
    source.mkdir()
    (source / "blue").symlink_to(photos / "blue")
    (source / "red").symlink_to(photos / "red")
    pipeline.run(stub, source, out)
    (photos / "blue").rename(tmp_path / "unplugged")
    (photos / "blue").mkdir()
    for fresh in (False, True):
        with pytest.raises(WrongUsage, match=r"the link blue leads to nothing"):
            pipeline.run(make_stub(), source, out, fresh=fresh)
    # Images that have moved elsewhere in the source are not lost.
    (tmp_path / "unplugged").rename(source / "sky")
    assert len(pipeline.run(make_stub(), source, out)) == 18


def test_a_link_to_nowhere_that_nothing_is_known_of_stops_nothing(photos, tmp_path, stub):
    (photos / "README").symlink_to("gone")
    assert len(pipeline.run(stub, photos, tmp_path / "out.h5")) == 18
    assert any("README is a link to what is not there" in note for note in scan(photos).notes)


def test_names_in_two_unicode_forms_are_one_class(tmp_path, write_image, stub):
    for form, split in (("NFC", "train"), ("NFD", "test")):
        for number, name in enumerate(("Hündchen", "Kätzchen")):
            folder = tmp_path / "photos" / split / unicodedata.normalize(form, name)
            write_image(folder / "1.png", 10 * number + len(split))
    store = pipeline.run(stub, tmp_path / "photos", tmp_path / "out.h5")
    assert store.label_names == ["Hündchen", "Kätzchen"]
    assert len(FeatureStore(tmp_path / "out.h5")) == 4


def test_the_examples_of_the_papers_are_those_that_are_tested():
    papers = (Path(__file__).resolve().parents[1] / "docs" / "sources.md").read_text("utf-8")
    for name, layout in LAYOUTS.items():
        (row,) = [line for line in papers.splitlines() if line.startswith(f"| {name} |")]
        assert re.findall("`([^`]+)`", row.split("|")[2]) == list(layout), name
