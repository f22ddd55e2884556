"""The table of labels that may be wrong: where it may be written, and what is in it."""

import csv
import os

import numpy as np
import pytest
from headstart.classify import Audit, audit
from headstart.features import HeadstartError, TrainingError


@pytest.fixture
def store(make_store):
    """Two clouds of 40 images, of which two have the other's label."""
    generator = np.random.default_rng(0)
    codes = np.arange(80) % 2
    features = generator.normal(size=(80, 40)) + 2 * codes[:, None]
    codes[[4, 9]] = 1 - codes[[4, 9]]
    return make_store(features, [("cat", "dog")[code] for code in codes], name="pets.h5")


def test_flipped_labels_are_first_in_the_table_which_says_what_columns_say(store, tmp_path):
    found = audit(store)
    found.to_csv(tmp_path / "suspects.csv")
    with open(tmp_path / "suspects.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows[:2]} == {"000004.png", "000009.png"}
    assert [row["path"] for row in rows] == found.columns["path"]
    assert list(rows[0]) == list(found.columns)


@pytest.mark.parametrize("name", ["pets.h5", "suspects", "suspects.txt", "suspects.csv.h5"])
def test_suspects_are_written_as_csv_alone_and_what_was_there_stays(store, tmp_path, name, cli):
    was = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
    with pytest.raises(HeadstartError, match=r"suspects are written as NAME\.csv; name it so"):
        Audit((), 0, ()).to_csv(tmp_path / name)
    line = cli("audit", store.path, "-o", tmp_path / name).failure()
    assert line == f"headstart: {tmp_path / name}: suspects are written as NAME.csv; name it so"
    assert ((tmp_path / name).read_bytes() if was else None) == was
    assert was or not (tmp_path / name).exists()


def test_the_table_does_not_take_the_place_of_the_features_whatever_their_name(
    store, tmp_path, cli
):
    odd, link = tmp_path / "odd.CSV", tmp_path / "link.csv"
    os.rename(store.path, odd)
    link.symlink_to(odd)
    was = odd.read_bytes()
    for out in (odd, link, tmp_path / "." / "odd.CSV"):
        line = cli("audit", odd, "-o", out).failure()
        assert line.endswith("is the feature file that is audited; choose another output")
    assert odd.read_bytes() == was


@pytest.mark.parametrize("head", ["all", "foo"])
def test_a_head_that_audit_does_not_have_is_told_which_it_has(store, cli, head):
    line = cli("audit", store.path, "--head", head).failure(2)
    assert "auto, logistic, prototype, svm, svm-rbf" in line
    assert "`headstart train`" in line


def test_what_is_left_out_for_its_labels_is_a_suspect_and_no_note(make_store):
    generator = np.random.default_rng(0)
    codes = np.arange(60) % 2
    features = generator.normal(size=(60, 40)) + 3 * codes[:, None]
    contents = [*range(59), 0]  # of another class than the first
    labels = [f"class {code}" for code in codes]
    found = audit(make_store(features, labels, contents=contents))
    assert {"000000.png", "000059.png"} <= {one.path for one in found.suspects}
    assert found.notes == ()
    with pytest.raises(TrainingError, match="2 images are left out, because files of the same"):
        audit(make_store(features[[0, 1]], labels[:2], contents=[0, 0], name="few.h5"))
