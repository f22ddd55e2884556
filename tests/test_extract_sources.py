import os

import pytest
from headstart.extract import scan
from headstart.features import SourceError, WrongUsage


def touch(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return folder


def rows(images):
    return [(image.path.decode(), image.label, image.split) for image in images]


def test_labels_none_ignores_the_folders(tmp_path):
    assert rows(scan(touch(tmp_path, "cat/1.jpg"), "none")) == [("cat/1.jpg", None, "none")]


def test_paths_are_sorted_by_bytes_whatever_the_file_system_says(tmp_path):
    names = ["b/1.jpg", "a/img10.jpg", "a/img2.jpg", "B/1.jpg", "a.jpg", "\u00e4/1.jpg"]
    found = [image.path for image in scan(touch(tmp_path, *names))]
    assert found == sorted(name.encode() for name in names)


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"\xff.jpg"), "wb"):
        pass
    (image,) = scan(tmp_path)
    assert image.path == b"caf\xe9/\xff.jpg"
    assert os.fsencode(image.label) == b"caf\xe9"
    assert os.path.exists(image.location)


def test_a_folder_without_images_names_the_suffixes_looked_for(tmp_path):
    with pytest.raises(SourceError, match=r"no images .*\.jpeg .*\.png .*\.webp"):
        scan(touch(tmp_path, "notes.txt"))


def test_a_source_that_is_not_there_or_no_source_is_refused(tmp_path):
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"notes\.txt: neither a folder of images nor"):
        scan(touch(tmp_path, "notes.txt") / "notes.txt")


def test_images_can_be_given_themselves_and_keep_their_order(tmp_path, monkeypatch):
    touch(tmp_path, "cat/2.jpg", "cat/1.PNG", "notes.txt")
    monkeypatch.chdir(tmp_path)
    assert rows(scan(["cat/2.jpg", "./cat/1.PNG"])) == [
        ("cat/2.jpg", None, "none"),
        ("cat/1.PNG", None, "none"),
    ]
    assert rows(scan(tmp_path / "cat/2.jpg")) == [(f"{tmp_path}/cat/2.jpg", None, "none")]
    for files, message in (
        (["cat/2.jpg", "cat/3.jpg"], r"cat/3\.jpg: no such file"),
        (["cat/2.jpg", "cat/../cat/2.jpg"], "is given twice"),
        (["cat/2.jpg", "notes.txt"], r"notes\.txt: not an image by its name; of images"),
        (["cat", "cat/2.jpg"], "cat: a folder; of images, archives or URLs several"),
        ([], "the list of files is empty"),
    ):
        with pytest.raises(SourceError, match=message):
            scan(files)


def test_what_is_read_is_what_the_system_finds_where_a_path_climbs_out_of_a_link(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "inner")
    (tmp_path / "x.png").write_bytes(b"near")
    (tmp_path / "deep" / "x.png").write_bytes(b"deep")
    (tmp_path / "list.csv").write_text("path\nlink/../x.png\nx.png\n")
    for source in (["link/../x.png", "x.png"], "list.csv"):
        images = scan(source)
        assert [image.path for image in images] == [b"link/../x.png", b"x.png"]
        assert [image.read()[0] for image in images] == [b"deep", b"near"]


def test_a_rule_for_labels_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(WrongUsage, match="labels 'bogus': use one of folder, none"):
        scan(touch(tmp_path, "cat/1.jpg"), "bogus")


def test_folder_and_manifest_of_the_same_photographs_agree(data):
    folder = data / "images" / "cats_vs_dogs"
    listed, walked = scan(folder / "manifest.csv"), scan(folder)
    assert sorted(rows(listed)) == sorted(rows(walked))
    assert len(walked) == 600


def test_a_listing_is_a_source_itself_and_says_how_many_images_are_what(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/dog/3.jpg", "test/dog/x.psd")
    listing = scan(tmp_path)
    assert scan(listing) is listing
    assert rows(scan(listing, "none")) == [(path, None, split) for path, _, split in rows(listing)]
    assert listing.name == str(tmp_path)
    assert listing.classes == {"dog": {"test": 1, "train": 1}, "cat": {"train": 1}}
    assert listing.splits == {"train": 2, "test": 1}
    assert scan(tmp_path / "test").splits == {"none": 1}
    assert listing[1] == listing.images[1]
    assert len(listing[:2]) == 2
