"""Data sets by their names, built here by the libraries' own builders."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.sources.datasets import huggingface, rows, tfds, tfrecord
from headstart.extract.sources.image import Unreadable
from headstart.features.errors import MissingExtra, SourceError
from headstart.features.layout import SPLIT_NAMES
from headstart.features.store import FeatureStore
from PIL import Image

CLASSIC = "[train=train[:40%],validation=train[40%:50%],test=train[50%:60%]]"

BUILD = '''
import io, pickle
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

def jpeg(number):
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()

class CatsVsDogs(tfds.core.GeneratorBasedBuilder):
    """Schema and version of the real one, which leaves out what has no JFIF at its start."""
    VERSION = tfds.core.Version("4.0.1")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(),
                "image/filename": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(60):
            data = jpeg(number)
            if number % 10 == 3:
                data = b"no image at all"
            if number % 10 == 7:
                data = data[:len(data) // 2]
            if b"JFIF" in data[:10]:
                name = f"PetImages/{'Dog' if number % 3 else 'Cat'}/{number}.jpg"
                label = "dog" if number % 3 else "cat"
                yield name, {
                    "image": io.BytesIO(data), "image/filename": name, "label": label
                }

class Whole(CatsVsDogs):
    """The same without what is damaged."""
    VERSION = tfds.core.Version("4.0.1")

    def _generate_examples(self):
        for number in range(120):
            generator = np.random.default_rng(number)
            pixels = generator.integers(0, 256, (4, 5, 3), np.uint8)
            image = Image.fromarray(pixels).resize((80, 64), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            image.save(file, "JPEG")
            name = f"PetImages/{number}.jpg"
            yield name, {
                "image": io.BytesIO(file.getvalue()),
                "image/filename": name,
                "label": ("cat", "dog")[number % 2],
            }

class Odd(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, version="1.0.0")
        for name in ("plain", "two", "floats", "unknown", "none", "accents")
    ]

    def _info(self):
        image = tfds.features.Image(shape=(4, 4, 1))
        features = {
            "plain": {"image": image, "id": tfds.features.Text()},
            "two": {"left": image, "right": image,
                    "label": tfds.features.ClassLabel(num_classes=2)},
            "floats": {"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)},
            "unknown": {"image": image, "label": tfds.features.ClassLabel(num_classes=2)},
            "none": {"id": tfds.features.Text()},
            "accents": {"image": image, "a": tfds.features.ClassLabel(names=["x", "y"]),
                        "b": tfds.features.ClassLabel(names=["Hu\\u0308ndchen", "z"])},
        }[self.builder_config.name]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(6), "extra": self._generate_examples(3)}

    def _generate_examples(self, count):
        grey = np.full((4, 4, 1), 100, np.uint8)
        for number in range(count):
            yield number, {
                "plain": {"image": grey + number, "id": str(number)},
                "two": {"left": grey, "right": grey + number, "label": 1},
                "floats": {"image": grey.astype(np.float32)},
                "unknown": {"image": grey + number, "label": number % 3 - 1},
                "none": {"id": str(number)},
                "accents": {"image": grey + number, "a": number % 2, "b": 1 - number % 2},
            }[self.builder_config.name]

def prepare(builder, shards):
    config = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=config)

def build(root):
    cats = CatsVsDogs(data_dir=root)
    prepare(cats, 3)
    prepare(Whole(data_dir=root), 1)
    prepare(CatsVsDogs(data_dir=root + "/array", file_format="array_record"), 3)
    for config in Odd.BUILDER_CONFIGS:
        prepare(Odd(config=config.name, data_dir=root), 1)
    read = {}
    for split in ("train", "train[:40%]", "train[40%:50%]", "train[50%:60%]", "train[7:-5]"):
        data = cats.as_dataset(
            split=split,
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        read[split] = [(one["image"], ("cat", "dog")[one["label"]]) for one in tfds.as_numpy(data)]
    with open(root + "/read.pickle", "wb") as file:
        pickle.dump(read, file)
'''


def run_python(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Data sets of TensorFlow Datasets, and what it reads from them itself."""
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("tfds")
    (root / "builders.py").write_text(BUILD)
    # Builders look for the folder of their module, which therefore has to be a file.
    run_python(
        "import sys; sys.path.insert(0, sys.argv[1]); import builders; builders.build(sys.argv[1])",
        root,
    )
    return root


@pytest.fixture(scope="module")
def read(built):
    return pickle.loads((built / "read.pickle").read_bytes())


@pytest.fixture(scope="module", params=["", "array/"], ids=["tfrecord", "array_record"])
def cats(request, built):
    """The stand-in of cats_vs_dogs, in three files."""
    return f"tfds:{built}/{request.param}cats_vs_dogs/4.0.1"


def found(images):
    return [(image.read()[0], image.label) for image in images]


def test_the_three_splits_of_the_classic_example_are_those_of_the_library_itself(cats, read):
    images = tfds.listed(cats + CLASSIC)
    by_split = {
        split: found(image for image in images if image.split == split) for split in SPLIT_NAMES
    }
    assert by_split == {
        "none": [],
        "train": read["train[:40%]"],
        "validation": read["train[40%:50%]"],
        "test": read["train[50%:60%]"],
    }
    assert [len(part) for part in by_split.values()] == [0, 22, 5, 5]


@pytest.mark.parametrize("part", ["train", "train[7:-5]"])
def test_without_a_word_rows_are_in_the_split_that_they_come_from(cats, read, part):
    images = tfds.listed(f"{cats}[{part}]")
    assert found(images) == read[part]
    assert {image.split for image in images} == {"train"}


def test_a_row_has_the_same_name_and_stamp_whatever_is_asked_for(cats):
    whole, some = tfds.listed(cats), tfds.listed(cats + "[test=train[40%:]]")
    assert some.name == whole.name
    places = {image.path: image.stat() for image in whole}
    assert len({stat.stamp for stat in places.values()}) == len(places) == 54
    assert all(places[image.path] == image.stat() for image in some)
    assert all(
        stat.mtime_ns == 0 and 0 < stat.stamp < 2**64 and stat.size for stat in places.values()
    )
    assert whole[0].path == b"train/000000.jpg"


def test_a_data_set_is_found_by_name_and_read_without_tensorflow(built, read):
    code = """
import sys
from headstart.extract.sources.datasets import tfds
images = tfds.listed("tfds:cats_vs_dogs[test=train[:40%]]")
assert images[7].read()
print(images.name, len(images), images[7].label, "tensorflow" in sys.modules)
"""
    printed = run_python(code, TFDS_DATA_DIR=str(built))
    assert printed.split() == ["tfds:cats_vs_dogs:4.0.1", "22", read["train"][7][1], "False"]


@pytest.mark.sweep
def test_the_textbook_benchmark_runs_on_the_classic_data_set(built, tmp_path):
    """On its stand-in without what is damaged, which plain TensorFlow does not get past."""
    result = tmp_path / "result.json"
    benchmark = Path(__file__).resolve().parents[1] / "benchmarks" / "textbook.py"
    options = ["--source", "tfds:whole", "--backbone", "MobileNetV2", "--weights", "random"]
    options += ["--size", "96", "--epochs", "1", "--repeats", "1", "--json", str(result)]
    subprocess.run(
        [sys.executable, str(benchmark), *options],
        check=True,
        env={**os.environ, "TFDS_DATA_DIR": str(built)},
    )
    sides = json.loads(result.read_text())["sides"]
    assert sides.keys() == {"textbook", "f32", "bf16", "views"}
    assert [len(side["parts"]) for side in sides.values()] == [2, 1, 1, 1]
    assert sides["textbook"]["parts"][1]["images"] == sides["f32"]["parts"][0]["images"]


def test_corrupt_images_are_skipped_by_a_run_and_the_rest_is_embedded(cats, stub, tmp_path):
    out = tmp_path / "out.h5"
    images = tfds.listed(cats + CLASSIC)
    pipeline.run(stub, images, out, unit_images=5)
    store = FeatureStore(out)
    cut = [image.path for image in images if len(image.read()[0]) < 900]
    assert 0 < len(cut) < 6
    assert [file.path for file in store.skipped_files] == cut
    assert len(store) == len(images) - len(cut)
    seen = stub.engine.images
    pipeline.run(stub, tfds.listed(cats + CLASSIC), out, unit_images=5)
    assert stub.engine.images == seen
    pipeline.run(stub, tfds.listed(cats), out, unit_images=5)
    assert stub.engine.images < seen + 54 - 32 + 8 + 1  # canary


def test_references_pickle_small_and_read_in_any_thread_or_process(cats, tmp_path):
    images = list(tfds.listed(cats))
    sent = pickle.dumps(images[:20])
    assert len(sent) < 20 * 400
    (tmp_path / "sent").write_bytes(sent)
    code = """
import hashlib, pickle, sys
for image in pickle.load(open(sys.argv[1], "rb")):
    print(image.digest().hex())
print("tensorflow" in sys.modules)
"""
    *there, tensorflow = run_python(code, tmp_path / "sent").split()
    with ThreadPoolExecutor(8) as threads:
        here = list(threads.map(lambda image: image.digest().hex(), images[:20]))
    assert there == here
    assert tensorflow == "False"
    assert here == [hashlib.sha256(image.read()[0]).hexdigest() for image in images[:20]]


def test_a_shard_that_is_written_anew_or_goes_is_noticed(cats, tmp_path):
    folder = shutil.copytree(cats.removeprefix("tfds:"), tmp_path / "cats")
    first, *_, last = tfds.listed(f"tfds:{folder}")
    before = first.stat(), last.stat()
    os.utime(first.location)
    assert first.stat().stamp != before[0].stamp
    assert last.stat() == before[1]
    with pytest.raises(Unreadable, match="written anew"):
        first.read()
    os.remove(last.location)
    assert not last.exists()
    assert last.stat()[1:] == (0, 0, 0)
    assert last.digest() == bytes(32)
    with pytest.raises(SourceError, match="cannot be opened: No such file"):
        tfds.listed(f"tfds:{folder}")


def test_a_shard_in_the_place_of_another_of_its_size_and_time_is_noticed(cats, tmp_path):
    folder = shutil.copytree(cats.removeprefix("tfds:"), tmp_path / "cats")
    first, *_ = tfds.listed(f"tfds:{folder}")
    before = first.stat()
    shutil.copy2(first.location, tmp_path / "other")
    os.replace(tmp_path / "other", first.location)
    assert first.stat().stamp != before.stamp
    with pytest.raises(Unreadable, match=r"written anew .*; the next run tries it again$"):
        first.read()


def test_a_folder_above_the_version_of_a_data_set_is_that_data_set(built, tmp_path):
    whole = tfds.listed(f"tfds:{built}/cats_vs_dogs/4.0.1")
    above = tfds.listed(f"tfds:{built}/cats_vs_dogs[train]")
    assert above.name == whole.name
    assert [image.stat() for image in above] == [image.stat() for image in whole]
    copy = shutil.copytree(built / "cats_vs_dogs", tmp_path / "cats")
    shutil.copytree(copy / "4.0.1", copy / "4.0.0")
    (copy / "10.0.0").mkdir()  # not prepared
    assert tfds.listed(f"tfds:{copy}").name == f"tfds:{copy}/4.0.1"
    (tmp_path / "none").mkdir()
    for name, said in (
        (tmp_path / "none", "no prepared data set in this folder"),
        (tmp_path / "gone", "no such folder"),
        (f"{tmp_path}/gone[train]", "no such folder"),
        (built / "odd", "several data sets in this folder: accents, floats, none"),
    ):
        with pytest.raises(SourceError) as refused:
            tfds.listed(f"tfds:{name}")
        assert said in str(refused.value)
        assert str(refused.value).startswith(f"tfds:{name}: ")
        assert "\n" not in str(refused.value)


def test_a_damaged_shard_is_named_in_one_line_or_read_as_far_as_it_goes(built, tmp_path):
    folder = shutil.copytree(built / "cats_vs_dogs" / "4.0.1", tmp_path / "cats")
    shard = sorted(folder.glob("*tfrecord*"))[1]
    whole = shard.read_bytes()
    dice = random.Random(1)
    refused = 0
    for turn in range(60):
        data = bytearray(whole)
        if turn % 3:
            for _ in range(dice.choice([1, 3, 40])):
                data[dice.randrange(len(data))] = dice.randrange(256)
        else:
            del data[dice.randrange(len(data)) :]
        shard.write_bytes(bytes(data))
        with pytest.raises(SourceError) as error:
            for image in tfds.listed(f"tfds:{folder}"):
                image.digest()
            raise SourceError(f"none: {shard}")
        said = str(error.value)
        refused += not said.startswith("none: ")
        assert os.fspath(shard) in said
        assert "\n" not in said
    assert refused >= 20
    shard.write_bytes(b"")
    with pytest.raises(SourceError, match="damaged: it is empty"):
        tfds.listed(f"tfds:{folder}")


def test_integers_are_read_as_protobuf_writes_them_packed_or_not():
    def example(integers):
        feature = b"\x1a" + bytes([len(integers)]) + integers
        entry = b"\x0a\x01k\x12" + bytes([len(feature)]) + feature
        features = b"\x0a" + bytes([len(entry)]) + entry
        return b"\x0a" + bytes([len(features)]) + features

    minus_one = b"\xff" * 9 + b"\x01"
    for integers in (b"\x0a\x0c\xac\x02" + minus_one, b"\x08\xac\x02\x08" + minus_one):
        data = b"...." + example(integers)
        assert tfrecord.features(data, 4, len(data))["k"].integers == [300, -1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("[train[:40%],train[39%:]]", "'train[:40%]' and 'train[39%:]' have images in common"),
        ("[train,test=train[3:5]]", "have images in common (of train, numbers 3 to 4)"),
        ("[train+train]", "in common"),
        ("[tset]", "Unknown split 'tset'"),
        ("[train[5:5]]", "has no image; there are train (54)"),
        ("[train[a:]]", "train[a:]"),
        ("[holdout=train]", "'holdout' is no split; before the = stands train, validation or test"),
        ("[=train]", "'' is no split"),
        ("[]", "cannot be understood"),
        ("[train", "cannot be understood"),
        ("[train]]", "cannot be understood"),
        ("[train,]", "cannot be understood"),
        ("[a=b=train]", "cannot be understood"),
    ],
)
def test_rows_that_cannot_be_are_refused_in_one_line(cats, rows, said):
    with pytest.raises(SourceError) as refused:
        tfds.listed(cats + rows)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tfds:", "names no data set; write tfds:NAME"),
        ("tfds:[train]", "names no data set"),
        ("tfds:cats_vs_dgos", "the most similar name is cats_vs_dogs"),
    ],
)
def test_names_that_are_none_are_refused_in_one_line(built, name, said):
    with pytest.raises(SourceError) as refused:
        tfds.listed(name)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_images_without_a_class_have_no_label_and_a_line_says_so(built):
    images = tfds.listed(f"tfds:{built}/odd/plain/1.0.0")
    assert {image.label for image in images} == {None}
    assert [image.split for image in images] == ["train"] * 6 + ["none"] * 3
    assert images[6].path == b"extra/000000.png"
    extra, label = images.notes
    assert "'extra' is none of train, validation and test" in extra
    assert "the images have none (" in label
    said = tfds.listed(f"tfds:{built}/odd/plain/1.0.0[test=extra,none=train]")
    assert said.splits == {"none": 6, "test": 3}
    assert len(said.notes) == 1


def test_a_class_that_is_not_known_is_no_label(built):
    images = tfds.listed(f"tfds:{built}/odd/unknown/1.0.0[train]")
    assert sorted(str(image.label) for image in images) == ["0", "0", "1", "1", "None", "None"]
    assert any("2 of 6 images have no label" in note for note in images.label_notes)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("two", "not clear which feature is the image that has a label: label (ClassLabel), left"),
        ("floats", "are of float32"),
        ("none", "not clear which feature is the image that has a label: id (Text)"),
    ],
)
def test_data_sets_without_one_image_a_row_are_refused_with_their_features(built, config, said):
    with pytest.raises(SourceError) as refused:
        tfds.listed(f"tfds:{built}/odd/{config}/1.0.0")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_features_can_be_named_and_labels_are_composed(built):
    name = f"tfds:{built}/odd/accents/1.0.0"
    assert {image.label for image in tfds.listed(name)} == {None}
    assert "may be a or b" in tfds.listed(name).notes[-1]
    images = tfds.listed(name, {"label": "b"})
    assert {image.label for image in images} == {"H\u00fcndchen", "z"}
    with pytest.raises(SourceError, match="has no 'c'; there are a"):
        tfds.listed(name, {"label": "c"})
    with pytest.raises(SourceError, match="has splits of its own"):
        tfds.listed(name, {"split": "a"})
    two = tfds.listed(f"tfds:{built}/odd/two/1.0.0", {"path": "right"})
    assert len({image.digest() for image in two}) == 6


def test_groups_of_a_data_set_are_text_numbers_or_classes(built):
    def groups(config, column):
        images = tfds.listed(f"tfds:{built}/odd/{config}/1.0.0[train]", {"group": column})
        assert any(f"the column {column!r} has" in note for note in images.label_notes)
        return sorted(str(image.group) for image in images)

    assert groups("plain", "id") == ["0", "1", "2", "3", "4", "5"]
    assert groups("unknown", "label") == ["0", "0", "1", "1", "None", "None"]
    assert groups("accents", "a") == ["x", "x", "x", "y", "y", "y"]
    images = tfds.listed(f"tfds:{built}/odd/accents/1.0.0", {"group": "a"})
    assert {image.label for image in images} == {"H\u00fcndchen", "z"}  # b alone is left for it
    with pytest.raises(SourceError, match=r"the feature 'left' has no groups: .* whole numbers"):
        tfds.listed(f"tfds:{built}/odd/two/1.0.0", {"path": "right", "group": "left"})
    with pytest.raises(SourceError, match="has no 'c'; there are a"):
        tfds.listed(f"tfds:{built}/odd/accents/1.0.0", {"group": "c"})


def test_without_the_library_one_line_has_the_command_that_installs_it(monkeypatch):
    for name, module in (("tensorflow_datasets", tfds), ("datasets", huggingface)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra, match=r'python3 -m pip install "headstart\[\w+\]"$'):
            module.listed("x:cats_vs_dogs")
    with pytest.raises(MissingExtra, match=r"headstart\[hf\]"):
        huggingface.of_parquet(["x.parquet"], "x.parquet")


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("training", "train"),
        ("Valid", "validation"),
        ("dev", "validation"),
        ("test_images", "test"),
        ("evaluation", "test"),
        ("unlabelled", "none"),
        ("testament", "none"),
    ],
)
def test_splits_of_data_sets_are_read_by_the_words_of_folders(word, split):
    assert rows.role_of(word) == split


# Hugging Face


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """The library, offline, with a cache of its own in which files are small."""
    library = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "MAX_SHARD_SIZE", 9_000)
    library.disable_progress_bars()
    return library


def jpeg(number):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def make(datasets, numbers, **columns):
    """Rows with an image and a label."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    images = [{"bytes": jpeg(number), "path": f"{number}.JPG"} for number in numbers]
    return datasets.Dataset.from_dict(
        {"image": images, "label": [number % 2 for number in numbers]} | columns,
        features=datasets.Features(features),
    )


@pytest.fixture
def parquet(datasets, tmp_path):
    """A folder as the hub has it: two files of train, one of test."""
    folder = tmp_path / "beans"
    for name, numbers in {
        "data/train-00000-of-00002": range(20),
        "data/train-00001-of-00002": range(20, 33),
        "data/test-00000-of-00001": range(40, 50),
    }.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        make(datasets, numbers).to_parquet(folder / f"{name}.parquet", batch_size=7)
    return folder


def of_folder(folder, *columns):
    return huggingface.of_parquet(
        [str(file) for file in folder.rglob("*.parquet")], str(folder), *columns
    )


def test_parquet_files_are_read_row_by_row_with_labels_and_splits(parquet):
    images = of_folder(parquet)
    numbers = [*range(40, 50), *range(33)]
    assert found(images) == [(jpeg(number), ("cat", "dog")[number % 2]) for number in numbers]
    assert [image.split for image in images] == ["test"] * 10 + ["train"] * 33
    assert images[0].path == b"data/test-00000-of-00001/000000.jpg"
    assert images[-1].path == b"data/train-00001-of-00002/000012.jpg"
    assert len({image.arrow for image in images}) > 1
    stats = [image.stat() for image in images]
    assert len({stat.stamp for stat in stats}) == 43
    assert all(stat.mtime_ns == 0 and 0 < stat.stamp < 2**64 for stat in stats)
    assert [image.read()[1] for image in images] == stats


def test_one_more_parquet_file_leaves_all_other_rows_as_they_were(parquet, datasets):
    before = {image.path: image.stat() for image in of_folder(parquet)}
    make(datasets, range(60, 63)).to_parquet(parquet / "data" / "dev.parquet")
    after = {image.path: image.stat() for image in of_folder(parquet)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3


def test_a_parquet_file_that_is_written_anew_is_noticed(parquet, datasets):
    images = of_folder(parquet)
    make(datasets, range(70, 80)).to_parquet(parquet / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(Unreadable, match="written anew"):
        images[0].read()
    anew = of_folder(parquet)
    assert anew[0].stat() != images[0].stat()
    assert [image.stat() for image in anew[10:]] == [image.stat() for image in images[10:]]
    assert anew[0].read()[0] == jpeg(70)
    os.remove(anew[0].arrow.path)
    with pytest.raises(Unreadable, match="cannot be opened"):
        anew[0].read()


def test_one_parquet_file_is_a_source_too_and_says_if_its_split_is_not_used(datasets, tmp_path):
    make(datasets, range(4)).to_parquet(tmp_path / "photos.parquet")
    alone = huggingface.of_parquet(
        [str(tmp_path / "photos.parquet")], str(tmp_path / "photos.parquet")
    )
    assert {image.split for image in alone} == {"none"}
    assert not alone.notes
    make(datasets, range(4, 8)).to_parquet(tmp_path / "test.parquet")
    both = of_folder(tmp_path)
    assert {image.split for image in both} == {"none"}
    assert "test.parquet looks like a split, and is not used as one" in both.notes[0]


@pytest.mark.parametrize("kind", ["parquet", "saved", "folder"])
def test_rows_that_change_places_at_one_size_and_time_have_their_own_labels(
    datasets, stub, tmp_path, kind
):
    folder = tmp_path / "set"
    source = f"hf:{folder}" if kind != "parquet" else str(folder)
    bitmaps = {}
    for number in range(4):
        file = io.BytesIO()
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(file, "BMP")
        bitmaps[number] = file.getvalue()
    sizes = set()
    for numbers in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        cells = [{"bytes": bitmaps[number], "path": None} for number in numbers]
        rows = make(datasets, numbers, image=cells)
        if kind == "saved":
            rows.save_to_disk(folder)
        else:
            rows.to_parquet(folder / "rows.parquet")
        for file in folder.iterdir():
            os.utime(file, ns=(10**18, 10**18))
        sizes.add(tuple(sorted(file.stat().st_size for file in folder.iterdir())[1:]))
        store = pipeline.run(stub, source, tmp_path / "out.h5", unit_images=5)
        digests = [key[0] for key in store.keys]
        labels = [store.label_names[label] for label in store.labels]
        assert list(zip(digests, labels, strict=True)) == [
            (hashlib.sha256(bitmaps[number]).digest(), ("cat", "dog")[number % 2])
            for number in numbers
        ]
    assert len(sizes) == 1


def test_a_data_set_that_did_not_change_is_copied_once(datasets, parquet, tmp_path):
    for listed in (lambda: of_folder(parquet), lambda: huggingface.listed(f"hf:{parquet}")):
        listed()
        copies = {file: file.stat() for file in (tmp_path / "cache").rglob("*.arrow")}
        (parquet / "features.h5").write_bytes(b"no part of it")
        listed()
        assert {file: file.stat() for file in (tmp_path / "cache").rglob("*.arrow")} == copies


@pytest.fixture
def plain(datasets, tmp_path):
    """Writes columns beside images as plain parquet files below a folder, and lists them."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def plain(named=None, **files):
        folder = tmp_path / "plain"
        shutil.rmtree(folder, ignore_errors=True)
        for name, columns in files.items():
            file = folder / f"{name.replace('__', '/')}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            count = len(next(iter(columns.values())))
            images = [jpeg(number) for number in range(count)]
            parquet.write_table(pyarrow.table({"image": images} | columns), file)
        found = [str(file) for file in folder.rglob("*.parquet")]
        return huggingface.of_parquet(found, str(folder), named or {})

    return plain


def splits(images):
    return [image.split for image in images]


def test_splits_may_stand_in_a_column_where_nothing_else_says_them(plain, datasets, tmp_path):
    words = ["train", "Val", "testing", None, ""]
    meant = ["train", "validation", "test", "none", "none"]
    columns = {"label": list("abcde"), "split": words}
    assert splits(plain(rows=columns)) == meant
    assert not plain(rows=columns).notes
    assert splits(plain(rows={"label": ["a", "b"], "is_valid": [True, False]})) == [
        "validation",
        "train",
    ]
    cohorts = {"label": list("abcde"), "cohort": words}
    assert splits(plain(rows=cohorts)) == ["none"] * 5
    assert splits(plain({"split": "cohort"}, rows=cohorts)) == meant
    said = plain(train=columns)
    assert splits(said) == ["train"] * 5
    assert any("the column 'split' is not used" in note for note in said.notes)
    assert splits(plain({"split": "split"}, train=columns)) == meant
    odd = plain(rows={"label": ["a", "b"], "split": ["train", "fold 3"]})
    assert splits(odd) == ["none"] * 2
    assert any("'fold 3' is none of train" in note for note in odd.notes)
    with pytest.raises(SourceError, match=r"column 'split': unknown split 'fold 3'; use train"):
        plain({"split": "split"}, rows={"label": ["a", "b"], "split": ["train", "fold 3"]})
    with pytest.raises(SourceError, match="has no 'x'; there are image, label"):
        plain({"split": "x"}, rows={"label": ["a"]})


def test_groups_stand_in_a_column(plain):
    def groups(named=None, **files):
        return [image.group for image in plain(named, **files)]

    words = {"label": list("abc"), "group": ["p1", " p1 ", None]}
    assert groups(rows=words) == ["p1", "p1", None]
    assert plain(rows=words).label_notes == [
        "the column 'group' has 1 group, which folds keep together; 1 of 3 images are in none"
    ]
    assert groups(train=words, test={"id": [1, 2]}) == [None, None, "p1", "p1", None]
    numbers = {"label": list("abc"), "animal": [7.0, float("nan"), None]}
    assert groups(rows=numbers) == [None] * 3
    assert groups({"group": "animal"}, rows=numbers) == ["7", None, None]
    assert groups({"group": "label"}, rows={"label": [1, 2]}) == ["1", "2"]
    nested = {"label": ["a"], "group": [[1, 2]]}
    assert groups(rows=nested) == [None]
    with pytest.raises(SourceError, match=r"the column 'group' has no groups: .* text nor numbers"):
        plain({"group": "group"}, rows=nested)
    with pytest.raises(SourceError, match="has no 'x'; there are group, image, label"):
        plain({"group": "x"}, rows=words)
    with pytest.raises(SourceError, match=r"column 'group': 'a\\x00' is no group: it has a NUL"):
        plain(rows={"label": ["a"], "group": ["a\0"]})


def test_groups_of_a_data_set_may_be_classes(datasets, tmp_path):
    classes = datasets.ClassLabel(names=["lion", "tiger"])
    features = {"image": datasets.Image(), "kind": classes, "group": classes}
    cells = [{"bytes": jpeg(number), "path": None} for number in range(3)]
    rows = {"image": cells, "kind": [0, 1, 0], "group": [1, 0, -1]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    data.save_to_disk(tmp_path / "one")
    images = huggingface.listed(f"hf:{tmp_path / 'one'}")
    assert [(image.label, image.group) for image in images] == [
        ("lion", "tiger"),
        ("tiger", "lion"),
        ("lion", None),
    ]
    images = huggingface.listed(f"hf:{tmp_path / 'one'}", {"label": "group"})
    assert [image.group for image in images] == [None] * 3


def test_splits_of_a_data_set_of_one_split_may_stand_in_a_column(datasets, tmp_path):
    features = {"image": datasets.Image(), "split": datasets.ClassLabel(names=["test", "train"])}
    cells = [{"bytes": jpeg(number), "path": None} for number in range(3)]
    rows = {"image": cells, "split": [1, 0, -1]}
    rows = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    rows.save_to_disk(tmp_path / "one")
    images = huggingface.listed(f"hf:{tmp_path / 'one'}")
    assert splits(images) == ["train", "test", "none"]
    assert {image.label for image in images} == {None}
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "two")
    images = huggingface.listed(f"hf:{tmp_path / 'two'}")
    assert splits(images) == ["train"] * 3 + ["test"] * 3
    assert any("the column 'split' is not used" in note for note in images.notes)
    with pytest.raises(SourceError, match="has splits of its own"):
        huggingface.listed(f"hf:{tmp_path / 'one'}[train=data[:1]]", {"split": "split"})


def test_files_with_other_columns_are_read_side_by_side(plain, capfd):
    images = plain(
        train__0000={"label": ["a", "b"]},
        test__0000={"id": [1, 2]},
        validation__0000={"label": [3, 4], "source": ["x", "y"]},
    )
    assert [(image.label, image.split) for image in images] == [
        (None, "test"),
        (None, "test"),
        ("a", "train"),
        ("b", "train"),
        ("3", "validation"),
        ("4", "validation"),
    ]
    assert [image.read()[0] for image in images] == [jpeg(0), jpeg(1)] * 3
    assert any(note.startswith("test/0000.parquet: the label is none") for note in images.notes)
    assert capfd.readouterr() == ("", "")
    named = plain({"label": "breed"}, train={"breed": ["a"]}, test={"id": [1]})
    assert [(image.label, image.split) for image in named] == [(None, "test"), ("a", "train")]


def test_files_of_several_folders_are_called_by_what_those_have_in_common(plain, tmp_path):
    plain(a__train={"label": ["a"]}, a__b__test={"label": ["b"]})
    files = [str(tmp_path / "plain/a/train.parquet"), str(tmp_path / "plain/a/b/test.parquet")]
    for name, above in (("plain/a", b""), ("plain", b"a/"), ("elsewhere", b"")):
        (tmp_path / name).mkdir(exist_ok=True)
        images = huggingface.of_parquet(files, str(tmp_path / name))
        assert [image.path for image in images] == [
            above + b"b/test/000000",
            above + b"train/000000",
        ]
        assert [image.label for image in images] == ["b", "a"]
        assert splits(images) == ["test", "train"]
    with pytest.raises(SourceError, match="is given twice"):
        huggingface.of_parquet([files[0]] * 2, str(tmp_path))


def test_labels_of_rows_are_those_of_lists_with_notes_on_what_is_none(plain):
    images = plain(rows={"label": [" cat", "Cat ", "Hu\u0308ndchen", "  ", None]})
    assert [image.label for image in images] == ["cat", "Cat", "H\u00fcndchen", None, None]
    none, capitals = images.label_notes
    assert none.startswith("2 of 5 images have no label: their 'label' is empty")
    assert "'Cat' and 'cat' differ only in capitals" in capitals
    numbers = plain(rows={"label": [0, -1, 1]})
    assert [image.label for image in numbers] == ["0", None, "1"]
    assert "1 of 3 images have no label" in numbers.label_notes[0]
    assert not plain(rows={"label": [0, 1]}).label_notes


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_rows_name_no_files_outside_of_their_folder(datasets, stub, tmp_path, write_image, kind):
    folder = tmp_path / "set"
    inside = write_image(folder / "photos" / "in.png", 1)
    outside = write_image(tmp_path / "out.png", 2)
    (tmp_path / "other").symlink_to(folder)
    write_image(tmp_path / "set and more" / "x.png", 3)
    kept = [
        "photos/in.png",
        str(inside),
        "photos/../photos/in.png",
        f"{tmp_path}/other/photos/in.png",
    ]
    refused = [
        str(outside),
        "../out.png",
        "photos/../../out.png",
        f"{folder}/../out.png",
        "../set and more/x.png",
        "https://localhost:1/x.png",
        "file:///etc/x.png",
    ]
    cells = [{"bytes": None, "path": path} for path in kept + refused]
    if kind == "saved":
        cell = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        features = datasets.Features(image=cell)
        datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(folder)
        images = huggingface.listed(f"hf:{folder}")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"image": cells}), folder / "rows.parquet")
        images = huggingface.of_parquet([str(folder / "rows.parquet")], str(folder))
    store = pipeline.run(stub, images, tmp_path / "out.h5", unit_images=5)
    assert len(store) == len(kept)
    reasons = [file.reason for file in store.skipped_files]
    assert len(reasons) == len(refused)
    for reason, path in zip(reasons, refused, strict=True):
        assert path in reason
        assert "outside the folder" in reason or "not fetched" in reason


def test_slices_of_a_data_set_are_those_of_the_library_itself(parquet, datasets):
    images = huggingface.listed(f"hf:{parquet}[train=train[:40%]+train[90%:],test]")
    for split, said in (("train", "train[:40%]+train[90%:]"), ("test", "test")):
        own = datasets.load_dataset(str(parquet), split=said)
        own = own.cast_column("image", datasets.Image(decode=False))
        assert found(image for image in images if image.split == split) == [
            (row["image"]["bytes"], ("cat", "dog")[row["label"]]) for row in own
        ]
    whole = {image.path: image.stat() for image in huggingface.listed(f"hf:{parquet}")}
    assert len(whole) == 43
    assert all(whole[image.path] == image.stat() for image in images)


def test_a_data_set_that_was_saved_to_disk_is_read_where_it_is(datasets, tmp_path):
    both = datasets.DatasetDict(
        {"train": make(datasets, range(9)), "validation": make(datasets, range(9, 12))}
    )
    both.save_to_disk(tmp_path / "saved", num_shards={"train": 3, "validation": 1})
    images = huggingface.listed(f"hf:{tmp_path / 'saved'}")
    assert [image.read()[0] for image in images] == [jpeg(number) for number in range(12)]
    assert [image.split for image in images] == ["train"] * 9 + ["validation"] * 3
    both["train"].shuffle(seed=1).save_to_disk(tmp_path / "shuffled")
    mixed = huggingface.listed(f"hf:{tmp_path / 'shuffled'}")
    own = datasets.load_from_disk(str(tmp_path / "shuffled"))
    own = own.cast_column("image", datasets.Image(decode=False))
    assert [image.read()[0] for image in mixed] == [row["image"]["bytes"] for row in own]


def test_rows_of_parquet_pickle_small_and_need_no_library_but_pyarrow(parquet, tmp_path):
    images = list(of_folder(parquet))[:20]
    sent = pickle.dumps(images)
    assert len(sent) < 20 * 400
    (tmp_path / "sent").write_bytes(sent)
    code = """
import pickle, sys
for image in pickle.load(open(sys.argv[1], "rb")):
    print(image.digest().hex())
print("datasets" in sys.modules or "tensorflow" in sys.modules)
"""
    *there, loaded = run_python(code, tmp_path / "sent").split()
    assert there == [image.digest().hex() for image in images]
    assert loaded == "False"


def test_a_run_skips_rows_without_an_image_and_takes_files_that_rows_name(
    datasets, stub, tmp_path, write_image
):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_image(tmp_path / "photos" / "there.png", 1)
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    cells = [
        {"bytes": jpeg(1), "path": None},
        None,
        {"bytes": b"no image", "path": None},
        {"bytes": None, "path": "photos/there.png"},
        {"bytes": None, "path": "photos/gone.png"},
        {"bytes": None, "path": "nul\0.png"},
        {"bytes": b"", "path": "empty.png"},
    ]
    rows = {"image": cells, "label": ["a", "b", "c", "Hu\u0308ndchen", "e", None, ""]}
    file = tmp_path / "odd.parquet"
    parquet.write_table(pyarrow.table(rows, features.arrow_schema), file)
    images = huggingface.of_parquet([str(file)], str(file))
    assert [image.label for image in images] == ["a", "b", "c", "H\u00fcndchen", "e", None, None]
    pipeline.run(stub, images, tmp_path / "out.h5", unit_images=5)
    store = FeatureStore(tmp_path / "out.h5")
    assert list(store.raw_paths) == [b"odd/000000", b"odd/000003.png"]
    assert len(store.skipped_files) == 5
    reasons = {file.path: file.reason for file in store.skipped_files}
    assert reasons[b"odd/000001"] == "its row holds no image"


def test_plain_parquet_has_bytes_and_labels_by_the_names_of_columns(datasets, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "plain.parquet"

    def listed(columns, *named):
        parquet.write_table(pyarrow.table(columns), file)
        return huggingface.of_parquet([str(file)], str(file), *named)

    data = [jpeg(1), jpeg(2)]
    images = listed({"id": [1, 2], "Image": data, "label": pyarrow.array([3, None])})
    assert found(images) == [(data[0], "3"), (data[1], None)]
    kinds = pyarrow.array([b"x", b"y"]), pyarrow.array(["b", "a"]).dictionary_encode()
    images = listed({"blob": data, "breed": kinds[1]}, {"path": "blob", "label": "breed"})
    assert found(images) == [(data[0], "b"), (data[1], "a")]
    assert "the label is none of its columns" in listed({"image": data, "score": [1, 2]}).notes[0]
    with pytest.raises(SourceError, match=r"not clear which column .* one \(binary\), two \(bin"):
        listed({"one": data, "two": data})
    with pytest.raises(SourceError, match="no images: there are no rows"):
        listed({"image": pyarrow.array([], pyarrow.binary())})


def test_classes_that_are_not_known_or_could_be_either_are_no_labels(datasets, tmp_path):
    either = datasets.ClassLabel(names=["x", "y"])
    features = datasets.Features(image=datasets.Image(), fine_label=either, coarse_label=either)
    image = {"bytes": jpeg(1), "path": None}
    rows = {"image": [image] * 3, "fine_label": [-1, 0, 1], "coarse_label": [1, 1, None]}
    file = tmp_path / "cifar.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    images = huggingface.of_parquet([str(file)], str(file))
    assert [image.label for image in images] == [None] * 3
    assert "may be fine_label or coarse_label" in images.notes[0]
    for column, labels in (("fine_label", [None, "x", "y"]), ("coarse_label", ["y", "y", None])):
        images = huggingface.of_parquet([str(file)], str(file), {"label": column})
        assert [image.label for image in images] == labels


def test_what_cannot_be_loaded_is_refused_in_one_line(datasets, parquet, tmp_path):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 is not all that it takes")
    (tmp_path / "empty").mkdir()
    for listed, name, said in (
        (huggingface.listed, "hf:nobody/no-such-set", "Couldn't reach 'nobody/no-such-set'"),
        (huggingface.listed, "hf:nobody/no-such-set:config[train]", "Couldn't reach"),
        (huggingface.listed, f"hf:{tmp_path / 'empty'}", "cannot load it"),
        (huggingface.listed, f"hf:{parquet}[tset]", "the splits are train (33), test (10)"),
        (huggingface.listed, f"hf:{parquet}[train[:9],train[8:]]", "in common"),
        (huggingface.listed, "hf:", "names no data set; write hf:NAME"),
        (lambda name: huggingface.of_parquet([name], name), str(bad), "cannot be read"),
    ):
        with pytest.raises(SourceError) as refused:
            listed(name)
        assert said in str(refused.value)
        assert str(refused.value).startswith(name)
        assert "\n" not in str(refused.value)


def test_labels_can_be_left_out_of_references_of_every_kind(parquet):
    images = of_folder(parquet)
    assert all(dataclasses.replace(image, label=None).label is None for image in images)
    assert {image.label for image in images.without_labels()} == {None}
