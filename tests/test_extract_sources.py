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


def test_the_label_is_the_parent_folder_and_a_first_folder_may_be_a_split(tmp_path):
    touch(
        tmp_path,
        "loose.jpg", "cat/1.jpg", "a/b/cat/2.PNG", "train/3.jpg", "train/dog/4.jpeg",
        "Validation/dog/5.tif", "val/dog/6.webp", "valid/dog/7.bmp", "test/dog/8.gif",
        "dog/test/9.jpg",
    )  # fmt: skip
    assert rows(scan(tmp_path)) == [
        ("Validation/dog/5.tif", "dog", "validation"),
        ("a/b/cat/2.PNG", "cat", "none"),
        ("cat/1.jpg", "cat", "none"),
        ("dog/test/9.jpg", "test", "none"),
        ("loose.jpg", None, "none"),
        ("test/dog/8.gif", "dog", "test"),
        ("train/3.jpg", None, "train"),
        ("train/dog/4.jpeg", "dog", "train"),
        ("val/dog/6.webp", "dog", "validation"),
        ("valid/dog/7.bmp", "dog", "validation"),
    ]


def test_labels_none_ignores_the_folders(tmp_path):
    assert rows(scan(touch(tmp_path, "cat/1.jpg"), "none")) == [("cat/1.jpg", None, "none")]


def test_paths_are_sorted_by_bytes_whatever_the_file_system_says(tmp_path):
    names = ["b/1.jpg", "a/img10.jpg", "a/img2.jpg", "B/1.jpg", "a.jpg", "\u00e4/1.jpg"]
    found = [image.path for image in scan(touch(tmp_path, *names))]
    assert found == sorted(name.encode() for name in names)


def test_hidden_files_other_files_and_linked_folders_are_passed_over(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/._1.jpg", ".cache/2.jpg", "cat/notes.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert rows(scan(tmp_path)) == [("cat/1.jpg", "cat", "none")]


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
    with pytest.raises(SourceError, match=r"notes\.txt: neither a folder of images nor a CSV"):
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
        (["cat/2.jpg", "notes.txt"], r"notes\.txt: not an image by its name .*\.jpeg"),
        (["cat", "cat/2.jpg"], "cat: not an image by its name"),
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


def manifest(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "list.csv"
    file.write_bytes(text.encode(encoding))
    return file


def test_a_manifest_names_paths_labels_and_splits_in_any_order_of_columns(tmp_path):
    touch(tmp_path, "x/1.jpg", "x/2.jpg", "x/new\nline.jpg", "noext")
    file = manifest(
        tmp_path,
        'label,extra,path,split\ncat,?,x/2.jpg,train\n,?,x/1.jpg,\ndog,?,"x/new\nline.jpg",VAL\n'
        "dog,?,noext,none\n",
        "utf-8-sig",
    )
    assert rows(scan(file)) == [  # as listed
        ("x/2.jpg", "cat", "train"),
        ("x/1.jpg", None, "none"),
        ("x/new\nline.jpg", "dog", "validation"),
        ("noext", "dog", "none"),
    ]


def test_one_image_has_one_name_however_a_manifest_spells_it(tmp_path):
    touch(tmp_path, "x/1.jpg", "x/2.jpg")
    text = f"path , label\nx/../x/1.jpg, cat\n{tmp_path}/x/2.jpg,dog\n"
    assert rows(scan(manifest(tmp_path, text))) == [
        ("x/1.jpg", "cat", "none"),
        ("x/2.jpg", "dog", "none"),
    ]
    with pytest.raises(SourceError, match=r"line 3.*listed twice"):
        scan(manifest(tmp_path, "path\nx/1.jpg\n./x/1.jpg\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.jpg,cat\n", r"needs the column 'path'.*'file', 'label'"),
        ("", "needs the column 'path'.*none"),
        ("path\n", "lists no images"),
        ("path\n1.jpg\ngone.jpg\n", r"1 of 2 images listed are not there, first .*gone\.jpg"),
        ("path,split\n1.jpg,tset\n", "line 2: unknown split 'tset'"),
        ("path\n1.jpg\n1.jpg\n", r"line 3: 1\.jpg is listed twice"),
        ('path\n"1.jpg\n', "not valid CSV"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_line(tmp_path, text, message):
    touch(tmp_path, "1.jpg")
    with pytest.raises(SourceError, match=message):
        scan(manifest(tmp_path, text))


def test_folder_and_manifest_of_the_same_photographs_agree(data):
    folder = data / "images" / "cats_vs_dogs"
    listed, walked = scan(folder / "manifest.csv"), scan(folder)
    assert sorted(rows(listed)) == sorted(rows(walked))
    assert len(walked) == 600
