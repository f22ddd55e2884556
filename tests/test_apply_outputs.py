"""Files that predict, export and --plots write: readable by others, whole or not there."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from headstart.apply import Predictions
from headstart.apply.predictions import writer_of
from headstart.classify import load_head
from headstart.extract.backbones import fused
from headstart.features import HeadstartError
from headstart.pages.plots import require_plots

SMALL = ("--backbone", "MobileNetV2", "--size", "32", "--weights", "random")
NAMES = ["plain", "a\rb", "a\nb", "a\r\nb", "\r", 'q"q', "n\0ul", " lead", "tail ", "=1+1", "c,d"]
NAMES += ["'", "\ufeffmark", "x\u2028y\x85z\x0b", "γάτα", "caf\udce9", ""]


def predictions(names):
    """Of one image each, whose path and label are that name."""
    return Predictions(
        label_names=sorted(set(names)),
        paths=[f"folder/{name}" for name in names],
        ranked=[[(name, 0.5)] for name in names],
        unfamiliar=[False] * len(names),
        skipped=[name if name == "a\rb" else "" for name in names],
    )


def test_a_table_has_one_row_an_image_whatever_is_in_the_names(tmp_path):
    predictions(NAMES).to_csv(tmp_path / "a.csv")
    how = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with open(tmp_path / "a.csv", **how) as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["label"] for row in rows] == NAMES
    assert [row["path"] for row in rows] == [f"folder/{name}" for name in NAMES]
    assert [row["skipped"] for row in rows].count("a\rb") == 1
    # Readers that take each of \r, \n and \r\n for an end of line find those only within quotes.
    data = (tmp_path / "a.csv").read_bytes()
    outside = b"".join(data.split(b'"')[::2])
    assert outside.count(b"\n") == len(NAMES) + 1
    assert b"\r" not in outside


def test_a_table_whose_names_are_text_is_utf_8_and_other_names_keep_their_bytes(tmp_path):
    text = [name for name in NAMES if "\udce9" not in name]
    predictions(text).to_csv(tmp_path / "text.csv")
    assert "γάτα" in (tmp_path / "text.csv").read_text("utf-8")
    predictions(["caf\udce9", "half \ud83d"]).to_csv(tmp_path / "other.csv")
    data = (tmp_path / "other.csv").read_bytes()
    assert b"folder/caf\xe9,caf\xe9," in data
    assert b"folder/half \\ud83d,half \\ud83d," in data
    predictions(NAMES).to_jsonl(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_bytes().decode("ascii").split("\n")
    assert [json.loads(line)["label"] for line in lines if line] == NAMES


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x.Csv", "x.jsonl", "x.JSONL"])
def test_the_ending_of_a_table_is_known_in_either_case(tmp_path, name):
    path = tmp_path / name
    writer_of(path)(predictions(["a"]), path)
    assert path.read_text().startswith("path,label" if "csv" in name.lower() else "{")


def test_a_table_of_no_known_ending_is_refused(tmp_path):
    with pytest.raises(HeadstartError, match=r"as \.csv or \.jsonl; name it so"):
        writer_of(tmp_path / "x.txt")


@pytest.fixture
def trained(photos, stand_in, cli, monkeypatch):
    """A working folder with pets.h5 and pets.skops."""
    monkeypatch.chdir(photos.parent)
    stand_in("extract.pipeline", "apply.predict", "apply.export")
    assert cli("extract", "photos", "-o", "pets.h5", *SMALL).code == 0
    assert cli("train", "pets.h5", "-o", "pets.skops", "--folds", "3").code == 0
    return photos.parent


@pytest.fixture
def fake_models(stub, monkeypatch):
    """Have models of 1 MB written, which say what `predict` says."""

    def write(path, request, top, about):
        path.write_bytes(bytes(1 << 20))
        head = load_head("pets.skops")
        return lambda images: head.predict(stub.engine.embed(images)).probabilities

    monkeypatch.setattr(fused, "write", write)


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a file system with room for a few names and none for contents."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder]
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(mounting, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs")
    (folder / "fill").write_bytes(b"")
    try:
        with open(folder / "fill", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("out.csv", ("predict", "pets.skops", "pets.h5", "-o")),
        ("out.jsonl", ("predict", "pets.skops", "pets.h5", "-o")),
        ("out.keras", ("export", "pets.skops", "-o")),
        ("out.joblib", ("train", "pets.h5", "--folds", "3", "-o")),
        ("confusion.png", ("train", "pets.h5", "-o", "x.skops", "--folds", "3", "--plots")),
    ],
    ids=["csv", "jsonl", "keras", "joblib", "plots"],
)
def test_a_full_disk_is_said_with_file_and_remedy_and_nothing_half_written_is_left(
    trained, full_disk, fake_models, cli, name, arguments
):
    if name.endswith(".png"):
        pytest.importorskip("matplotlib")
    before = sorted(full_disk.iterdir())
    target = full_disk if name.endswith(".png") else full_disk / name
    done = cli(*arguments, target)
    assert done.code == 1
    line = done.err.strip().splitlines()[-1]
    assert f"{full_disk / name}: cannot be written: No space left on device" in line
    assert line.endswith("make space on the disk and run the same command again")
    assert sorted(full_disk.iterdir()) == before
    (full_disk / "fill").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", full_disk], check=True)
    assert cli(*arguments, target).code == 0
    assert (full_disk / name).stat().st_size > 100


def test_every_output_is_written_through_a_link(trained, fake_models, cli):
    os.mkdir("elsewhere")
    for name, arguments in {
        "out.csv": ("predict", "pets.skops", "pets.h5", "-o"),
        "out.keras": ("export", "pets.skops", "-o"),
        "out.joblib": ("train", "pets.h5", "--folds", "3", "-o"),
        "out.h5": ("extract", "photos", *SMALL, "-o"),
    }.items():
        os.symlink(f"elsewhere/{name}", name)
        for _ in range(2):  # to nothing yet, then to a file
            done = cli(*arguments, name)
            assert done.code == 0, done.err
            assert os.path.islink(name)
            assert os.path.isfile(f"elsewhere/{name}")
    assert sorted(os.listdir("elsewhere")) == ["out.csv", "out.h5", "out.joblib", "out.keras"]


def test_a_model_is_written_under_any_name_in_either_case(trained, fake_models, cli):
    for name in ("x" * 249 + ".keras", "\udcff.keras", "a\nb.keras"):
        done = cli("export", "pets.skops", "-o", name)
        assert done.code == 0, done.err
        assert os.path.getsize(name) == 1 << 20
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_what_a_killed_export_left_is_removed_by_the_next(trained, cli, tmp_path):
    program = """
import os, signal, sys
from pathlib import Path
from headstart.features import durable
out = Path("out.keras")
with durable.written(out) as temporary, durable.folder_beside(out) as folder:
    (folder / "model.keras").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    if sys.platform == "win32":
        pytest.skip("there is no SIGKILL")
    subprocess.run([sys.executable, "-P", "-c", program], check=False)
    left = [name for name in os.listdir() if name.startswith(".out.keras.")]
    assert len(left) == 2
    from headstart.features import durable

    with durable.written(tmp_path / "out.keras") as temporary:
        temporary.write_bytes(b"whole")
    assert not [name for name in os.listdir() if name.startswith(".out.keras.")]


def test_plots_are_refused_before_the_work_where_they_cannot_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "taken" / "confusion.png").mkdir(parents=True)
    for name in ("file", "file/deep", "loop", "taken"):
        with pytest.raises(HeadstartError, match=r"is not a folder|is a folder") as caught:
            require_plots(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    require_plots(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_odd_names_can_be_drawn(trained, cli, photos):
    pytest.importorskip("matplotlib")
    from PIL import Image

    shutil.move(photos / "red", photos / "$\\frac\x1b\udce9\n^{")
    assert cli("extract", "photos", "-o", "odd.h5", *SMALL).code == 0
    done = cli("train", "odd.h5", "-o", "o.skops", "--folds", "3", "--plots", "plots")
    assert done.code == 0, done.err
    with Image.open("plots/confusion.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
