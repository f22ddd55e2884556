"""Real photographs and real pretrained weights; skipped where HEADSTART_TEST_DATA is not set."""

import json


def test_cats_and_dogs_by_the_four_commands(data, tmp_path, cli):
    photos = data / "images" / "cats_vs_dogs"
    weights = data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    features, head = tmp_path / "pets.h5", tmp_path / "pets.joblib"
    settings = ("--backbone", "MobileNetV2", "--weights", weights, "--size", "150")
    done = cli("extract", photos, "-o", features, *settings, "--json")
    assert json.loads(done.out)["embedded"] == 600

    trained = json.loads(cli("train", features, "-o", head, "--json").out)
    assert trained["accuracy"] >= 0.97
    assert trained["baseline"] == 0.5
    scored = json.loads(cli("evaluate", head, features, "--json").out)
    assert scored["accuracy"] == trained["accuracy"]

    out = tmp_path / "predictions.jsonl"
    assert cli("predict", head, photos / "test", "-o", out).code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    right = sum(row["path"].startswith(row["label"] + "/") for row in rows)
    assert len(rows) == 200
    assert right / 200 == trained["accuracy"]
