"""The programs of examples/ run as they stand, on a few small images."""

import contextlib
import csv
import importlib.util
import io
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from headstart.extract import machine
from headstart.extract.backbones import fused
from headstart.extract.images.decode import decode
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OWN_FOLDER, SERVE = EXAMPLES / "own_folder.py", EXAMPLES / "serve_onnx.py"

pytestmark = pytest.mark.skipif(
    not all(map(machine.installed, fused.ONNX_NEEDS)),
    reason="tf2onnx or onnxruntime is not installed",
)

NOT_NEEDED = ("headstart", "tensorflow", "keras", "sklearn", "h5py", "onnx", "tf2onnx")
SERVE_ALONE = """
import runpy, sys
program, *sys.argv[1:], names = sys.argv[1:]
for name in names.split():
    sys.modules[name] = None
sys.argv[0] = program
runpy.run_path(program, run_name="__main__")
"""


def awkward(size=(40, 30)):
    """Bytes of images that have to be turned, flattened or converted, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(noise // 3 + np.array([120, 20, 10], np.uint8))
    clear = picture.copy()
    clear.putalpha(Image.fromarray(noise[..., 0]))
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "turned.jpg": (picture, {"format": "JPEG", "exif": turned}),
        "clear.png": (clear, {"format": "PNG"}),
        "grey.png": (picture.convert("L"), {"format": "PNG"}),
        "grey16.png": (Image.fromarray(noise[..., 0].astype(np.uint16) * 257), {"format": "PNG"}),
        "palette.gif": (picture.quantize(32), {"format": "GIF"}),
    }
    found = {}
    for name, (image, how) in images.items():
        buffer = io.BytesIO()
        image.save(buffer, **how)
        found[name] = buffer.getvalue()
    return found


@contextlib.contextmanager
def serving(model):
    """The address of the server, which Ctrl-C stops."""
    command = [sys.executable, "-c", SERVE_ALONE, str(SERVE), str(model), "--port", "0"]
    with subprocess.Popen([*command, " ".join(NOT_NEEDED)], stdout=subprocess.PIPE) as server:
        try:
            first = server.stdout.readline().decode()
            assert "blue, red; listening on http://127.0.0.1:" in first
            yield first.split()[-1]
        finally:
            server.send_signal(signal.SIGINT)
            try:
                assert server.wait(timeout=60) == 0
            finally:
                server.kill()


def ask(address, data=None):
    """Status and answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_from_a_folder_of_photographs_to_served_answers(tmp_path, monkeypatch, fill_photos):
    monkeypatch.chdir(tmp_path)
    fill_photos(tmp_path / "photos")
    new = fill_photos(tmp_path / "new", count=2)
    for name, data in awkward().items():
        (new / name).write_bytes(data)
    (new / "bad.png").write_bytes(b"<html>")
    done = subprocess.run(
        [sys.executable, OWN_FOLDER, "--photos", "photos", "--new", "new",
         "--backbone", "MobileNetV2", "--size", "64", "--weights", "random"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "18 images, 1280 numbers each" in done.stdout
    assert "svm-rbf: " in done.stdout
    with open("new.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10

    with serving("own.onnx") as address:
        for row in rows:
            status, answer = ask(address, (new / row["path"]).read_bytes())
            if row["skipped"]:
                assert status == 415
            else:
                assert answer["label"] == row["label"]
                assert answer["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-4)
                assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        status, about = ask(address)
        assert status == 200
        assert about["labels"] == ["blue", "red"]
        assert about["provenance"]["backbone"] == "MobileNetV2"
        data = (new / rows[-1]["path"]).read_bytes()
        status, answer = ask(address, data[: len(data) // 2])
        assert status == 400
        assert "damaged image" in answer["error"]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [96, 150])
def test_the_server_makes_the_pixels_that_headstart_makes(size, fit):
    spec = importlib.util.spec_from_file_location("serve_onnx", SERVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classifier = module.Classifier.__new__(module.Classifier)
    classifier.size, classifier.fit = size, fit
    for name, data in awkward((1300, 1250)).items():
        np.testing.assert_array_equal(
            classifier.pixels(data), decode(data, size, fit).pixels, err_msg=name
        )
