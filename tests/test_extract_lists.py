"""Lists as people have them: separators, encodings, columns, names without a suffix."""

import io
import os
import re
import sys
import unicodedata

import pytest
from headstart.extract import pipeline, scan
from headstart.features import SourceError, WrongUsage

PHOTOS = ("x/1.jpg", "x/2.jpg", "x/3.jpg")


def touch(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return folder


def rows(images):
    return [(image.path.decode(), image.label, image.split) for image in images]


@pytest.fixture
def listed(tmp_path):
    """Write a list beside three photographs and scan it."""
    touch(tmp_path, *PHOTOS)

    def write(text, encoding="utf-8", name="list.csv", **how):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return scan(file, **how)

    return write


MEANT = [("x/1.jpg", "cat", "none"), ("x/2.jpg", "dog", "none")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\nx/1.jpg,cat\nx/2.jpg,dog\n", "utf-8"),
        ("path,label\r\nx/1.jpg,cat\r\nx/2.jpg,dog\r\n", "utf-8-sig"),
        ("path\tlabel\r\nx/1.jpg\tcat\r\nx/2.jpg\tdog\r\n", "utf-16"),  # as Excel's Unicode Text
        ("path;label\nx/1.jpg;cat\nx/2.jpg;dog\n", "utf-8"),
        ("path;label\nx/1.jpg;cat\nx/2.jpg;dog\n", "utf-16-be-mark"),
        ("\ufeffpath , label\n\nx/1.jpg, cat\n\n\nx/2.jpg,dog,,\n,\n", "utf-8"),
        ('"path","label"\n"x/1.jpg","cat"\n"x/2.jpg","dog"', "utf-8"),
        ("path,label\rx/1.jpg,cat\rx/2.jpg,dog\r", "utf-8"),  # as old Macs end lines
        ('"path, as we say",label\nx/1.jpg,cat\nx/2.jpg,dog\n', "utf-8"),
    ],
)
def test_separators_marks_and_ends_of_lines_do_not_matter(listed, text, encoding):
    if encoding == "utf-16-be-mark":
        text, encoding = b"\xfe\xff" + text.encode("utf-16-be"), ""
    how = {"columns": {"path": "path, as we say"}} if b"as we say" in str(text).encode() else {}
    assert rows(listed(text, encoding, **how)) == MEANT


@pytest.mark.parametrize(
    "header",
    ["file_name,label", "filename,class", "image,category", "Image ID,Breed", "id,breed", "IMAGE,X",
     "Filepath,Target", "name,label", "img_path,species", "file,whatever it is", "Path,Label"],
)  # fmt: skip
def test_columns_have_their_usual_names_and_a_lone_second_one_is_the_label(listed, header):
    assert rows(listed(f"{header}\nx/1.jpg,cat\nx/2.jpg,dog\n")) == MEANT


def test_other_columns_are_named_by_the_user(listed, tmp_path, stub):
    text = "slide,size,tissue,cohort\nx/1.jpg,9,cat,training\nx/2.jpg,8,dog,eval\n"
    columns = {"path": "slide", "label": "tissue", "split": "cohort"}
    meant = [("x/1.jpg", "cat", "train"), ("x/2.jpg", "dog", "test")]
    assert rows(listed(text, columns=columns)) == meant
    assert rows(listed(text, columns={**columns, "path": "Slide"})) == meant
    with pytest.raises(SourceError, match=r"name the one with the images by --path-column"):
        listed(text)
    with pytest.raises(SourceError, match=r"--label-column 'tisue': .*'slide', 'size', 'tissue'"):
        listed(text, columns={"path": "slide", "label": "tisue"})
    with pytest.raises(WrongUsage, match="folder"):
        listed(text, columns={"folder": "slide"})
    with pytest.raises(WrongUsage, match="only lists and data sets have columns"):
        scan(tmp_path / "x", columns=columns)


def test_of_several_columns_for_one_thing_the_likelier_counts_and_it_is_said(listed):
    listing = listed("id,path,category,label\n7,x/1.jpg,pet,cat\n8,x/2.jpg,pet,dog\n")
    assert rows(listing) == MEANT
    (note,) = listing.label_notes
    assert "the column 'label' is taken for the label, and not 'category'; --label" in note
    listing = listed("path,width,height\nx/1.jpg,9,9\nx/2.jpg,9,9\n")
    assert [image.label for image in listing] == [None, None]
    assert "no column is taken for the label" in listing.label_notes[0]


def test_a_list_without_names_of_columns_is_understood_and_said(listed):
    for text in ("x/1.jpg,cat\nx/2.jpg,dog\n", "cat;x/1.jpg\ndog;x/2.jpg\n"):
        listing = listed(text)
        assert rows(listing) == MEANT
        assert "no line with names of columns" in listing.label_notes[0]
    assert rows(listed("x/1.jpg,train,cat\nx/2.jpg,test,dog\n")) == [
        ("x/1.jpg", "cat", "train"),
        ("x/2.jpg", "dog", "test"),
    ]
    assert [row[0] for row in rows(listed("x/1.jpg\nx/2.jpg\n"))] == ["x/1.jpg", "x/2.jpg"]


def test_words_and_flags_of_splits(listed):
    text = "path,split\nx/1.jpg,Training\nx/2.jpg, dev\nx/3.jpg,none\n"
    assert [split for _, _, split in rows(listed(text))] == ["train", "validation", "none"]
    text = "name,label,is_valid\nx/1.jpg,cat,False\nx/2.jpg,dog,True\nx/3.jpg,dog,\n"
    assert [split for _, _, split in rows(listed(text))] == ["train", "validation", "train"]


def test_a_name_is_looked_for_by_its_stem_in_the_list_s_folder_and_those_in_it(tmp_path):
    touch(tmp_path, "train/000bec180.jpg", "train/0021f9ceb.JPG", "here.png", "notes.txt")
    touch(tmp_path, "train/deep/no.jpg", "images/other.jpeg", ".cache/here.png", "images/here.txt")
    file = tmp_path / "labels.csv"
    file.write_text(
        "id,breed\n000bec180,collie\n0021f9ceb,pug\nother,pug\nhere,pug\nother.jpeg,pug\n"
        "deep/no,pug\ngone,pug\n".replace("other.jpeg,pug\n", "")
    )
    listing = scan(file)
    assert rows(listing) == [
        ("train/000bec180.jpg", "collie", "none"),
        ("train/0021f9ceb.JPG", "pug", "none"),
        ("images/other.jpeg", "pug", "none"),
        ("here.png", "pug", "none"),
        ("train/deep/no.jpg", "pug", "none"),
        ("gone", "pug", "none"),
    ]
    assert listing.notes == ["1 of 6 images listed are not there, first gone; they are skipped"]


@pytest.mark.parametrize(
    ("files", "cell"),
    [
        (("train/1.jpg", "test/1.jpg"), "1"),
        (("1.png", "1.jpg"), "1"),
        (("a/1.jpg", "b/1.jpg"), "1.jpg"),
    ],
)
def test_a_name_that_may_be_two_images_is_refused_with_both(tmp_path, files, cell):
    touch(tmp_path, *files)
    (tmp_path / "l.csv").write_text(f"id,label\n{cell},cat\n")
    with pytest.raises(SourceError, match="line 2, column 'id': ") as refused:
        scan(tmp_path / "l.csv")
    assert all(str(tmp_path / file) in str(refused.value) for file in files)


def test_paths_of_windows_and_of_macs_are_found(tmp_path):
    (tmp_path / "Käse").mkdir()
    decomposed = unicodedata.normalize("NFD", "Käse/Hündchen.jpg")
    touch(tmp_path, decomposed, "a/b/1.jpg")
    (tmp_path / "l.csv").write_text("path,label\na\\b\\1.jpg,x\nKäse/Hündchen.jpg,x\n")
    assert [image.path.decode() for image in scan(tmp_path / "l.csv")] == ["a/b/1.jpg", decomposed]


def test_images_that_are_not_there_are_skipped_with_the_reason(listed, tmp_path, stub):
    listed("path,label\nx/1.jpg,cat\nx/2.jpg,dog\nx/gone.jpg,dog\n")
    for path in PHOTOS[:2]:
        from PIL import Image

        Image.new("RGB", (9, 9), (PHOTOS.index(path), 9, 9)).save(tmp_path / path)
    store = pipeline.run(stub, tmp_path / "list.csv", tmp_path / "out.h5")
    assert store.paths == ["x/1.jpg", "x/2.jpg"]
    (skipped,) = store.skipped
    assert (skipped.path, skipped.transient) == ("x/gone.jpg", False)
    assert "No such file" in skipped.reason


@pytest.mark.parametrize("gone", [2, 3])
def test_a_list_most_of_whose_images_are_elsewhere_is_refused_with_the_root(listed, tmp_path, gone):
    text = "path\n" + "".join(f"{'y' * (k < gone) or 'x'}/{k + 1}.jpg\n" for k in range(3))
    with pytest.raises(SourceError, match=rf"{gone} of 3 images listed are not there") as refused:
        listed(text)
    assert f"paths are relative to {tmp_path}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mug,cup\n1,cat\n", r"needs the column 'path'.*'mug', 'cup'.*--path-column"),
        ("", "the list is empty"),
        ("path\n", "the list is empty"),
        ("path,split\nx/1.jpg,tset\n", "line 2, column 'split': unknown split 'tset'"),
        ("path,label\nx/1.jpg,a\nx/1.jpg,b\n", r"line 3: x/1\.jpg is listed twice, first in li"),
        ("path\n./x/1.jpg\nx/1.jpg\n\nx/y/../1.jpg,a\n", r"line 5: 2 columns, where .* has 1"),
        ('path\n"x/1.jpg\n', "line 2: not valid CSV"),
        ("path,label\nx/1.jpg,a\n\n,cat\n", "line 4, column 'path': the path is empty"),
        ("path,label\nx/1.jpg,Portland, Oregon\n", "line 2: 3 columns, where the first line has 2"),
        ('path,label\nx/1.jpg,a\n"3" bolt.jpg",b\nx/2.jpg,b\n', "line 3: not valid CSV"),
        ('path,label\n"x/1\n.jpg",a\n"3" bolt.jpg",b\n', "line 4: not valid CSV"),
        ("path,label,Label\nx/1.jpg,a,b\n", "two columns are called 'label'"),
        ("path,path\nx/1.jpg,x/2.jpg\n", "two columns are called 'path'"),
        ("file name,file_name\nx/1.jpg,x/2.jpg\n", "two columns are called 'file name'"),
        ("path,label\nx/1.jpg,K\u00e4se\n".encode("cp1252"), "line 2, column 'label': .*UTF-8"),
        ("path,label\nx/1.jpg,a\n".encode("utf-16-le"), "line 1: holds NULs; save .* UTF-8"),
        (b"\xff\xfep\0a\0t\0h\0\n\0\x00\xd8\n\0", "not valid UTF-16"),
        ("path\n" + "a/" * 2100 + "x.jpg\n", "line 2, column 'path': a path of more than 4,096"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused_with_line_and_column(listed, tmp_path, text, message):
    with pytest.raises(SourceError, match=message) as refused:
        listed(text)
    assert str(tmp_path / "list.csv") in str(refused.value)
    assert "\0" not in str(refused.value)


def test_an_image_that_is_listed_twice_alike_counts_once(listed):
    listing = listed("path,label\nx/1.jpg,cat\nx/2.jpg,dog\n./x/1.jpg,cat\n")
    assert rows(listing) == MEANT
    assert listing.notes == ["1 line lists an image again"]


def test_labels_in_two_unicode_forms_are_one_class_and_in_two_cases_two(listed):
    decomposed = unicodedata.normalize("NFD", "Hündchen")
    listing = listed(f"path,label\nx/1.jpg,Hündchen\nx/2.jpg,{decomposed}\nx/3.jpg,hündchen\n")
    assert set(listing.classes) == {"Hündchen", "hündchen"}
    assert any("differ only in capitals" in note for note in listing.label_notes)


class Series(list):
    def to_list(self):
        return list(self)


class Frame:
    """What the data frames of all libraries have."""

    def __init__(self, **columns):
        self._columns, self.columns = columns, list(columns)

    def __getitem__(self, name):
        return Series(self._columns[name])


@pytest.fixture(params=["any", "pandas", "polars"])
def frame(request):
    if request.param == "any":
        return Frame
    library = pytest.importorskip(request.param)
    return lambda **columns: library.DataFrame(columns)


def test_a_data_frame_is_a_list(frame, tmp_path, monkeypatch, stub, photos):
    monkeypatch.chdir(photos)
    table = frame(
        file_name=["blue/blue00.png", "red/red01.png", "red/red02.png"],
        breed=["b", "r", None],
        split=["train", "test", None],
    )
    assert rows(scan(table)) == [
        ("blue/blue00.png", "b", "train"),
        ("red/red01.png", "r", "test"),
        ("red/red02.png", None, "none"),
    ]
    store = pipeline.run(stub, table, tmp_path / "out.h5")
    assert store.label_names == ["b", "r"]
    with pytest.raises(SourceError, match="the data frame, row 1, column 'split': unknown split"):
        scan(frame(path=["blue/blue00.png"] * 2, split=["test", "tset"]))
    with pytest.raises(SourceError, match=r"the data frame: .*'pathe'.*--path-column"):
        scan(frame(pathe=["blue/blue00.png"], size=[3], height=[4]))


def test_numbers_in_a_data_frame_are_names_and_labels(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "train/1.jpg", "train/22.jpg"))
    assert rows(scan(frame(id=[1, 22], target=[0, 1]))) == [
        ("train/1.jpg", "0", "train"),
        ("train/22.jpg", "1", "train"),
    ]
    assert [image.label for image in scan(frame(id=[1, 22], target=[1.0, None]))] == ["1", None]


@pytest.mark.parametrize(
    "data", [b"x/1.jpg\nx/2.jpg\n", b"x/1.jpg\r\n\r\nx/2.jpg", b"x/1.jpg\0x/2.jpg\0"]
)
def test_paths_come_on_standard_input(tmp_path, monkeypatch, data):
    monkeypatch.chdir(touch(tmp_path, *PHOTOS))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    listing = scan("-")
    assert rows(listing) == [("x/1.jpg", None, "none"), ("x/2.jpg", None, "none")]
    assert listing.by_name


def test_odd_names_come_through_standard_input_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [b"caf\xe9, and more.jpg", b'"quoted".jpg', b"two words.jpg", b"new\nline.jpg"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    data = b"\0".join([*names, b""])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [image.path for image in scan("-")] == names


def test_no_paths_on_standard_input_are_an_error_in_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SourceError, match="standard input: no paths of images"):
        scan("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match=re.escape("standard input")):
        scan("-")


def test_splits_that_only_the_paths_say_are_taken_and_said(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "val/2.jpg", "test/3.jpg")
    (tmp_path / "l.csv").write_text("path,label\ntrain/cat/1.jpg,x\nval/2.jpg,y\n3,x\n")
    listing = scan(tmp_path / "l.csv")
    assert [image.split for image in listing] == ["train", "validation", "test"]
    assert listing.label_notes == [
        "the list has no column of splits; they are taken from the folders"
    ]


def test_a_column_that_only_might_have_splits_is_none_if_it_has_other_words(listed):
    for column, words in (("set", "Base,Jungle"), ("phase", "full moon,new moon")):
        first, second = words.split(",")
        listing = listed(f"image,label,{column}\nx/1.jpg,cat,{first}\nx/2.jpg,dog,{second}\n")
        assert rows(listing) == MEANT
        assert f"the column {column!r} is not taken for splits, because" in listing.label_notes[0]
    listing = listed("image,label,subset\nx/1.jpg,cat,train\nx/2.jpg,dog,test\n")
    assert [split for _, _, split in rows(listing)] == ["train", "test"]


def test_labels_and_splits_that_are_not_asked_for_stop_nothing(listed, tmp_path):
    text = "path,label,split\nx/1.jpg,cat,odd\nx/1.jpg,dog,\nx/2.jpg,\udce4,\n"
    with pytest.raises(SourceError, match="unknown split 'odd'"):
        listed(text.encode("utf-8", "surrogateescape"))
    found = scan(tmp_path / "list.csv", "none")
    assert rows(found) == [("x/1.jpg", None, "none"), ("x/2.jpg", None, "none")]


def test_places_in_the_image_are_no_labels(listed):
    listing = listed("filename,x,y,w,h,class_id\nx/1.jpg,1,2,3,4,cat\nx/2.jpg,1,2,3,4,dog\n")
    assert rows(listing) == MEANT
    listing = listed("filename,x,y\nx/1.jpg,1,2\nx/2.jpg,1,2\n")
    assert [image.label for image in listing] == [None, None]


def test_a_folder_called_like_an_id_is_not_its_image(tmp_path):
    touch(tmp_path, "000/mask.png", "images/000.jpg")
    (tmp_path / "l.csv").write_text("id,label\n000,cat\n")
    assert rows(scan(tmp_path / "l.csv")) == [("images/000.jpg", "cat", "none")]


def test_thousands_of_names_in_thousands_of_folders_are_found_at_once(tmp_path, monkeypatch):
    touch(tmp_path, *(f"c{k}/{k}.jpg" for k in range(300)))
    lines = "".join(f"{k}.jpg,x\nsub/{k}.jpg,x\n" for k in range(300))
    (tmp_path / "l.csv").write_text("file,label\n" + lines.replace("sub/299.jpg,x\n", ""))
    listings = []
    monkeypatch.setattr(
        os, "listdir", lambda path, real=os.listdir: listings.append(path) or real(path)
    )
    assert len(scan(tmp_path / "l.csv")) == 599
    assert len(listings) == 301


@pytest.mark.parametrize("odd", [5, [None], [("1.jpg", "a")], b"x", {"a": 1}, [object()]])
def test_what_is_no_source_is_refused_in_a_line(odd):
    with pytest.raises(WrongUsage, match="a path, several paths, a data frame or a Listing"):
        scan(odd)


def test_what_is_no_mapping_of_columns_is_refused_in_a_line(listed):
    with pytest.raises(WrongUsage, match="a mapping is expected"):
        listed("path\nx/1.jpg\n", columns="path")
    with pytest.raises(SourceError, match="'path' is given for two things"):
        listed("path,label\nx/1.jpg,a\n", columns={"label": "path"})


GROUPED = "path,label,group\nx/1.jpg,cat, p1 \nx/2.jpg,dog,p2\nx/3.jpg,dog,\n"


def test_a_column_of_groups_is_found_by_that_name_alone_or_named(listed):
    for header in ("group", "Group", " GROUP "):
        listing = listed(GROUPED.replace("group", header))
        assert [image.group for image in listing] == ["p1", "p2", None]
        assert [image.label for image in listing] == ["cat", "dog", "dog"]
        assert listing.groups == {"p1": 1, "p2": 1}
        (note,) = listing.label_notes
        assert note == (
            f"the column {header.strip()!r} has 2 groups, which folds keep together; "
            "1 of 3 images are in none"
        )
    for header in ("patient", "group_id", "groups"):
        text = GROUPED.replace("group", header)
        assert listed(text).groups == {}
        named = listed(text, columns={"group": header})
        assert [image.group for image in named] == ["p1", "p2", None]
    with pytest.raises(SourceError, match=r"--group-column 'x': there is no such column; there"):
        listed(GROUPED, columns={"group": "x"})
    with pytest.raises(SourceError, match="the column 'path' is given for two things"):
        listed(GROUPED, columns={"group": "path"})
    with pytest.raises(SourceError, match="two columns are called 'group'"):
        listed("path,label,group,Group\nx/1.jpg,cat,1,2\n")


def test_a_column_that_may_have_groups_is_pointed_out_and_not_taken(listed):
    text = "path,label,Patient ID,age\nx/1.jpg,cat,p1,3\nx/2.jpg,dog,p1,4\n"
    listing = listed(text)
    assert listing.groups == {}
    (note,) = listing.label_notes
    assert note.startswith("the column 'Patient ID' may say which images belong together; --group-")
    for how in ({"group": "Patient ID"}, {"label": "Patient ID"}, {"group": "age"}):
        assert "may say" not in "".join(listed(text, columns=how).label_notes)
    assert "may say" not in "".join(listed(text.replace("age", "group")).label_notes)
    assert "may say" not in "".join(listed("path,patient\nx/1.jpg,cat\n").label_notes)


def test_a_column_called_group_is_no_group_where_it_may_be_the_label(listed):
    for text in ("path,group\nx/1.jpg,cat\nx/2.jpg,dog\n", "x/1.jpg,cat\nx/2.jpg,dog\n"):
        assert rows(listed(text)) == MEANT
        assert listed(text).groups == {}
    listing = listed("path,group,age\nx/1.jpg,cat,3\n")
    assert [(image.label, image.group) for image in listing] == [(None, None)]
    assert "--label-column names one of 'group', 'age'" in listing.label_notes[0]
    listing = listed("path,group,age\nx/1.jpg,cat,3\n", columns={"label": "age"})
    assert [(image.label, image.group) for image in listing] == [("3", "cat")]
    listing = listed(GROUPED, columns={"label": "group"})
    assert [(image.label, image.group) for image in listing][:2] == [("p1", None), ("p2", None)]
    alone = listed("path,group\nx/1.jpg,cat\n", columns={"group": "group"})
    assert [(image.label, image.group) for image in alone] == [(None, "cat")]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (("a,train", "a,train", "b,test"), "the column 'group' has 2 groups, which folds keep to"),
        (("a,train", "a,test", "b,test"), "'a' is in the test split and outside of it, so its"),
        (("a,", "a,test", "b,test"), "'a' is in the test split and outside of it, so its"),
        (("a,val", "b,test", "a,test"), "'a' is in the test split and outside of it, so its"),
        ((",train", ",train", ",test"), "the column 'group' is empty: no image is in a group"),
    ],
)
def test_groups_on_both_sides_of_a_test_split_are_pointed_out(listed, cells, note):
    text = "".join(f"x/{number}.jpg,cat,{cell}\n" for number, cell in enumerate(cells, 1))
    listing = listed(f"path,label,group,split\n{text}")
    assert listing.label_notes[-1].startswith(note)
    assert len(listing.label_notes) == 1 + ("outside" in note)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,group\nx/1.jpg,a,\udce4\n", r"line 2, column 'group': .*xe4' is not UTF-8"),
        ("path,label,group\nx/1.jpg,a,b\0\n", "line 2, column 'group': .* it has a NUL in it"),
        (f"path,label,group\nx/1.jpg,a,{'b' * 1001}\n", "line 2, .*more than 1,000 characters"),
        (GROUPED + "x/1.jpg,cat,p2\n", "line 5: x/1.jpg is listed twice, .* label, split or group"),
    ],
)
def test_a_bad_group_is_refused_with_line_and_column(listed, tmp_path, text, message):
    with pytest.raises(SourceError, match=message) as refused:
        listed(text.encode("utf-8", "surrogateescape"))
    assert str(tmp_path / "list.csv") in str(refused.value)
    assert len(str(refused.value)) < 400
    # Nobody asked for them.
    found = scan(tmp_path / "list.csv", "none")
    assert (found[0].group, found.groups, found.label_notes) == (None, {}, ())


def test_groups_in_two_unicode_forms_are_one_and_numbers_in_a_data_frame_are_names(
    listed, tmp_path, monkeypatch
):
    decomposed = unicodedata.normalize("NFD", "Löwe")
    text = f"path,label,group\nx/1.jpg,a,Löwe\nx/2.jpg,a,{decomposed}\nx/3.jpg,b,1.0\n"
    assert listed(text).groups == {"Löwe": 2, "1.0": 1}
    monkeypatch.chdir(tmp_path)
    table = Frame(path=["x/1.jpg"] * 2, label=["a", "a"], group=[7.0, 7])
    assert [image.group for image in scan(table)] == ["7"]


def test_new_groups_of_known_images_are_sealed_without_embedding(photos, tmp_path, make_stub):
    files = sorted(str(file.relative_to(photos)) for file in photos.rglob("*.png"))
    folders, out = [file.split("/")[0] for file in files], tmp_path / "out.h5"

    def sealed(**columns):
        table = zip(*([name, *cells] for name, cells in columns.items()), strict=True)
        (photos / "list.csv").write_text("\n".join(map(",".join, table)))
        stub = make_stub()
        return pipeline.run(stub, photos / "list.csv", out), stub.loads

    plain, _ = sealed(path=files, label=folders)
    assert (plain.groups == -1).all()
    assert plain.group_names == []
    labels = plain.labels.tolist()
    wanted = [f"animal {number % 5}" * (number > 3) for number in range(len(files))]
    store, loads = sealed(path=files, label=folders, group=wanted)
    assert (loads, store.summary.embedded) == (0, 0)
    assert [("", *store.group_names)[code + 1] for code in store.groups] == wanted
    assert store.content_digest != plain.content_digest
    modified = out.stat().st_mtime_ns
    again, _ = sealed(path=files[::-1], label=folders[::-1], group=wanted[::-1])
    assert again.content_digest == store.content_digest
    assert out.stat().st_mtime_ns == modified
    other, loads = sealed(path=files, label=folders, group=[word[:-1] for word in wanted])
    assert (loads, other.group_names, other.labels.tolist()) == (0, ["animal"], labels)


def test_a_list_given_as_the_only_one_of_several_is_that_list(listed, tmp_path):
    listing = listed("path,label\nx/1.jpg,cat\nx/2.jpg,dog\n")
    assert rows(scan([tmp_path / "list.csv"])) == rows(listing)


def test_endless_input_is_refused(monkeypatch):
    from headstart.extract.sources.lists import manifest

    monkeypatch.setattr(manifest, "_MOST_INPUT", 1000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 2000)))
    with pytest.raises(SourceError, match="standard input: more than 0 MiB"):
        scan("-")


def test_a_prediction_never_overwrites_the_list_that_was_scanned(listed, tmp_path):
    from headstart.extract.sources import is_source

    listing = listed("path,label\nx/1.jpg,cat\nx/2.jpg,dog\n")
    assert is_source(tmp_path / "list.csv", listing)
    assert not is_source(tmp_path / "x" / "1.jpg", listing)
    assert is_source(tmp_path / "x" / "1.jpg", [tmp_path / "x" / "1.jpg"])
