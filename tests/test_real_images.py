"""Real photographs and real pretrained weights; skipped where HEADSTART_TEST_DATA is not set."""

import io
import json

import numpy as np
import pytest
from headstart.extract import machine
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.images.decode import decode
from headstart.extract.pipeline import extract
from headstart.features.origin import distance
from PIL import Image, JpegImagePlugin

needs_openvino = pytest.mark.skipif(
    not machine.installed("openvino"), reason="openvino is not installed"
)


@pytest.fixture
def weights(data):
    return data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"


@pytest.fixture
def photos(data):
    return data / "images" / "cats_vs_dogs"


def test_cats_and_dogs_by_the_four_commands(photos, weights, tmp_path, cli):
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


@needs_openvino
def test_neither_engine_nor_batch_nor_workers_nor_streams_show_in_the_file(
    photos, weights, tmp_path
):
    settings = {"backbone": "MobileNetV2", "weights": weights, "size": 96}
    ways = {
        "usual": {"engine": "openvino"},
        "workers": {"engine": "openvino", "workers": 2},
        "tuned": {"engine": "openvino", "batch": 3, "streams": 1, "threads": 1},
        "keras": {"engine": "keras"},
    }
    stores = {
        name: extract(photos, tmp_path / f"{name}.h5", **settings, **way)
        for name, way in ways.items()
    }
    usual = stores.pop("usual")
    assert {store.fingerprint for store in stores.values()} == {usual.fingerprint}
    assert stores["workers"].content_digest == usual.content_digest
    for store in stores.values():
        assert store.paths == usual.paths
        assert distance(store.features, usual.features) < 1e-4


@needs_openvino
def test_bf16_costs_cats_and_dogs_no_half_point(photos, weights, tmp_path):
    from headstart.classify import train

    right = [
        200
        * train(
            extract(
                photos,
                tmp_path / f"{precision}.h5",
                backbone="MobileNetV2",
                weights=weights,
                size=150,
                precision=precision,
                engine="openvino",
            )
        ).scores.accuracy
        for precision in ("f32", "bf16")
    ]
    assert abs(round(right[0]) - round(right[1])) <= 1  # of 200


def test_a_reduced_decode_keeps_the_vector_within_three_nines(photos, weights, monkeypatch):
    """Photographs enlarged, with the grain of a camera, so that there is something to reduce."""
    generator = np.random.default_rng(0)
    files = []
    for path in sorted(photos.rglob("*.jpg"))[::20]:
        image = Image.open(path).convert("RGB")
        image = image.resize((4 * image.width, 4 * image.height), Image.Resampling.LANCZOS)
        grain = generator.normal(0, 4, (image.height, image.width, 3))
        noisy = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    request = Request.checked(backbone="MobileNetV2", weights=weights, size=150)
    embedding = Embedding(request)

    def vectors():
        return embedding.embed(np.stack([decode(data, request.size).pixels for data in files]))

    reduced = vectors()
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", lambda *_: None)
    whole = vectors()
    cosines = (reduced * whole).sum(1) / np.linalg.norm(reduced, axis=1)
    cosines /= np.linalg.norm(whole, axis=1)
    assert (cosines < 1 - 1e-7).sum() > 10  # or nothing was reduced
    assert cosines.min() >= 0.999


def test_copies_saved_again_are_near_copies_and_other_photographs_are_not(
    photos, weights, tmp_path
):
    from headstart.classify import compare, train

    for number, path in enumerate(sorted((photos / "train").rglob("*.jpg"))[::2]):
        folder = tmp_path / "photos" / "train" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
        if number % 5 == 0:
            image = Image.open(path).convert("RGB")
            margin = image.width // 50, image.height // 50
            cropped = image.crop((*margin, image.width - margin[0], image.height - margin[1]))
            copies = tmp_path / "photos" / "test" / path.parent.name
            copies.mkdir(parents=True, exist_ok=True)
            cropped.save(copies / f"copy-{path.name}", quality=80)
    for path in sorted((photos / "test").rglob("*.jpg"))[::2]:
        folder = tmp_path / "photos" / "test" / path.parent.name
        (folder / path.name).write_bytes(path.read_bytes())
    settings = {"backbone": "MobileNetV2", "weights": weights, "size": 150}
    store = extract(tmp_path / "photos", tmp_path / "pets.h5", **settings)
    scores = train(store).scores
    (note,) = [note for note in scores.notes if "near-copies" in note]
    found, of = map(int, note.split(" test images")[0].split(" of "))
    assert of == 140
    assert 38 <= found <= 41  # of 40 copies
    assert scores.rows == of - found
    assert note.count("copy-") == 1

    chance = extract(
        tmp_path / "photos", tmp_path / "chance.h5", **settings | {"weights": "random"}
    )
    best, worst = compare([chance, store]).standings
    assert best.name == str(store.path)
    assert best.no_better_than == ()
    assert best.accuracy > worst.accuracy + 0.2


def test_what_a_head_was_not_trained_on_is_unfamiliar_to_it(photos, weights, tmp_path):
    """Handwritten digits to a cats-and-dogs head, and cats and dogs to a digits head."""
    from headstart.classify import train
    from headstart.features.layout import SPLIT_NAMES
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    for number, (image, name) in enumerate(zip(pixels[:600] / 16, classes, strict=False)):
        split = "test" if number % 3 == 0 else "train"
        folder = tmp_path / "digits" / split / str(name)
        folder.mkdir(parents=True, exist_ok=True)
        grey = (255 * image.reshape(8, 8)).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
    settings = {"backbone": "MobileNetV2", "weights": weights, "size": 150}
    pets = extract(photos, tmp_path / "pets.h5", **settings)
    digits = extract(tmp_path / "digits", tmp_path / "digits.h5", **settings)
    for known, strange in ((pets, digits), (digits, pets)):
        head = train(known)
        assert head.predict(strange).unfamiliar.mean() >= 0.95
        held_out = known.splits == SPLIT_NAMES.index("test")
        assert head.predict(known).unfamiliar[held_out].mean() <= 0.05


def by_keras(cli, head, folder, images):
    import keras

    done = cli("export", head, "-o", folder / "pets.keras", "--json")
    model = keras.models.load_model(folder / "pets.keras")
    return json.loads(done.out)["labels"], np.asarray(model(images))


def by_onnxruntime(cli, head, folder, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = cli("export", head, "-o", folder / "pets.onnx", "--json")
    session = onnxruntime.InferenceSession(str(folder / "pets.onnx"))
    return json.loads(done.out)["labels"], session.run(None, {"images": images})[0]


@pytest.mark.parametrize(("head", "answer"), [("logistic", by_keras), ("svm", by_onnxruntime)])
def test_an_exported_model_says_of_photographs_what_predict_says(
    photos, weights, tmp_path, cli, head, answer
):
    how = ("--backbone", "MobileNetV2", "--size", "150", "--weights", weights)
    assert cli("extract", photos, "-o", tmp_path / "pets.h5", *how).code == 0
    pets = tmp_path / "pets.joblib"
    assert cli("train", tmp_path / "pets.h5", "-o", pets, "--head", head).code == 0
    out = tmp_path / "new.jsonl"
    assert cli("predict", pets, photos / "test", "-o", out).code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()][::4]
    images = np.stack(
        [decode((photos / "test" / row["path"]).read_bytes(), 150).pixels for row in rows]
    )
    names, probabilities = answer(cli, pets, tmp_path, images)
    for row, given in zip(rows, probabilities, strict=True):
        assert names[given.argmax()] == row["label"]
        assert given.max() == pytest.approx(row["confidence"], abs=1e-4)
