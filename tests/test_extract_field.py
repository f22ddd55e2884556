"""Sources from the field that were once misread or refused: what the commands make of them now."""

import json
import os
import unicodedata

import pytest

EXTRACT = ("-o", "x.h5", "--weights", "random", "--size", "71")


@pytest.fixture
def extract(cli, stand_in, tmp_path, monkeypatch):
    stand_in("extract.pipeline")
    monkeypatch.chdir(tmp_path)
    return lambda source, *more: cli("extract", source, *EXTRACT, *more)


@pytest.fixture
def folder(write_image, tmp_path):
    def make(path, count, hue=0, seed=0):
        colour = [60, 60, 60]
        colour[hue % 3] += 150
        for k in range(count):
            write_image(tmp_path / path / f"{k:03}.png", 1000 * hue + 100 * seed + k, tuple(colour))

    return make


def test_a_class_named_like_a_split_is_pointed_out(extract, folder):
    for hue, name in enumerate(("blood", "urine", "test")):
        folder(f"lab/{name}", 5, hue)
    done = extract("lab")
    assert "3 labels (blood, test, urine)" in done.out
    assert "'test' looks like a split, not used as one and taken for a class" in done.out


def test_classes_one_level_up_are_found(extract, folder, cli):
    folder("p/n01/images", 4, 0)
    folder("p/n02/images", 4, 1)
    assert "2 labels (n01, n02)" in extract("p").out
    assert cli("train", "x.h5", "-o", "x.joblib").code == 0


def test_no_half_of_a_class_is_passed_over_in_silence(extract, folder, tmp_path):
    folder("photos/cat", 6, 0)
    folder("photos/dog", 6, 1)
    for k in range(20):
        (tmp_path / "photos" / "dog" / f"IMG_{k}.CR2").write_bytes(b"II*\0")
    done = extract("photos")
    assert "passed over: 20 .cr2" in done.out
    assert "20 .cr2 are not taken: " in done.out


def test_thumbnails_of_a_network_drive_are_no_class(extract, folder):
    folder("p/cat", 4, 0)
    folder("p/dog", 4, 1)
    folder("p/cat/@eaDir/000.jpg", 1, 0, seed=3)
    assert "8 images x 8 features, 2 labels (cat, dog)" in extract("p").out


def test_a_linked_class_folder_is_a_class(extract, folder, tmp_path):
    folder("photos/cat", 4, 0)
    folder("photos/cow", 4, 1)
    folder("elsewhere", 4, 2)
    (tmp_path / "photos" / "dog").symlink_to("../elsewhere")
    assert "12 images x 8 features, 3 labels (cat, cow, dog)" in extract("photos").out


def test_splits_in_another_place_are_splits(extract, folder, cli):
    for hue, name in enumerate(("cat", "dog")):
        folder(f"photos/archive/train/{name}", 6, hue)
        folder(f"photos/archive/test/{name}", 3, hue, seed=5)
    assert "18 images, 2 labels; 12 train, 6 test" in extract("photos").out
    assert "test split, 6 images:" in cli("train", "x.h5", "-o", "x.joblib").out


def test_a_list_that_is_not_utf8_is_refused_by_that(extract, folder, tmp_path):
    folder(".", 6, 0)
    text = "path,label\n" + "".join(f"00{k}.png,{('Käse', 'Brot')[k % 2]}\n" for k in range(6))
    (tmp_path / "m.csv").write_bytes(text.encode("cp1252"))
    line = extract("m.csv").failure()
    assert line.startswith(
        "headstart: m.csv, line 2, column 'label': 'K\\\\xe4se' is not UTF-8; save"
    )
    (tmp_path / "m.csv").write_bytes(text.encode("utf-16"))
    assert "2 labels (Brot, Käse)" in extract("m.csv").out


def test_the_number_of_a_line_is_that_of_an_editor(extract, folder, tmp_path):
    folder(".", 3, 0)
    (tmp_path / "m.csv").write_text(
        'path,label\n000.png,a\n001.png,a\n"3" bolt.png",b\n002.png,b\n'
    )
    assert extract("m.csv").failure().startswith("headstart: m.csv, line 4: not valid CSV")


def test_a_comma_too_many_is_refused(extract, folder, tmp_path):
    folder(".", 8, 0)
    towns = ["Portland, Oregon", "Portland, Maine"]
    lines = "".join(f"{k:03}.png,{towns[k % 2]}\n" for k in range(8))
    (tmp_path / "m.csv").write_text("path,label\n" + lines)
    assert extract("m.csv").failure() == (
        "headstart: m.csv, line 2: 3 columns, where the first line has 2; a cell with a separator "
        "in it is put in quotes"
    )


def test_an_image_that_is_not_there_is_skipped_and_strict_fails(extract, folder, tmp_path, cli):
    folder(".", 8, 0)
    lines = "".join(f"{k:03}.png,{'ab'[k % 2]}\n" for k in range(9))
    (tmp_path / "m.csv").write_text("path,label\n" + lines)
    done = extract("m.csv")
    assert done.code == 0
    assert "skipped 1" in done.out
    listed = cli("info", "x.h5", "--skipped").out
    assert listed == "008.png\tcannot be opened: No such file or directory\n"
    assert extract("m.csv", "--strict").code == 1


def test_names_in_two_unicode_forms_are_one_class(extract, folder, cli):
    for form, split in (("NFC", "train"), ("NFD", "test")):
        for hue, name in enumerate(("Kätzchen", "Hündchen")):
            folder(f"photos/{split}/" + unicodedata.normalize(form, name), 5, hue, seed=len(split))
    assert "2 labels (Hündchen, Kätzchen)" in extract("photos").out
    assert cli("train", "x.h5", "-o", "x.joblib").code == 0


def test_scan_says_the_same_as_extract_and_writes_nothing(extract, folder, cli, tmp_path):
    for hue in range(12):
        folder(f"p/train/class{hue:02}", 2 + (hue == 7), hue)
    before = sorted(os.listdir(tmp_path))
    said = cli("scan", "p").out
    assert sorted(os.listdir(tmp_path)) == before
    assert len(said.splitlines()) == 12
    assert said.splitlines()[0] == f"{tmp_path}/p: 25 images, 12 labels; 25 train"
    assert said.splitlines()[2].split() == ["class07", "3", "3"]
    assert said.splitlines()[-1] == "  and 3 more labels"
    assert extract("p").out.startswith(said)
    values = json.loads(cli("scan", "p", "--json").out)
    assert len(values["classes"]) == 12
    assert json.loads(extract("p", "--json").out)["source"] == values
