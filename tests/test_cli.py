"""The command line: what it prints, what it exits with, and one line for whatever goes wrong."""

import csv
import json
import os
import shutil
import sys

import numpy as np
import pytest
from headstart.features import FeatureStore

SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")


@pytest.fixture(autouse=True)
def _stub_backbone(request, stand_in):
    """Commands embed with the stand-in, except where a test asks for the real thing."""
    if "real_backbone" not in request.fixturenames:
        stand_in("extract.pipeline", "apply.predict")


@pytest.fixture
def real_backbone():
    """Marks a test that embeds with Keras."""


@pytest.fixture
def here(photos, monkeypatch):
    """A working folder with photos/ in it."""
    monkeypatch.chdir(photos.parent)
    return photos.parent


@pytest.fixture
def trained(here, cli):
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib", "--folds", "3").code == 0
    return here


def failed(outcome, code=1):
    """The one line that a failed command wrote."""
    line = outcome.failure(code)
    assert outcome.err.strip() == line  # nothing was done before
    return line


def test_the_whole_path_with_a_real_backbone(here, cli, fill_photos, real_backbone):
    done = cli("extract", "photos", "-o", "pets.h5", *SMALL)
    assert done.code == 0
    assert "photos: 18 images, 2 labels" in done.out.splitlines()[0]
    assert "\npets.h5: 18 images x 1280 features, 2 labels (blue, red)\n" in done.out
    assert "random weights" in done.out
    done = cli("train", "pets.h5", "-o", "pets.joblib")
    assert "5-fold cross-validation, 18 images:" in done.out
    assert "saved as pets.joblib" in done.out

    new = fill_photos(here / "new", count=5)
    (new / "blue" / "broken.jpg").write_bytes(b"no image")
    done = cli("predict", "pets.joblib", "new", "-o", "new.csv", "--top", "2")
    assert done.code == 0
    assert "10 images predicted, 0 unfamiliar, 1 skipped" in done.out
    with open("new.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "path", "label", "confidence", "unfamiliar", "skipped", "label_2", "confidence_2",
    ]  # fmt: skip
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert len(rows) == 11
    for row in rows:
        if row["path"] == "blue/broken.jpg":
            assert row["label"] == row["confidence"] == row["label_2"] == ""
            assert row["skipped"].startswith("not an image")
        else:
            assert row["label"] == row["path"].split("/")[0]
            assert float(row["confidence"]) + float(row["confidence_2"]) == pytest.approx(1)

    cli("extract", "new", "-o", "new.h5", *SMALL)
    cli("predict", "pets.joblib", "new.h5", "-o", "again.csv", "--top", "2")
    with open("new.csv") as one, open("again.csv") as two:
        assert one.read() == two.read()
    assert not [name for name in os.listdir() if name.startswith(".headstart")]


def test_extract_reports_what_it_did_in_text_and_json(here, cli):
    (here / "photos" / "blue" / "bad.png").write_bytes(b"")
    shutil.copy("photos/blue/blue00.png", "photos/red/copy.png")
    done = cli("extract", "photos", "-o", "pets.h5", *SMALL)
    assert "embedded 18, reused 0, duplicates 1, removed 0, skipped 1" in done.out
    assert "headstart info pets.h5 --skipped" in done.out
    done = cli("extract", "photos", "-o", "pets.h5", *SMALL, "--json")
    values = json.loads(done.out)
    assert {"embedded": 0, "reused": 18, "duplicates": 1, "removed": 0, "skipped": 1}.items() <= (
        values.items()
    )
    assert values["seconds"].keys() == {
        "total", "load", "read", "decode", "embed", "waiting", "write",
    }  # fmt: skip
    assert values["rates"].keys() == {"total", "embed", "decode"}


def test_strict_fails_a_run_that_skipped_something_at_its_end(here, cli):
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL, "--strict").code == 0
    (here / "photos" / "blue" / "bad.png").write_bytes(b"")
    done = cli("extract", "photos", "-o", "pets.h5", *SMALL, "--strict")
    assert done.code == 1
    assert len(FeatureStore("pets.h5")) == 18


def test_info_says_what_is_in_a_file(trained, cli):
    values = json.loads(cli("info", "pets.h5", "--json").out)
    assert {
        "rows", "images", "dimension", "label_names", "content_digest", "fingerprint",
        "provenance", "environment", "skipped",
    } <= values.keys()  # fmt: skip
    assert values["labels"] == {"blue": 9, "red": 9}
    assert values["skipped"] == 0
    text = cli("info", "pets.h5").out
    assert "18 images x 8 float32 features" in text
    assert values["content_digest"] in text


def test_groups_of_a_list_are_said_by_scan_extract_and_info(here, cli):
    photos = sorted((here / "photos").rglob("*.png"))
    (here / "list.csv").write_text(
        "path,label,patient\n"
        + "".join(
            f"{file},{file.parent.name},{'' if number < 3 else f'p{number % 4}'}\n"
            for number, file in enumerate(photos)
        )
    )
    line = "the column 'patient' has 4 groups, which folds keep together; 3 of 18 images are in "
    named = ("list.csv", "--group-column", "patient")
    assert line in cli("scan", *named).out
    assert json.loads(cli("scan", *named, "--json").out)["groups"] == 4
    assert line in cli("extract", *named, "-o", "groups.h5", *SMALL).out
    assert "  groups: 4, of 15 rows\n" in cli("info", "groups.h5").out
    values = json.loads(cli("info", "groups.h5", "--json").out)
    assert (values["groups"], values["grouped"]) == (4, 15)
    assert line not in cli("extract", "list.csv", "-o", "groups.h5", *SMALL).out
    assert "groups:" not in cli("info", "groups.h5").out


def test_verify_says_what_is_wrong_and_exits_with_1(trained, cli):
    import h5py

    assert cli("verify", "pets.h5").out == "pets.h5: sound\n"
    with h5py.File("pets.h5", "a") as file:
        file["splits"][3] = 9
    done = cli("verify", "pets.h5")
    assert done.code == 1
    assert "pets.h5: splits: holds a number that is no split" in done.out
    done = cli("verify", "pets.h5", "--json")
    assert json.loads(done.out)["sound"] is False


def test_info_lists_skipped_images_with_their_reasons(here, cli):
    name = os.fsencode(here) + b"/photos/blue/caf\xe9.png"
    with open(name, "wb"):
        pass
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    done = cli("info", "pets.h5", "--skipped")
    assert done.code == 0
    assert "empty file (0 bytes)" in done.out
    values = json.loads(cli("info", "pets.h5", "--skipped", "--json").out)
    assert values["skipped"] == 1
    assert [one["reason"] for one in values["skipped_files"]] == ["empty file (0 bytes)"]
    cli("train", "pets.h5", "-o", "pets.joblib")
    assert cli("predict", "pets.joblib", "photos", "-o", "out.csv").code == 0
    with open("out.csv", "rb") as file:
        assert b"blue/caf\xe9.png," in file.read()
    assert cli("predict", "pets.joblib", "photos", "-o", "out.jsonl").code == 0
    with open("out.jsonl") as file:
        paths = [os.fsencode(json.loads(line)["path"]) for line in file]
    assert b"blue/caf\xe9.png" in paths


def test_train_and_evaluate_print_json_that_others_rely_on(trained, cli, fill_photos):
    done = cli("train", "pets.h5", "-o", "pets.joblib", "--json", "--head", "svm")
    keys = {
        "head", "accuracy", "interval", "baseline", "balanced_accuracy", "macro_f1", "log_loss",
        "per_class", "seconds",
    }  # fmt: skip
    values = json.loads(done.out)
    assert keys <= values.keys()
    assert values["head"] == "svm"
    fill_photos(trained / "others", count=12)
    cli("extract", "others", "-o", "others.h5", *SMALL)
    done = cli("evaluate", "pets.joblib", "others.h5", "--json")
    values = json.loads(done.out)
    assert keys <= values.keys()
    assert values["rows"] == 2 * 3  # the other nine of each colour were trained on
    assert "18 images that the head was trained on are left out" in values["notes"]
    assert "note: 18 images" in cli("evaluate", "pets.joblib", "others.h5").out


def test_info_on_a_head_shows_its_scores_and_settings(trained, cli):
    text = cli("info", "pets.joblib").out
    assert "3-fold cross-validation, 18 images:" in text
    assert "Xception" not in text
    values = json.loads(cli("info", "pets.joblib", "--json").out)
    assert values["label_names"] == ["blue", "red"]
    assert "unseen" not in values
    assert values["provenance"]["backbone"] == "MobileNetV2"
    assert values["scores"]["rows"] == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "nowhere", "-o", "x.h5"], "nowhere: no such folder"),
        (["extract", "empty", "-o", "x.h5"], "empty: no images"),
        (["extract", "photos", "-o", "x.h5", "--backbone", "xeption"], "did you mean Xception?"),
        (
            ["extract", "photos", "-o", "x.h5", "--size", "70"],
            "too small for Xception: at least 71",
        ),
        (["extract", "photos", "-o", "x.h5", "--fit", "squash"], "use one of stretch, crop, pad"),
        (["extract", "photos", "-o", "x.h5", "--weights", "w.h5"], "'w.h5': no such file"),
        (["extract", "photos", "-o", "nowhere/x.h5"], "nowhere: no such folder for x.h5"),
        (["extract", "list.csv", "-o", "x.h5"], "needs the column 'path'"),
        (["extract", "photos", "-o", "pets.h5"], "backbone is MobileNetV2 against Xception"),
        (["extract", "photos", "-o", "list.csv"], "list.csv: not a headstart feature file"),
        (["extract", "photos", "-o", "list.csv", "--fresh"], "so --fresh does not replace it"),
        (["extract", "list.csv", "-o", "list.csv", "--fresh"], "is the source itself"),
        (["extract", "photos", "-o", "x.h5", "--labels", "all"], "use one of folder, none"),
        (["predict", "pets.joblib", "pets.h5", "-o", "pets.csv/x.csv"], "no such folder for x.csv"),
        (["predict", "pets.joblib", "list.csv", "-o", "list.csv"], "is one of the inputs"),
        (["info", "nowhere.h5"], "nowhere.h5: no such file"),
        (["info", "list.csv"], "list.csv: not a headstart feature file"),
        (["train", "list.csv", "-o", "x.joblib"], "list.csv: not a headstart feature file"),
        (
            ["train", "pets.h5", "-o", "x.pkl"],
            "x.pkl: a head is saved as NAME.joblib or NAME.skops",
        ),
        (["train", "pets.h5", "-o", "x.joblib", "--head", "svn"], "did you mean svm?"),
        (["train", "pets.h5", "-o", "x.joblib", "--folds", "2"], "scores need at least 3 folds"),
        (["train", "pets.h5", "-o", "x.joblib", "--class-weight", "even"], "use 'balanced'"),
        (["compare", "pets.h5", "list.csv"], "list.csv: not a headstart feature file"),
        (["evaluate", "list.csv", "pets.h5"], "list.csv: not a head"),
        (["evaluate", "pets.joblib", "pets.h5"], "trained on every image"),
        (["evaluate", "pets.joblib", "pets.h5", "--split", "tset"], "split 'tset': use train,"),
        (["predict", "pets.joblib", "empty", "-o", "x.csv"], "empty: no images"),
        (["predict", "pets.joblib", "photos", "-o", "x.txt"], "as .csv or .jsonl"),
        (
            ["predict", "pets.joblib", "photos", "-o", "empty"],
            "empty: is a folder; name a file in it",
        ),
        (
            ["predict", "nowhere.joblib", "photos", "-o", "x.csv"],
            "nowhere.joblib: this head cannot",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_leaves_nothing_behind(trained, cli, arguments, message):
    (trained / "empty").mkdir()
    (trained / "list.csv").write_text("mug,cup\n")
    before = {path: path.is_file() and path.read_bytes() for path in trained.rglob("*")}
    usage = "use one of" in message or "did you mean" in message or "too small" in message
    usage = usage or "split 'tset'" in message or "w.h5" in message or "use 'bal" in message
    usage = usage or "3 folds" in message
    assert message in failed(cli(*arguments), code=2 if usage else 1)
    after = {path: path.is_file() and path.read_bytes() for path in trained.rglob("*")}
    assert after == before


def test_a_head_does_not_take_features_of_another_backbone(trained, cli):
    cli("extract", "photos", "-o", "big.h5", "--weights", "random")
    for arguments in (
        ["evaluate", "pets.joblib", "big.h5"],
        ["predict", "pets.joblib", "big.h5", "-o", "x.csv"],
    ):
        assert "backbone is MobileNetV2 against Xception" in failed(cli(*arguments))


def test_images_without_labels_can_be_embedded_and_predicted_but_not_trained_on(trained, cli):
    cli("extract", "photos", "-o", "plain.h5", *SMALL, "--labels", "none")
    assert "none of its 18 images has a label" in failed(cli("train", "plain.h5", "-o", "x.joblib"))
    assert cli("predict", "pets.joblib", "plain.h5", "-o", "x.csv").code == 0


def test_one_class_only_is_refused_by_name(trained, cli):
    cli("extract", "photos/blue", "-o", "none.h5", *SMALL)
    shutil.rmtree("photos/red")
    cli("extract", "photos", "-o", "one.h5", *SMALL)
    assert "only one class, 'blue'" in failed(cli("train", "one.h5", "-o", "x.joblib"))


def test_a_head_from_elsewhere_needs_trust_on_every_command(trained, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "elsewhere"))
    for arguments in (
        ["info", "pets.joblib"],
        ["predict", "pets.joblib", "pets.h5", "-o", "x.csv"],
    ):
        assert "--trust" in failed(cli(*arguments))
        assert cli(*arguments, "--trust").code == 0


def test_moved_weights_are_asked_for_and_taken_from_their_new_place(here, cli, monkeypatch):
    (here / "w.weights.h5").write_bytes(b"weights")
    settings = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "w.weights.h5")
    cli("extract", "photos", "-o", "pets.h5", *settings)
    cli("train", "pets.h5", "-o", "pets.joblib")
    os.rename("w.weights.h5", "moved.weights.h5")
    line = failed(cli("predict", "pets.joblib", "photos", "-o", "x.csv"))
    assert "w.weights.h5" in line
    assert "--weights FILE" in line
    moved = cli("predict", "pets.joblib", "photos", "-o", "x.csv", "--weights", "moved.weights.h5")
    assert moved.code == 0


def test_wrong_usage_exits_with_2_in_one_line(cli):
    for arguments in (["extract"], ["bogus"], ["train", "x.h5", "-o"], ["demo", "--size", "3"]):
        assert "--help`" in failed(cli(*arguments), code=2)


def test_an_interrupt_says_how_to_go_on(here, cli, interrupt_after):
    with interrupt_after(0):
        done = cli("extract", "photos", "-o", "pets.h5", *SMALL)
    assert done.code == 130
    assert done.err.endswith("headstart: interrupted; nothing was finished yet\n")
    assert "Traceback" not in done.err
    cli("extract", "photos", "-o", "pets.h5", *SMALL)
    with interrupt_after(0):
        done = cli("extract", "photos", "-o", "pets.h5", "--rescan", "--fresh", *SMALL)
    assert done.err.endswith("is kept, and the same command goes on from there\n")


def test_debug_shows_the_traceback_wherever_it_stands(cli):
    from headstart.cli import main
    from headstart.features import SourceError

    for arguments in (
        ["--debug", "extract", "nowhere", "-o", "x.h5"],
        ["extract", "nowhere", "-o", "x.h5", "--debug"],
    ):
        with pytest.raises(SourceError):
            main(arguments)


def test_a_fault_of_our_own_is_one_line_too(here, cli, monkeypatch):
    def fault(*arguments, **options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("headstart.extract.pipeline.run", fault)
    line = failed(cli("extract", "photos", "-o", "pets.h5", *SMALL))
    assert "internal error: ZeroDivisionError: oops (--debug shows where)" in line


def test_every_command_has_help_that_names_its_options(cli):
    text = cli("--help").out
    for command in ("extract", "info", "train", "evaluate", "compare", "predict", "demo"):
        assert command in text
        assert "Usage: headstart " + command in cli(command, "--help").out


def test_all_heads_are_compared_and_the_best_is_saved(trained, cli):
    done = cli("train", "pets.h5", "-o", "best.skops", "--head", "all", "--json")
    values = json.loads(done.out)
    assert sorted(one["head"] for one in values["leaderboard"]) == [
        "logistic",
        "prototype",
        "svm",
        "svm-rbf",
    ]
    assert values["leaderboard"][0]["head"] == values["head"]
    assert json.loads(cli("info", "best.skops", "--json").out)["name"] == values["head"]
    text = cli("train", "pets.h5", "-o", "best.skops", "--head", "all").out
    assert "behind the best" in text
    assert "saved as best.skops" in text


def test_plots_are_drawn_with_something_on_them(trained, cli):
    from PIL import Image

    done = cli("train", "pets.h5", "-o", "x.joblib", "--plots", "plots/today")
    assert done.code == 0, done.err
    assert "drawn: plots/today/confusion.png" in done.out
    for name in ("confusion", "reliability", "learning-curve"):
        with Image.open(f"plots/today/{name}.png") as image:
            assert min(image.size) > 400
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_without_matplotlib_plots_are_refused_before_the_work(trained, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = failed(cli("train", "pets.h5", "-o", "x.joblib", "--plots", "plots"))
    assert 'python3 -m pip install "headstart[plots]"' in line
    assert not os.path.exists("x.joblib")
    assert not os.path.exists("plots")


def test_compare_ranks_files_beside_random_weights_and_pixels(trained, cli):
    cli("extract", "photos", "-o", "float.h5", *SMALL[:-2], "--dtype", "float16")
    done = cli("compare", "pets.h5", "float.h5", "--pixels", "photos")
    assert done.code == 0, done.err
    assert "pets.h5 (random weights)" in done.out
    assert "raw pixels" in done.out
    values = json.loads(cli("compare", "pets.h5", "float.h5", "--json").out)
    assert values["images"] == 18
    assert {one["name"]: one["baseline"] for one in values["ranks"]} == {
        "pets.h5": "random weights",
        "float.h5": "",
    }
    assert "None of these files is a baseline" not in done.out
    assert "float.h5 is no better than" in done.out  # the stand-in does the same for any weights
    assert "None of these files is a baseline" in cli("compare", "float.h5", "float.h5").out


def test_compare_says_which_images_it_misses(trained, cli):
    line = failed(cli("compare", "pets.h5", "--pixels", "photos/red"))
    assert "images of the feature files are not in it" in line
    assert "only one feature file" in failed(cli("compare", "pets.h5"), code=2)


def test_the_cache_is_shown_and_cleared_as_text_and_as_json(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    assert cli("cache").out == f"{tmp_path / 'cache'}: empty\n"
    cleared = f"{tmp_path / 'cache'}: 0 items removed, 0 bytes freed\n"
    assert cli("cache", "--clear").out == cleared
    graph = tmp_path / "cache" / "graphs" / "Xception-299-0123456789abcdef"
    graph.mkdir(parents=True)
    (graph / "graph.bin").write_bytes(bytes(84_000_000))
    os.utime(graph, (1_700_000_000, 1_700_000_000))
    first, header, row, advice = cli("cache").out.splitlines()
    assert first == f"{tmp_path / 'cache'}: 84.0 MB"
    assert header.split() == ["items", "size", "in", "use", "last", "used", "unused", "since"]
    assert row.split()[:2] == ["graphs:", "backbones,"]
    assert row.split()[-6:-2] == ["1", "84.0", "MB", "0"]
    assert row.split()[-1].startswith("2023-11-1")
    assert "--clear" in advice
    values = json.loads(cli("cache", "--json").out)
    (item,) = values["kinds"]["graphs"]["items"]
    assert (item["bytes"], item["last_used"]) == (84_000_000, "2023-11-14T22:13:20+00:00")
    assert values["bytes"] == 84_000_000
    values = json.loads(cli("cache", "--clear", "--json").out)
    assert (values["removed"], values["freed"], values["kept"]) == (1, 84_000_000, [])
    assert not graph.exists()


def test_a_cache_that_cannot_be_read_is_said_in_one_line(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("in the way")
    problem = f"{tmp_path / 'cache'}: cannot be read: Not a directory"
    for command in (("cache",), ("cache", "--clear")):
        assert cli(*command).failure() == f"headstart: {problem}"
    done = cli("cache", "--json")
    assert (done.code, json.loads(done.out)["problems"]) == (1, [problem])
