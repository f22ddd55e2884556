"""`kill -9` at random moments of train, predict and export: the old file or the new one is there,
whole, and the next run ends as if nothing had happened. (Of extract: test_extract_workers.py.)"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import load_head, train
from headstart.extract import extract
from headstart.features import FeatureStore, verify

ROWS = 200
WRITING = 0.5
"""Share of the kills that wait until the output is being written."""


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "headstart.cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*arguments):
    """Seconds that a whole run takes; it must succeed."""
    started = time.perf_counter()
    process = command(*arguments)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return time.perf_counter() - started


def killed(out, chance, seconds, *arguments):
    """Kill a run at a random moment; whether it was still running."""
    process = command(*arguments)
    if chance.random() < WRITING:
        while process.poll() is None and not list(out.parent.glob(".*.tmp")):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
    else:
        time.sleep(chance.uniform(0, seconds))
    process.kill()
    process.communicate()
    return process.returncode < 0


def kills(short, whole):
    return pytest.mark.parametrize("count", [short, pytest.param(whole, marks=pytest.mark.sweep)])


@pytest.fixture
def table(make_store, tmp_path):
    """Features on which every row becomes a support vector: a head of some megabytes."""
    features = np.random.default_rng(0).standard_normal((ROWS, 1024)).astype(np.float32)
    labels = ["cat" if row % 2 else "dog" for row in range(ROWS)]
    return make_store(features, labels, name="table.h5")


@kills(4, 130)
@pytest.mark.parametrize("suffix", [".joblib", ".skops"])
def test_a_killed_train_leaves_the_old_head_or_the_new_one_and_both_are_trusted(
    count, suffix, table, tmp_path
):
    out = tmp_path / "heads" / f"head{suffix}"
    out.parent.mkdir()
    arguments = ("train", table.path, "-o", out, "--head", "svm-rbf", "--folds", 3)
    seconds = finished(*arguments)
    new = load_head(out).predict(table).probabilities
    train(table, "logistic", folds=3).save(out)
    before = out.read_bytes()
    old = load_head(out).predict(table).probabilities
    chance, died, replaced = np.random.default_rng(1), 0, 0
    for _ in range(count // 2):
        out.write_bytes(before)
        died += killed(out, chance, seconds, *arguments)
        head = load_head(out)  # no --trust
        replaced += head.name == "svm-rbf"
        given = head.predict(table).probabilities
        np.testing.assert_array_equal(given, new if head.name == "svm-rbf" else old)
    finished(*arguments)
    assert os.listdir(out.parent) == [out.name]
    print(f"{count // 2} runs, {died} killed, {replaced} had replaced the head")
    assert died


SMALL = {"backbone": "MobileNetV2", "weights": "random", "size": 32}


@pytest.fixture
def head(photos, tmp_path):
    """A head on a real, small backbone."""
    store = extract(photos, tmp_path / "photos.h5", **SMALL)
    path = tmp_path / "head.joblib"
    train(store, folds=3).save(path)
    return path


@kills(4, 100)
def test_a_killed_predict_leaves_the_old_table_or_the_new_one_and_keeps_its_vectors(
    count, head, fill_photos, tmp_path
):
    photos = fill_photos(tmp_path / "new", count=150)
    folder = tmp_path / "tables"
    folder.mkdir()
    out, kept = folder / "out.csv", folder / "kept.h5"
    arguments = ("predict", head, photos, "-o", out, "--features", kept)
    seconds = finished(*arguments)
    new, digest = out.read_bytes(), FeatureStore(kept).content_digest
    chance, died, replaced = np.random.default_rng(2), 0, 0
    for number in range(count):
        out.write_text("old")
        if number % 2:
            kept.unlink(missing_ok=True)
        died += killed(out, chance, seconds, *arguments)
        replaced += out.read_bytes() == new
        assert out.read_bytes() in (b"old", new)
        assert not kept.exists() or (verify(kept), FeatureStore(kept).content_digest) == (
            [],
            digest,
        )
    finished(*arguments)
    assert out.read_bytes() == new
    assert FeatureStore(kept).content_digest == digest
    assert sorted(os.listdir(folder)) == [kept.name, out.name]
    print(f"{count} runs, {died} killed, {replaced} had replaced the table")
    assert died


@kills(1, 30)
def test_a_killed_export_leaves_the_old_model_or_a_whole_new_one(count, head, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "models" / "model.onnx"
    out.parent.mkdir()
    arguments = ("export", head, "-o", out)
    seconds = finished(*arguments)
    chance, died, replaced = np.random.default_rng(3), 0, 0
    for _ in range(count):
        out.write_text("old")
        died += killed(out, chance, seconds, *arguments)
        if out.read_bytes() != b"old":
            replaced += 1
            onnxruntime.InferenceSession(str(out))
    finished(*arguments)
    assert os.listdir(out.parent) == [out.name]
    print(f"{count} runs, {died} killed, {replaced} had replaced the model")
    assert died


def test_what_a_killed_predict_embedded_is_not_embedded_again(
    head, fill_photos, tmp_path, interrupted_after
):
    photos = fill_photos(tmp_path / "new", count=150)
    out = tmp_path / "out.csv"
    with interrupted_after(1):
        predict(head, photos, out=out)
    (left,) = tmp_path.glob(".out.csv.*.units")
    assert len(list(left.iterdir())) == 1
    assert len(predict(head, photos, out=out)) == 300
    assert not list(tmp_path.glob(".*"))
    assert Path(out).exists()
