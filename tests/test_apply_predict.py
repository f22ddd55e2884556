"""`headstart predict`: rows in the order of the source, work kept, and a contract that holds."""

import csv
import dataclasses
import json
import os

import joblib
import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import load_head, train
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, HeadError, Provenance, ProvenanceMismatch
from PIL import Image

SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")


@pytest.fixture
def stubs(stand_in):
    """Commands embed with the stand-in; a list of those that were made."""
    return stand_in("extract.pipeline", "apply.predict")


@pytest.fixture
def here(photos, monkeypatch, fill_photos):
    """A working folder with photos/, new/ and pets.joblib in it."""
    monkeypatch.chdir(photos.parent)
    fill_photos(photos.parent / "new", count=6)
    return photos.parent


@pytest.fixture
def trained(here, stubs, cli):
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    stubs.clear()
    return here


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def changed(head, **fields):
    """A head that claims another origin than it has."""
    return dataclasses.replace(head, origin=dataclasses.replace(head.origin, **fields))


def hidden():
    return [name for name in os.listdir() if name.startswith(".")]


def test_rows_keep_the_order_of_a_manifest_and_of_images_given(trained, cli):
    order = ["new/red/red03.png", "new/blue/blue05.png", "new/red/red00.png", "new/blue/blue01.png"]
    (trained / "list.csv").write_text("path\n" + "\n".join(order) + "\n")
    assert cli("predict", "pets.joblib", "list.csv", "-o", "a.csv").code == 0
    assert cli("predict", "pets.joblib", *order, "-o", "b.csv").code == 0
    assert [row["path"] for row in table("a.csv")] == order
    assert table("a.csv") == table("b.csv")
    assert [row["label"] for row in table("a.csv")] == ["red", "blue", "red", "blue"]
    assert cli("predict", "pets.joblib", order[0], "-o", "one.jsonl").code == 0
    (line,) = (trained / "one.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == order[0]


def test_images_and_their_feature_file_give_the_same_table(trained, cli):
    (trained / "new" / "bad.png").write_bytes(b"x")
    for end in ("csv", "jsonl"):
        assert cli("predict", "pets.joblib", "new", "-o", f"a.{end}", "--top", "9").code == 0
        assert cli("extract", "new", "-o", "new.h5", *SMALL).code == 0
        assert cli("predict", "pets.joblib", "new.h5", "-o", f"b.{end}", "--top", "9").code == 0
        assert (trained / f"a.{end}").read_bytes() == (trained / f"b.{end}").read_bytes()
    assert list(table("a.csv")[0]) == [
        "path", "label", "confidence", "unfamiliar", "skipped", "label_2", "confidence_2",
    ]  # fmt: skip
    assert hidden() == []


def test_kept_features_are_those_of_extract_and_serve_a_second_head_without_embedding(
    trained, stubs, cli
):
    done = cli("predict", "pets.joblib", "new", "-o", "a.csv", "--features", "new.h5", "--json")
    assert json.loads(done.out)["features"] == "new.h5"
    assert cli("extract", "new", "-o", "other.h5", *SMALL).code == 0
    assert FeatureStore("new.h5").content_digest == FeatureStore("other.h5").content_digest
    assert cli("train", "pets.h5", "-o", "svm.joblib", "--head", "svm", "--folds", "3").code == 0
    stubs.clear()
    done = cli("predict", "svm.joblib", "new", "-o", "b.csv", "--features", "new.h5")
    assert done.code == 0
    assert [stub.loads for stub in stubs] == [0]
    assert [row["label"] for row in table("b.csv")] == ["blue"] * 6 + ["red"] * 6
    line = cli("predict", "svm.joblib", "new.h5", "-o", "c.csv", "--features", "x.h5").failure(2)
    assert "new.h5 is a feature file already" in line


def test_features_that_are_something_else_already_are_not_replaced(trained, cli):
    before = (trained / "pets.h5").read_bytes()
    done = cli("predict", "pets.joblib", "new", "-o", "a.csv", "--features", "pets.h5")
    assert f"(they come from {trained / 'photos'}) and would be removed" in done.failure(2)
    assert (trained / "pets.h5").read_bytes() == before
    one = ("predict", "pets.joblib", "-o", "one.csv", "--features", "one.h5")
    assert cli(*one, "new/red/red00.png").code == 0
    assert "1 of the 1 vectors known for it" in cli(*one, "new/red/red01.png").failure(2)
    assert cli(*one, "new/red/red01.png", "new/red/red00.png").code == 0
    done = cli("predict", "pets.joblib", "new", "-o", "a.csv", "--features", "a.csv")
    assert "a.csv: is the output (-o) too" in done.failure(2)
    cli("extract", "new", "-o", "other.h5", *SMALL[:2], "--size", "64", "--weights", "random")
    line = cli("predict", "pets.joblib", "new", "-o", "a.csv", "--features", "other.h5").failure()
    assert "size is 64 against 32" in line
    assert line.endswith("Name another file by --features.")
    assert not (trained / "a.csv").exists()


def test_an_interrupted_prediction_goes_on_where_it_stopped(
    trained, stubs, cli, fill_photos, interrupt_after
):
    fill_photos(trained / "new", count=200)
    with interrupt_after(1):
        done = cli("predict", "pets.joblib", "new", "-o", "a.csv")
    assert done.code == 130
    assert "the same command goes on from there" in done.err
    assert not (trained / "a.csv").exists()
    stubs.clear()
    assert cli("predict", "pets.joblib", "new", "-o", "a.csv").code == 0
    (again,) = stubs
    assert again.engine.images - 8 in (400 - 256, 400 - 144)  # eight of them the test images
    assert hidden() == []
    assert len(table("a.csv")) == 400


def test_a_source_that_vanishes_midway_is_one_line_and_no_table(trained, cli, monkeypatch):
    original, opened = Image.open, []

    def vanish(*arguments, **options):
        opened.append(arguments)
        if len(opened) == 5:
            os.rename("new", "unplugged")
        return original(*arguments, **options)

    monkeypatch.setattr(Image, "open", vanish)
    line = cli("predict", "pets.joblib", "new", "-o", "a.csv").failure()
    assert "new: its images vanished while they were read" in line
    assert not (trained / "a.csv").exists()
    os.rename("unplugged", "new")
    assert cli("predict", "pets.joblib", "new", "-o", "a.csv").code == 0
    assert not [row for row in table("a.csv") if row["skipped"]]


def test_no_readable_image_exits_with_1_and_writes_nothing(trained, cli):
    (trained / "bad").mkdir()
    (trained / "bad" / "1.png").write_bytes(b"")
    for source in ("bad", "bad/1.png"):
        line = cli("predict", "pets.joblib", source, "-o", "a.csv").failure()
        assert "none of the 1 images can be used" in line
        assert "empty file (0 bytes)" in line
    assert hidden() == []
    assert not (trained / "a.csv").exists()


def test_a_table_that_stands_is_kept_when_prediction_fails(trained, cli, monkeypatch):
    (trained / "a.csv").write_text("before")
    (trained / "bad.png").write_bytes(b"")
    assert cli("predict", "pets.joblib", "bad.png", "-o", "a.csv").code == 1
    assert (trained / "a.csv").read_text() == "before"


def test_an_image_unlike_all_training_images_is_flagged(trained, cli, make_stub):
    # Eighteen images of two flat colours are soon told from anything else.
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    noise[:, :16] = 255 - noise[:, :16] // 8
    Image.fromarray(noise).save("new/zebra.png")
    done = cli("predict", "pets.joblib", "new", "-o", "a.csv")
    flags = {row["path"]: row["unfamiliar"] for row in table("a.csv")}
    assert flags["zebra.png"] == "true"
    assert list(flags.values()).count("true") <= 3
    assert f"{list(flags.values()).count('true')} unfamiliar" in done.out
    cli("predict", "pets.joblib", "new", "-o", "a.jsonl")
    rows = [json.loads(line) for line in (trained / "a.jsonl").read_text().splitlines()]
    assert {row["path"]: json.dumps(row["unfamiliar"]) for row in rows} == flags


def test_a_head_of_another_format_version_is_one_line(trained, cli):
    content = joblib.load("pets.joblib")
    content["metadata"]["format_version"] = 99
    joblib.dump(content, "future.joblib")
    line = cli("predict", "future.joblib", "new", "-o", "a.csv", "--trust").failure()
    assert "head format version 99" in line


OTHER = {
    "backbone": "VGG16",
    "weights_digest": "1" * 64,
    "pooling": "max",
    "size": 64,
    "dimension": 9,
    "decode": "another library",
    "resize": "nearest",
    "fit": "crop",
    "normalisation": "none",
    "precision": "bf16",
    "dtype": "float16",
    "preprocessing_version": 1,
}
NOT_FOLLOWED = (
    "weights_digest", "pooling", "decode", "resize", "normalisation",
    "preprocessing_version",
)  # fmt: skip
"""What cannot be done as a head asks for: there is but one way in a version of headstart."""


def test_every_field_of_the_provenance_has_a_mutation():
    assert OTHER.keys() == {field.name for field in dataclasses.fields(Provenance)}


@pytest.mark.parametrize("field", OTHER)
def test_a_head_refuses_features_that_differ_in_any_field_and_names_it(
    photos, stub, tmp_path, field
):
    run(stub, photos, tmp_path / "pets.h5")
    store = FeatureStore(tmp_path / "pets.h5")
    head = train(store, folds=3)
    mutated = dataclasses.replace(head.provenance, **{field: OTHER[field]})
    with pytest.raises(ProvenanceMismatch, match=rf"does not fit .*: {field} is [^;]*$"):
        changed(head, provenance=mutated).predict(store)


@pytest.mark.parametrize("field", NOT_FOLLOWED)
def test_a_head_refuses_a_backbone_that_differs_in_any_field_and_names_it(
    trained, stubs, cli, field
):
    head = load_head("pets.joblib")
    mutated = dataclasses.replace(head.provenance, **{field: OTHER[field]})
    changed(head, provenance=mutated).save("other.joblib")
    line = cli("predict", "other.joblib", "new", "-o", "a.csv").failure()
    _, _, sides = line.partition(f"{field} is ")
    asked, _, ours = sides.partition(" against ")
    assert str(OTHER[field])[:12] == asked[:12]
    assert ours.startswith(str(getattr(head.provenance, field))[:12])
    assert not (trained / "a.csv").exists()
    assert hidden() == []
    if field != "weights_digest":
        assert stubs == []  # known before a backbone is loaded


@pytest.mark.parametrize("field", ["backbone", "size", "fit"])
def test_what_a_head_asks_for_wrongly_shows_in_the_test_images(here, cli, field):
    """Backbone, size and fit are built as the head says; that it is not so shows by itself."""
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    head = load_head("pets.joblib")
    other = "NASNetMobile" if field == "backbone" else OTHER[field]
    mutated = dataclasses.replace(head.provenance, **{field: other})
    changed(head, provenance=mutated).save("other.joblib")
    line = cli("predict", "other.joblib", "new", "-o", "a.csv").failure()
    if field == "backbone":
        assert "against keras.applications.nasnet.preprocess_input." in line
    else:
        assert "the test images come out differently on this machine" in line
        assert "relative distance" in line
    assert not (here / "a.csv").exists()


def test_a_canary_that_disagrees_is_refused_and_says_by_how_much(trained, cli):
    head = load_head("pets.joblib")
    canary = head.canary.copy()
    canary[3] *= 1.01
    changed(head, canary=canary).save("other.joblib")
    for source in ("new", "pets.h5"):
        line = cli("predict", "other.joblib", source, "-o", "a.csv").failure()
        assert "relative distance 0.0099, at most 0.001 is allowed" in line
    assert hidden() == []


def test_there_is_no_way_to_force_it(cli):
    for command in ("predict", "evaluate", "export"):
        assert "force" not in cli(command, "--help").out
        assert "No such option" in cli(command, "--force").failure(2)


# From Python


def test_one_call_gives_what_the_command_writes(trained, cli):
    (trained / "new" / "bad.png").write_bytes(b"x")
    assert cli("predict", "pets.joblib", "new", "-o", "a.csv", "--top", "2").code == 0
    predictions = predict(load_head("pets.joblib"), "new", out="b.csv", top=2)
    assert (trained / "a.csv").read_bytes() == (trained / "b.csv").read_bytes()
    rows = table("a.csv")
    assert len(predictions) == len(rows) == 13
    assert predictions.paths == [row["path"] for row in rows]
    assert [label or "" for label in predictions.labels] == [row["label"] for row in rows]
    assert predictions.skipped == [row["skipped"] for row in rows]
    assert predictions.counts == {"blue": 6, "red": 6}
    bad = predictions.paths.index("bad.png")
    assert np.isnan(predictions.confidences[bad])
    assert predictions.alternatives[bad] == []
    assert predictions.unfamiliar[bad] is None
    for label, confidence, (other,) in zip(
        predictions.labels[:bad],
        predictions.confidences[:bad],
        predictions.alternatives[:bad],
        strict=True,
    ):
        assert {label, other[0]} == {"blue", "red"}
        assert confidence + other[1] == pytest.approx(1)
    assert repr(predictions).startswith("Predictions(13 images; blue: 6, red: 6; ")
    assert repr(predictions).endswith(" unfamiliar, 1 skipped)")


def test_columns_are_of_one_length_and_the_table_has_their_names(trained):
    predictions = predict("pets.joblib", "new", top=2, out="a.csv")
    columns = predictions.columns
    assert {len(column) for column in columns.values()} == {12}
    assert list(columns) == list(table("a.csv")[0])
    predictions.to_jsonl("a.jsonl")
    for number, line in enumerate((trained / "a.jsonl").read_text().splitlines()):
        assert json.loads(line) == {name: column[number] for name, column in columns.items()}


def test_features_can_be_handed_over_as_a_file_or_opened_and_nothing_is_left_behind(trained):
    before = sorted(trained.iterdir())
    head = load_head("pets.joblib")
    predictions = predict(head, "photos")
    for features in ("pets.h5", FeatureStore("pets.h5")):
        assert predict(head, features) == predictions
    assert sorted(trained.iterdir()) == before


def test_a_head_points_from_images_to_predict(trained):
    with pytest.raises(HeadError, match=r"use `headstart\.apply\.predict\(head, source\)`"):
        load_head("pets.joblib").predict(["new/red/red00.png"])


def test_tta_predicts_new_images_by_the_recipe_of_the_head_and_its_absence_is_said(
    here, stubs, cli
):
    recipe = ("--views", "3", "--augment", "flip,rotation=0.2")
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL, *recipe).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3", "--tta").code == 0
    stubs.clear()
    assert cli("predict", "pets.joblib", "new", "-o", "mean.csv", "--tta").err.count("--tta") == 0
    assert stubs[0].engine.images == 3 * 12 + 8  # and the built-in test images
    assert cli("extract", "new", "-o", "new.h5", *SMALL, *recipe).code == 0
    expected = load_head("pets.joblib").predict(FeatureStore("new.h5"), tta=True)
    confidences = [float(row["confidence"]) for row in table("mean.csv")]
    np.testing.assert_allclose(confidences, expected.confidences, atol=1e-6)
    assert "--tta makes such" in cli("predict", "pets.joblib", "new", "-o", "one.csv").err
    assert confidences != [float(row["confidence"]) for row in table("one.csv")]
    assert hidden() == []
