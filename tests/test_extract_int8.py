"""A backbone that the images themselves quantise: made once, kept in the file, known by digest."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import train
from headstart.extract import ImageEmbedder, engines, machine
from headstart.extract.backbones.request import Request
from headstart.extract.backbones.weights import WeightsSource
from headstart.extract.embedding import Embedding
from headstart.extract.engines import int8
from headstart.extract.engines.engine import Tuning
from headstart.extract.pipeline import extract, run
from headstart.extract.sources import scan
from headstart.extract.work import calibration
from headstart.features import (
    BackboneError,
    FeatureFileError,
    FeatureStore,
    MissingExtra,
    ProvenanceMismatch,
    SourceError,
    WrongUsage,
    verify,
)
from headstart.features.journal import graphs
from headstart.features.journal.units import folder_of
from headstart.features.origin import TOLERANCES, distance

pytestmark = pytest.mark.skipif(
    not (machine.installed("openvino") and machine.installed("nncf")),
    reason="openvino or nncf is not installed",
)
ASKED = {"backbone": "MobileNetV2", "size": 32, "weights": "random", "precision": "int8"}
OPTIONS = [word for name, value in ASKED.items() for word in (f"--{name}", str(value))]
COUNT = 20  # of each class


@pytest.fixture(scope="module", autouse=True)
def _any_cosine():
    """A backbone with random weights at 32 pixels does not stand int8; that it is slow to be made
    otherwise is why it is used here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "LEAST_COSINE", -1.0)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory, fill_photos):
    return fill_photos(tmp_path_factory.mktemp("source") / "photos", count=COUNT)


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    return extract(photos, tmp_path_factory.mktemp("made") / "pets.h5", **ASKED)


@pytest.fixture
def pets(made, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copy(made.path, tmp_path / "pets.h5")


def test_the_file_holds_the_graph_and_its_digest_is_that_of_the_weights(made):
    assert made.provenance.precision == "int8"
    assert made.graph.digest == made.provenance.weights_digest
    assert made.environment["weights"] == {
        "kind": "quantised",
        "path": str(made.path),
        "sha256": made.graph.digest,
    }
    about = made.graph.about
    assert about["weights"] == WeightsSource("random").record()
    assert about["images"] == 2 * COUNT - 2 * COUNT // 11
    full = Embedding(Request.checked(**ASKED | {"precision": "f32"})).provenance
    assert about["weights_digest"] == full.weights_digest != made.provenance.weights_digest
    assert verify(made.path) == []
    assert not folder_of(made.path).exists()


def test_the_vectors_are_those_that_openvino_computes_by_the_graph(made, photos):
    openvino = machine.import_openvino()
    core = openvino.Core()
    model = core.read_model(model=made.graph.xml, weights=made.graph.constants)
    assert "FakeQuantize" in {node.get_type_name() for node in model.get_ops()}
    model.reshape([1, 32, 32, 3])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = dict(calibration.chosen(*listed(photos), Request.checked(**ASKED)))
    digests = [bytes(digest) for digest in made.digests]
    ours = np.concatenate([compiled(found[digest][None])[0] for digest in digests])
    assert distance(made.features, ours) < TOLERANCES["int8"]


def listed(folder):
    listing = scan(folder)
    return listing, {image.path: image.stat() for image in listing}


def test_which_images_calibrate_is_a_matter_of_their_contents(photos, tmp_path):
    request = Request.checked(**ASKED)
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        place = tmp_path / "other" / f"{number % 7}" / f"{(number * 37) % 101}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        shutil.copy(path, place.with_suffix(".copy.png"))
    (tmp_path / "other" / "broken.png").write_bytes(b"no image")
    here, there = (
        [digest for digest, _ in calibration.chosen(*listed(folder), request)]
        for folder in (photos, tmp_path / "other")
    )
    assert here == there
    assert len(set(here)) == 2 * COUNT


def test_of_many_images_few_are_read(photos, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "MOST", 5)
    images, stats = listed(photos)
    every = [digest for digest, _ in calibration.chosen(images, stats, Request.checked(**ASKED))]
    assert len(every) == 5
    monkeypatch.setattr(calibration, "MOST", 3)
    few = [digest for digest, _ in calibration.chosen(images, stats, Request.checked(**ASKED))]
    assert few == every[:3]
    without = {image.path: stats[image.path]._replace(size=0) for image in images}  # not told
    assert few == [one for one, _ in calibration.chosen(images, without, Request.checked(**ASKED))]


AGAIN = """
import sys
from headstart.extract.engines import int8
from headstart.extract.pipeline import extract
int8.LEAST_COSINE = -1.0
photos, out = sys.argv[1:]
asked = {"backbone": "MobileNetV2", "size": 32, "weights": "random", "precision": "int8"}
print(extract(photos, out, **asked).graph.digest)
"""


def test_another_process_makes_the_same_graph_of_the_same_images(made, photos, tmp_path):
    graphs_here = Path(os.environ["HEADSTART_CACHE"]) / "graphs"
    shutil.copytree(
        graphs_here, tmp_path / "cache" / "graphs", ignore=shutil.ignore_patterns("*.graph")
    )
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, photos, tmp_path / "again.h5"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"HEADSTART_CACHE": str(tmp_path / "cache")},
    )
    assert done.stdout.splitlines() == [made.graph.digest]  # and nncf says nothing there
    assert list((tmp_path / "cache" / "graphs").glob("*.graph"))


def test_new_images_are_embedded_by_the_same_graph(
    pets, photos, tmp_path, fill_photos, monkeypatch
):
    folder = shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.setattr(int8, "quantise", None)
    before = FeatureStore(pets).graph
    fill_photos(folder, count=COUNT + 3)
    after = extract(folder, pets, remove=True, **ASKED)
    assert after.summary.embedded == 6
    assert after.graph.digest == before.digest
    assert verify(after.path) == []
    again = extract(folder, pets, **ASKED)
    assert again.content_digest == after.content_digest


def test_a_run_that_was_killed_goes_on_with_its_graph_whatever_images_there_are(
    made, photos, tmp_path, interrupted_after, fill_photos, monkeypatch
):
    folder, out = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "pets.h5"
    embedding = Embedding(Request.checked(**ASKED))
    with interrupted_after(1):
        run(embedding, folder, out, unit_images=8)
    (graph,) = folder_of(out).glob("*.graph")
    assert graph.stem == made.graph.digest
    fill_photos(folder, count=COUNT + 3)
    monkeypatch.setattr(int8, "quantise", None)
    store = extract(folder, out, **ASKED)
    assert store.graph.digest == made.graph.digest
    assert store.images == 2 * COUNT + 6
    assert not folder_of(out).exists()


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_unfinished_work_without_its_graph_is_one_line(
    photos, tmp_path, interrupted_after, cli, damage
):
    out = tmp_path / "pets.h5"
    with interrupted_after(1):
        run(Embedding(Request.checked(**ASKED)), photos, out, unit_images=8)
    (graph,) = folder_of(out).glob("*.graph")
    data = bytearray(graph.read_bytes())
    data[-2000] ^= 1
    graph.unlink() if damage == "gone" else graph.write_bytes(data)
    line = cli("extract", photos, "-o", out, *OPTIONS).failure()
    assert str(graph) in line
    assert f"delete {folder_of(out)} and run the same command again" in line


def test_a_fresh_file_is_calibrated_by_the_images_of_now(pets, photos, tmp_path, monkeypatch):
    folder = shutil.copytree(photos, tmp_path / "photos")
    asked = []

    def quantise(request, images, others, known_by):
        asked.append(len(images) + len(others))
        raise BackboneError("enough is known")

    monkeypatch.setattr(int8, "quantise", quantise)
    extract(folder, pets, fresh=True, remove=True, **ASKED)  # the same images: from the cache
    assert not asked
    next(folder.rglob("*.png")).unlink()
    with pytest.raises(BackboneError, match="enough is known"):
        extract(folder, pets, fresh=True, remove=True, **ASKED)
    assert asked == [2 * COUNT - 1]
    assert verify(pets) == []


def test_other_weights_than_were_quantised_are_refused(pets, photos, tmp_path, cli):
    model = machine.import_keras().applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    model.save_weights(tmp_path / "other.weights.h5")
    other = [*OPTIONS, "--weights", str(tmp_path / "other.weights.h5")]
    line = cli("extract", photos, "-o", pets, "--remove", *other).failure()
    assert "its backbone was quantised from random weights, not from" in line
    assert "--fresh" in line


def test_workers_embed_by_the_graph_of_the_run(made, photos, tmp_path):
    store = extract(photos, tmp_path / "pets.h5", workers=2, **ASKED)
    assert store.content_digest == made.content_digest


@pytest.mark.parametrize(
    "tuning", [Tuning(batch=1), Tuning(batch=5), Tuning(streams=1), Tuning(threads=1)], ids=str
)
def test_neither_batch_nor_streams_nor_threads_change_a_vector(made, tuning):
    source = WeightsSource.named(made.path)
    request = Request.checked(**ASKED | {"weights": source})
    usual, other = (Embedding(request, "openvino", how).canary for how in (None, tuning))
    np.testing.assert_array_equal(usual, other)


def test_a_head_predicts_by_the_graph_in_the_file_and_finds_it_again(pets, photos, tmp_path, cli):
    head = train(FeatureStore(pets), folds=3)
    head.save(tmp_path / "pets.joblib")
    some = sorted(photos.rglob("*.png"))[::5]
    kept = predict(head, FeatureStore(pets))
    known = dict(zip(kept.paths, kept.ranked, strict=True))
    new = predict(tmp_path / "pets.joblib", some, features=tmp_path / "new.h5")
    for path, ranked in zip(new.paths, new.ranked, strict=True):
        name = os.path.relpath(path, photos)
        assert ranked[0][0] == known[name][0][0]
        assert ranked[0][1] == pytest.approx(known[name][0][1], abs=1e-6)
    assert FeatureStore(tmp_path / "new.h5").graph.digest == FeatureStore(pets).graph.digest

    moved = tmp_path / "elsewhere.h5"
    os.rename(pets, moved)
    out = tmp_path / "out.csv"
    line = cli("predict", tmp_path / "pets.joblib", *some, "-o", out).failure()
    assert f"{pets}, the feature file with the quantised backbone" in line
    assert "--weights FILE.h5" in line
    assert cli("predict", tmp_path / "pets.joblib", *some, "-o", out, "--weights", moved).code == 0
    # The features of new images hold it as well.
    again = cli(
        "predict", tmp_path / "pets.joblib", *some, "-o", out, "--weights", tmp_path / "new.h5"
    )
    assert again.code == 0


def other_graph(path):
    """Put another graph into a feature file, with its digest, as --fresh would."""
    graph = FeatureStore(path).graph
    other = type(graph)(
        graph.xml.replace(b"backbone", b"another_", 1), graph.constants, graph.about
    )
    with h5py.File(path, "r+") as file:
        provenance = json.loads(file.attrs["provenance"])
        made = FeatureStore(path).provenance
        new = json.dumps(
            provenance | {"weights_digest": other.digest}, sort_keys=True, separators=(",", ":")
        )
        file.attrs.modify("provenance", np.bytes_(new))
        fingerprint = type(made).from_json(new).fingerprint
        file.attrs.modify("fingerprint", np.bytes_(fingerprint))
        file["graph"].resize((len(other.packed()),))
        file["graph"][...] = np.frombuffer(other.packed(), np.uint8)
    return other


def test_a_head_refuses_another_graph(pets, photos, tmp_path):
    head = train(FeatureStore(pets), folds=3)
    some = sorted(photos.rglob("*.png"))[:3]
    other_graph(pets)
    assert FeatureStore(pets).graph.digest != head.provenance.weights_digest
    with pytest.raises(BackboneError, match="holds another quantised backbone, where one with the"):
        predict(head, some)
    with pytest.raises(ProvenanceMismatch, match="does not fit this run: weights_digest is"):
        predict(head, some, weights=pets)


def test_a_damaged_graph_is_found_by_verify_and_named_by_predict(pets, photos):
    head = train(FeatureStore(pets), folds=3)
    with h5py.File(pets, "r+") as file:
        file["graph"][-2000] ^= 1
    (problem,) = verify(pets)
    assert problem.startswith("graph: is not the quantised backbone of these vectors: Bad CRC-32")
    with pytest.raises(BackboneError, match=r"pets.h5: damaged: its quantised backbone.*--fresh"):
        predict(head, sorted(photos.rglob("*.png"))[:3])
    with h5py.File(pets, "r+") as file:
        file["graph"].resize((0,))
    assert verify(pets) == ["graph: is not the quantised backbone of these vectors: it is empty"]


def test_versions_and_paths_are_no_part_of_the_digest(made):
    graph = made.graph
    said = dict(graph.about) | {"nncf": "1.0", "openvino": "2020.1", "backbone": "Xception"}
    assert type(graph)(graph.xml, graph.constants, said).digest == graph.digest
    for text in (b"rt_info", b"Runtime", str(made.path.parent).encode()):
        assert text not in graph.xml


def test_an_embedder_takes_the_graph_of_a_file_and_cannot_make_one(pets, photos, tmp_path):
    some = [str(path) for path in sorted(photos.rglob("*.png"))[:3]]
    how = {"cache": tmp_path / "cache"}
    with pytest.raises(WrongUsage, match=r"random weights are to be quantised.*weights='FILE.h5'"):
        ImageEmbedder(**ASKED, **how).transform(some)
    store = FeatureStore(pets)
    rows = dict(zip(store.paths, store.features, strict=True))
    vectors = ImageEmbedder(**ASKED | {"weights": pets}, **how).transform(some)
    for path, vector in zip(some, vectors, strict=True):
        np.testing.assert_allclose(vector, rows[os.path.relpath(path, photos)], rtol=1e-5)
    os.unlink(pets)
    with pytest.raises(WrongUsage, match="no such file"):
        ImageEmbedder(**ASKED | {"weights": pets}, **how).transform(some)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "f32"}, "is quantised, and computes in int8, not in f32; add --precision"),
        ({"size": 40}, "is MobileNetV2 at 32 pixels, not MobileNetV2 at 40; add --backbone Mob"),
        ({"backbone": "VGG16"}, "MobileNetV2 at 32 pixels, not VGG16 at 32"),
        ({"engine": "keras"}, "precision 'int8': the keras engine computes in f32, bf16"),
    ],
    ids=str,
)
def test_a_graph_is_not_taken_for_another(pets, photos, tmp_path, settings, message):
    with pytest.raises(WrongUsage, match=message):
        extract(photos, tmp_path / "new.h5", **ASKED | {"weights": pets} | settings)


def test_a_feature_file_without_a_graph_is_no_weights(make_store):
    store = make_store(np.ones((4, 8)), [None] * 4)
    assert store.graph is None
    with pytest.raises(WrongUsage, match="precision f32, which holds no backbone; give a weights"):
        WeightsSource.named(store.path)


def test_too_few_images_are_counted(photos, tmp_path, cli):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.png"))[:3]:
        shutil.copy(path, few)
        shutil.copy(path, few / f"again-{path.name}")
    *_, line = cli("extract", few, "-o", tmp_path / "few.h5", *OPTIONS).err.splitlines()
    assert f"at least {calibration.LEAST} distinct ones" in line
    assert "there are 3;" in line
    with pytest.raises(SourceError):
        extract(few, tmp_path / "few.h5", **ASKED)


def test_a_backbone_that_does_not_stand_int8_is_refused(photos, tmp_path, monkeypatch):
    nncf = pytest.importorskip("nncf")
    monkeypatch.setattr(nncf, "quantize", lambda model, data, **_: model)
    monkeypatch.setattr(int8, "LEAST_COSINE", 1.1)
    monkeypatch.setattr(calibration, "MOST", 34)  # others than are in the cache
    with pytest.raises(BackboneError, match=r"does not stand int8: its vectors of 3 images have a"):
        extract(photos, tmp_path / "pets.h5", **ASKED)


@pytest.mark.parametrize("library", ["nncf", "openvino"])
def test_a_library_that_is_missing_is_one_line_with_the_command(
    photos, tmp_path, monkeypatch, library
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r'python3 -m pip install "headstart\[int8\]"'):
        extract(photos, tmp_path / "pets.h5", **ASKED)


def test_nncf_is_not_needed_where_there_is_a_graph(pets, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert extract(photos, pets, **ASKED).summary.reused == 2 * COUNT
    source = WeightsSource.named(pets)
    assert len(Embedding(Request.checked(**ASKED | {"weights": source})).canary) == 8


def test_a_head_of_int8_is_not_exported_and_no_library_is_loaded_for_that(
    made, tmp_path, monkeypatch
):
    from headstart.apply import export
    from headstart.features import HeadError

    head = train(made, folds=3)
    for library in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, library, None)
    for name in ("pets.keras", "pets.onnx"):
        with pytest.raises(HeadError, match=r"computed in int8, by a quantised.*images in f32 for"):
            export(head, tmp_path / name)


def test_info_says_what_was_quantised(pets, cli):
    said = cli("info", pets).out
    assert "quantised weights" in said
    assert "quantised: from random weights, by 37 images" in said
    values = json.loads(cli("info", pets, "--json").out)
    assert values["quantised"] == dict(FeatureStore(pets).graph.about)


def test_int8_on_a_processor_without_it_is_said_to_be_worse(monkeypatch, caplog):
    monkeypatch.setattr(machine, "has_int8", lambda: False)
    with caplog.at_level(logging.WARNING, "headstart"):
        engines.warn_of_slow_int8("f32")
        engines.warn_of_slow_int8("int8")
    assert [record.getMessage() for record in caplog.records] == [machine.SLOW_INT8]


def test_a_graph_beside_units_is_kept_once_and_mended(made, tmp_path):
    out = tmp_path / "pets.h5"
    graphs.keep(out, made.graph)
    (path,) = folder_of(out).glob("*.graph")
    before = path.stat().st_ino, path.stat().st_mtime_ns
    graphs.keep(out, made.graph)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    path.write_bytes(b"")
    with pytest.raises(FeatureFileError, match="is damaged: it is empty; delete"):
        graphs.find(out, made.graph.digest)
    graphs.keep(out, made.graph)
    assert graphs.find(out, made.graph.digest).constants == made.graph.constants
