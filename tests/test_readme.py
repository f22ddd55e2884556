"""Every command and snippet of the README runs, in its order, in one folder.

Only two things are replaced: the download of ImageNet weights, by random weights of the same
backbone, and 299 pixels for Xception where nothing else is said, by the least that it takes.
"""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def offline(monkeypatch, tmp_path_factory):
    """Backbones with random weights in place of ImageNet's, each built once."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache of the tour")))
    from headstart.extract.backbones import build as backbones
    from headstart.extract.backbones.architectures import ARCHITECTURES
    from headstart.extract.backbones.weights import WeightsSource

    xception = ARCHITECTURES["Xception"]
    small = dataclasses.replace(xception, size=xception.minimum)
    monkeypatch.setitem(ARCHITECTURES, "Xception", small)
    build, base, built = backbones.build, backbones.base, {}

    def random(request):
        return dataclasses.replace(request, weights=WeightsSource("random"))

    def build_offline(request):
        request = random(request)
        if request not in built:
            built[request] = build(request)
        return built[request]

    monkeypatch.setattr(backbones, "build", build_offline)
    monkeypatch.setattr(backbones, "base", lambda keras, request: base(keras, random(request)))


def test_every_command_and_snippet_of_the_tour_runs(
    tmp_path, monkeypatch, cli, fill_photos, write_image, offline
):
    monkeypatch.chdir(tmp_path)
    for number, folder in enumerate(("photos", "other-pets", "new-photos")):
        fill_photos(tmp_path / folder, count=4)
        for path in (tmp_path / folder).rglob("*.png"):
            if number:  # other pictures, or none could be scored
                colour = np.array(Image.open(path)).mean(axis=(0, 1)).astype(int)
                write_image(path, 1000 * number + int(path.stem[-2:]), tuple(colour))
    for name, folder in zip(("cat.jpg", "dog.jpg"), ("blue", "red"), strict=True):
        Image.open(tmp_path / "photos" / folder / f"{folder}00.png").save(tmp_path / name)
    ran = 0
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})
            ran += 1
        elif language == "sh":
            for line in block.splitlines():
                command = shlex.split(line, comments=True)
                if command[:1] == ["headstart"]:
                    done = cli(*command[1:])
                    assert done.code == 0, (line, done.err)
                    ran += 1
    assert ran > 10
    assert {"pets.h5", "pets.joblib", "predictions.csv", "predictions.jsonl"} <= set(os.listdir())


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("extraction", "README.md"),
        ("heads", "README.md"),
        ("prediction", "README.md"),
        ("conversion", "docs/extraction.md"),
        ("clusters", "docs/scale.md"),
        ("beyond_memory", "docs/scale.md"),
    ],
)
def test_the_figures_are_those_of_the_committed_benchmark(name, page, monkeypatch):
    root = Path(__file__).resolve().parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(root)
    spec = importlib.util.spec_from_file_location(name, root / f"{name}.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    (results,) = sorted((root / "results").glob(f"{name.replace('_', '-')}-*.json"))
    text = (root.parent / page).read_text(encoding="utf-8")
    assert benchmark.table(json.loads(results.read_text())) in text


def test_the_two_commands_are_one_line_each_and_stand_first():
    first, second = [block.strip() for language, block in BLOCKS if language == "sh"][:2]
    assert re.fullmatch(r"python3 -m pip install \. && headstart demo", first)
    assert re.fullmatch(r'python3 -m pip install "\.\[test\]" && python3 -m pytest', second)
