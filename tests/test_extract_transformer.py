"""The backbone as a scikit-learn transformer: what it takes, what it remembers, how it behaves."""

import copy
import fcntl
import inspect
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import loky
import numpy as np
import pytest
import scipy.sparse
from headstart.extract import ImageEmbedder, extract, vector_cache
from headstart.extract.pipeline import run
from headstart.extract.sources import samples
from headstart.features import (
    BackboneError,
    FeatureFileError,
    FeatureStore,
    ProvenanceMismatch,
    SourceError,
    WrongUsage,
    child,
    verify,
)
from headstart.features.journal import units
from headstart.features.journal.lock import exclusive
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.validation import validate_data

SMALL = {"backbone": "MobileNetV2", "weights": "random", "size": 32}


@pytest.fixture(autouse=True)
def forget():
    """Called, it has this process begin anew: what it has loaded and read is forgotten."""
    yield vector_cache._shared.cache_clear
    vector_cache._shared.cache_clear()


@pytest.fixture
def stubs(stand_in):
    """The stand-ins for the backbone that are made, each when a process would make an embedding."""
    return stand_in("extract.vector_cache")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def embedder(stubs, cache):
    return ImageEmbedder(weights="random", size=71, cache=cache)


@pytest.fixture
def paths(photos):
    return [str(path) for path in sorted(photos.rglob("*.png"))]


def embedded(stubs):
    """How many images went through the stand-ins, the test images of each left out."""
    return sum(max(0, stub.engine.images - 8) for stub in stubs)


def loads(stubs):
    return sum(stub.loads for stub in stubs)


def files_in(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix == ".h5")


def labels_of(paths):
    return [Path(path).parent.name for path in paths]


# Behaving as scikit-learn wants


class OfNumbers(ImageEmbedder):
    """Takes what scikit-learn's checks try transformers with: each row of numbers is an image."""

    def fit(self, X, y=None):
        return super().fit(self._images(validate_data(self, X)), y)

    def transform(self, X):
        return super().transform(self._images(validate_data(self, X, reset=False)))

    def _images(self, numbers):
        of_bytes = np.ascontiguousarray(numbers, np.float64).view(np.uint8)
        return list(of_bytes.reshape(len(numbers), 1, -1))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        return tags


@pytest.mark.filterwarnings("ignore:Can't test estimator", "ignore:.*SCIPY_ARRAY_API")
def test_the_checks_of_scikit_learn_pass(embedder):
    estimator_checks.check_estimator(embedder)
    # Few of them run on what takes no matrix of numbers; of the rest, these want no data ...
    for check in (
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
    ):
        check("ImageEmbedder", clone(embedder))
    # ... and all others do with an embedder that takes numbers for pixels. None is left out.
    with_numbers = OfNumbers(**embedder.get_params())
    results = estimator_checks.check_estimator(with_numbers, on_skip=None, on_fail="raise")
    assert len([one for one in results or [] if one["status"] == "passed"]) > 30


def test_there_is_nothing_to_fit(embedder, paths, stubs):
    before = dict(vars(embedder))
    assert embedder.fit(paths, labels_of(paths)) is embedder
    assert vars(embedder) == before
    assert loads(stubs) == 0
    np.testing.assert_array_equal(
        clone(embedder).transform(paths), embedder.fit_transform(paths, labels_of(paths))
    )
    assert vars(embedder) == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "Xceptoin"}, "did you mean Xception"),
        ({"backbone": None}, "unknown backbone None"),
        ({"weights": None}, "weights None: no such file; give 'imagenet', 'random' or a"),
        ({"weights": b"x.h5"}, "weights b'x.h5'"),
        ({"weights": "a\0"}, "no such file"),
        ({"weights": "nowhere.h5"}, "no such file"),
        ({"size": 12}, "size 12 is too small for Xception"),
        ({"size": 150.0}, "size 150.0: give a whole number"),
        ({"square": "round"}, "square 'round': use one of stretch, crop, pad"),
        ({"precision": "f64"}, "precision 'f64'"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"engine": "steam"}, "engine 'steam'"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_parameters_are_checked_when_they_are_used(method, parameters, message, paths, cache):
    embedder = ImageEmbedder(**{"weights": "random", "cache": cache} | parameters)
    assert clone(embedder).get_params() == embedder.get_params()
    with pytest.raises(WrongUsage, match=message):
        getattr(embedder, method)(paths)
    assert not cache.exists()


@pytest.mark.parametrize("weights", ["imagenet", "random"])
def test_a_folder_that_is_called_as_weights_are_is_not_taken_for_them(
    paths, cache, tmp_path, monkeypatch, weights
):
    (tmp_path / weights).mkdir()
    monkeypatch.chdir(tmp_path)
    embedder = ImageEmbedder("MobileNetV2", weights=weights, cache=cache)
    assert embedder.fit(paths) is embedder
    assert embedder._request().weights.kind == weights


def test_its_parameters_are_those_of_extract_where_they_change_a_vector(cache):
    ours = inspect.signature(ImageEmbedder).parameters
    theirs = inspect.signature(extract).parameters
    for name in ("backbone", "weights", "size", "precision", "dtype", "engine"):
        assert ours[name].default == theirs[name].default, name
    assert ours["square"].default == theirs["fit"].default


def test_pickles_and_copies_are_small_and_give_the_same_vectors(embedder, paths, stubs, forget):
    vectors = embedder.transform(paths)
    file = io.BytesIO()
    joblib.dump(embedder, file)
    for other in (
        pickle.loads(pickle.dumps(embedder)),
        joblib.load(io.BytesIO(file.getvalue())),
        copy.deepcopy(embedder),
        clone(embedder),
    ):
        np.testing.assert_array_equal(other.transform(paths), vectors)
    assert len(pickle.dumps(embedder)) < 2000
    assert embedded(stubs) == 18


def test_other_parameters_take_effect_at_once(embedder, paths, cache):
    wide = embedder.transform(paths)
    cropped = embedder.set_params(square="crop").transform(paths)
    assert not np.array_equal(wide, cropped)
    half = embedder.set_params(dtype="float16", square="stretch").transform(paths)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, wide, rtol=2**-10)
    np.testing.assert_array_equal(embedder.set_params(dtype="float32").transform(paths), wide)


def test_a_pipeline_is_fitted_scored_and_searched_with_one_pass_through_the_backbone(
    embedder, paths, stubs
):
    labels = np.array(labels_of(paths))
    pipeline = make_pipeline(embedder, LogisticRegression())
    assert (cross_val_predict(pipeline, paths, labels, cv=3) == labels).all()
    grid = {
        "imageembedder__square": ["stretch", "pad"],
        "logisticregression__C": [0.01, 1.0],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(paths, labels)
    assert search.score(paths, labels) == 1.0
    assert search.best_estimator_.predict(paths[:2]).tolist() == ["blue", "blue"]
    assert embedded(stubs) == 2 * 18  # two ways to become square
    assert len(stubs) == 2


def test_names_of_the_numbers_are_known_once_there_is_a_vector(embedder, paths, stubs, forget):
    embedder.fit(paths)
    with pytest.raises(NotFittedError, match="transform an image"):
        embedder.get_feature_names_out()
    embedder.transform(paths[:1])
    forget()
    names = clone(embedder).get_feature_names_out()
    assert names.tolist() == [f"imageembedder{number}" for number in range(8)]
    assert stubs[-1].loads == 0


def test_a_notebook_that_shows_an_embedder_loads_no_backbone(embedder, stubs, paths):
    assert "ImageEmbedder" in embedder._repr_html_()
    assert "ImageEmbedder" in clone(embedder).set_params(size="huge")._repr_html_()
    assert loads(stubs) == 0
    embedder.transform(paths[:1])
    assert "ImageEmbedder" in make_pipeline(embedder, LogisticRegression())._repr_html_()


def test_frames_come_out_and_columns_go_in(embedder, paths):
    pandas = pytest.importorskip("pandas")
    vectors = embedder.transform(paths)
    column = pandas.Series(paths, index=range(100, 118), name="path")
    np.testing.assert_array_equal(embedder.transform(column), vectors)
    np.testing.assert_array_equal(embedder.transform(column.to_frame()), vectors)
    np.testing.assert_array_equal(embedder.transform(column.astype("string")), vectors)
    frame = embedder.set_output(transform="pandas").transform(column)
    assert frame.columns.tolist() == embedder.get_feature_names_out().tolist()
    assert frame.index.tolist() == column.index.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), vectors)
    with pytest.raises(TypeError, match=r"X\[1\] is of the type NAType"):
        embedder.transform(pandas.Series([paths[0], None], dtype="string"))


# What X may be


def test_paths_may_be_given_in_many_ways(embedder, paths, photos, stubs, monkeypatch):
    vectors = embedder.transform(paths)
    monkeypatch.chdir(photos / "red")
    for given in (
        tuple(paths),
        [os.fsencode(path) for path in paths],
        [Path(path) for path in paths],
        np.array(paths),
        np.array(paths, "S"),
        np.array(paths, object),
        np.array(paths)[:, None],
        [os.path.relpath(path) for path in paths],
    ):
        np.testing.assert_array_equal(embedder.transform(given), vectors)
    assert embedded(stubs) == 18


def test_vectors_come_in_the_order_of_x_however_often_an_image_is_in_it(embedder, paths, stubs):
    vectors = embedder.transform(paths)
    order = np.random.default_rng(0).integers(0, len(paths), 50)
    np.testing.assert_array_equal(embedder.transform(np.array(paths)[order]), vectors[order])
    again = ImageEmbedder(**embedder.get_params() | {"cache": embedder.cache / "empty"})
    np.testing.assert_array_equal(again.transform(np.array(paths)[order]), vectors[order])
    assert embedded(stubs[1:]) == len(set(order.tolist()))


@pytest.mark.parametrize("square", ["stretch", "crop", "pad"])
def test_an_array_gives_the_vector_of_a_file_with_its_pixels(embedder, square, tmp_path):
    generator = np.random.default_rng(3)
    shapes = [(24, 32, 3), (31, 7, 3), (1, 1, 3), (200, 90, 3), (17, 13), (1, 5), (90, 200)]
    arrays = [generator.integers(0, 256, shape, np.uint8) for shape in shapes]
    arrays += [arrays[0].transpose(1, 0, 2), arrays[3][::-3, ::2], arrays[5].T]
    for number, array in enumerate(arrays):
        Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / f"{number}.png")
    files = [tmp_path / f"{number}.png" for number in range(len(arrays))]
    embedder.set_params(square=square)
    vectors = embedder.transform(files)
    np.testing.assert_array_equal(embedder.transform(arrays), vectors)
    mixed = [*arrays[:5], *files[5:]]
    np.testing.assert_array_equal(embedder.transform(mixed), vectors)
    np.testing.assert_array_equal(embedder.transform(np.stack([arrays[0]] * 2)), vectors[[0, 0]])
    np.testing.assert_array_equal(embedder.transform(as_objects(arrays)), vectors)


def as_objects(arrays):
    objects = np.empty(len(arrays), object)
    objects[:] = arrays
    return objects


def test_equal_pixels_are_one_image_and_equal_bytes_of_another_shape_are_not(embedder, stubs):
    stripes = np.tile(np.repeat(np.uint8([0, 250]), 6), (12, 1))
    first = embedder.transform([stripes, stripes.copy()])
    assert embedded(stubs) == 1
    np.testing.assert_array_equal(first[0], first[1])
    other = embedder.transform([stripes.reshape(6, 24), stripes.reshape(4, 12, 3)])
    assert embedded(stubs) == 3
    assert not np.array_equal(other[0], first[0])
    assert not np.array_equal(other[1], other[0])


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a.png", ValueError, "X is one path, 'a.png'"),
        (Path("a.png"), ValueError, "X is one path"),
        (None, TypeError, "X is of the type NoneType"),
        ({"a.png"}, TypeError, "X is of the type set"),
        (scipy.sparse.eye_array(3), TypeError, "X is of the type dia_array"),
        ([], ValueError, "0 sample"),
        (np.empty((0, 8, 8, 3), np.uint8), ValueError, "0 sample"),
        (np.zeros((4, 8)), ValueError, r"X is an array of float64 and shape \(4, 8\)"),
        (np.zeros((4, 8, 8, 3)), ValueError, "X is an array of float64"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"shape \(8, 8, 3\); give a list"),
        (np.zeros((4, 8), complex), ValueError, "X is an array of complex128"),
        (np.array(["a.png"] * 4).reshape(2, 2), ValueError, r"shape \(2, 2\)"),
        (np.array("a.png"), ValueError, r"shape \(\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), ValueError, r"X\[0\] is an array of uint8 .*8, 4\)"),
        ([np.zeros((8, 8, 3))], ValueError, r"X\[0\] is an array of float64"),
        ([np.zeros((0, 8, 3), np.uint8)], ValueError, r"X\[0\] .* \(0, 8, 3\)"),
        (["a.png", [1, 2]], TypeError, r"X\[1\] is of the type list"),
        (["a.png", 7], TypeError, r"X\[1\] is of the type int"),
        (np.array(["a.png", None], object), TypeError, r"X\[1\] is of the type NoneType"),
        (["a.png", ""], ValueError, r"X\[1\] is not a path"),
        (["a\0.png"], ValueError, r"X\[0\] is not a path"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_what_is_neither_paths_nor_images_is_refused(embedder, method, X, error, message):
    with pytest.raises(error, match=message):
        getattr(embedder, method)(X)


def test_images_that_cannot_be_used_are_counted_and_the_first_is_named(
    embedder, paths, tmp_path, write_image
):
    bad, missing = tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_bytes(b"<html>")
    for _ in range(2):  # from the ledger, too
        with pytest.raises(SourceError, match=r"3 of 4 .* X\[1\], .*bad\.png: not an image"):
            embedder.transform([paths[0], bad, missing, bad])
    with pytest.raises(SourceError, match=r"1 of 1 .* X\[0\], .*missing.png: cannot be opened"):
        embedder.transform([missing])
    write_image(bad, 1)
    write_image(missing, 2)
    assert embedder.transform([paths[0], bad, missing, bad]).shape == (4, 8)


def test_a_file_that_changed_is_embedded_again(embedder, paths, stubs, write_image):
    before = embedder.transform(paths)
    write_image(Path(paths[3]), 77, (200, 200, 10))
    after = embedder.transform(paths)
    assert embedded(stubs) == 19
    changed = (before != after).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [3]


# What is remembered


def test_vectors_are_those_that_extract_puts_into_a_file(embedder, photos, stub, tmp_path):
    run(stub, photos, tmp_path / "out.h5")
    store = FeatureStore(tmp_path / "out.h5")
    vectors = embedder.transform([photos / path for path in store.paths])
    np.testing.assert_array_equal(vectors, store.features)
    assert vectors.dtype == store.features.dtype


def test_what_is_known_is_embedded_by_nobody_again_and_loads_nothing(
    embedder, paths, stubs, forget
):
    array = np.full((5, 5, 3), 9, np.uint8)
    vectors = embedder.transform([*paths, array])
    forget()
    np.testing.assert_array_equal(clone(embedder).transform([*paths, array]), vectors)
    assert len(stubs) == 2
    assert stubs[1].loads == stubs[1].engine.images == 0


def test_a_copy_elsewhere_is_not_embedded_again(embedder, paths, stubs, tmp_path):
    vectors = embedder.transform(paths)
    copies = [shutil.copy(path, tmp_path) for path in paths]
    np.testing.assert_array_equal(embedder.transform(copies), vectors)
    assert embedded(stubs) == 18


def test_a_transform_that_is_interrupted_goes_on_where_it_stopped(
    embedder, photos, stubs, forget, interrupted_after, fill_photos
):
    paths = sorted(fill_photos(photos, count=300).rglob("*.png"))
    with interrupted_after(1):
        embedder.transform(paths)
    forget()
    assert embedder.transform(paths).shape == (600, 8)
    assert stubs[-1].engine.images == 8 + 600 - 256


def test_no_two_ways_of_computing_share_a_file(stubs, cache, paths, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.h5").write_bytes(bytes(number))
    ways = [
        {},
        {"backbone": "InceptionV3"},
        {"size": 96},
        {"square": "crop"},
        {"square": "pad"},
        {"precision": "bf16"},
        {"dtype": "float16"},
        {"weights": "imagenet"},
        {"weights": tmp_path / "0.h5"},
        {"weights": tmp_path / "1.h5"},
    ]
    for way in ways:
        parameters = {"weights": "random", "size": 75, "cache": cache} | way
        ImageEmbedder(**parameters).transform(paths[:2])
    folders = [path for path in cache.iterdir() if path.name.endswith(".h5.units")]
    assert len(folders) == len(ways)
    assert embedded(stubs) == 2 * len(ways)
    assert all(path.name.startswith(("Xception-", "InceptionV3-")) for path in folders)

    # Where the weights lie, or what runs them, makes no other vectors.
    moved = shutil.copy(tmp_path / "1.h5", tmp_path / "moved.h5")
    for way in ({"weights": moved}, {"engine": "keras"}, {"size": np.int64(75)}):
        parameters = {"weights": "random", "size": 75, "cache": cache} | way
        ImageEmbedder(**parameters).transform(paths[:2])
    assert len(list(cache.iterdir())) == len(ways)
    assert embedded(stubs) == 2 * len(ways)


def test_a_weights_file_is_read_again_only_when_it_changed(cache, paths, stubs, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"one")
    embedder = ImageEmbedder(weights=weights, size=71, cache=cache)
    for _ in range(3):
        embedder.transform(paths[:2])
    assert embedded(stubs) == 2
    weights.write_bytes(b"other")
    embedder.transform(paths[:2])
    assert embedded(stubs) == 4


def test_the_cache_is_in_the_users_folder_unless_another_is_named(
    stubs, paths, tmp_path, monkeypatch
):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "all"))
    ImageEmbedder(weights="random", size=71).transform(paths[:1])
    assert len(list((tmp_path / "all" / "embeddings").iterdir())) == 1
    monkeypatch.chdir(tmp_path)
    here = ImageEmbedder(weights="random", size=71, cache="here")
    here.transform(paths[:1])
    assert len(list((tmp_path / "here").iterdir())) == 1


# Many units become one file


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(vector_cache, "SEALED_FROM", 4)


def test_many_units_are_gathered_in_one_file_and_nothing_is_lost(
    embedder, paths, stubs, cache, soon, write_image, forget
):
    arrays = [np.full((3, 4, 3), number, np.uint8) for number in range(5)]
    bad = Path(paths[0]).with_name("bad.png")
    bad.write_bytes(b"no image")
    vectors = []
    for one in [*paths, *arrays]:
        vectors.append(embedder.transform([one])[0])
        if one is paths[5]:  # two states of one path, and one that is no image
            write_image(Path(one), 88)
            vectors[-1] = embedder.transform([one])[0]
            with pytest.raises(SourceError):
                embedder.transform([bad])
    (file,) = files_in(cache)
    assert verify(cache / file) == []
    assert len(units.verified(cache / f"{file}.units")) < 4
    assert len(FeatureStore(cache / file)) >= len(vectors) - 4
    forget()
    np.testing.assert_array_equal(clone(embedder).transform([*paths, *arrays]), vectors)
    with pytest.raises(SourceError, match="not an image"):
        embedder.transform([bad])
    assert stubs[-1].loads == 0


def test_a_file_of_images_none_of_which_can_be_used_is_no_hindrance(
    embedder, tmp_path, soon, paths, cache
):
    for number in range(6):
        bad = tmp_path / f"{number}.png"
        bad.write_bytes(bytes(number))
        with pytest.raises(SourceError):
            embedder.transform([bad])
    assert [len(embedder.transform([path])) for path in paths[:6]] == [1] * 6
    assert [verify(cache / name) for name in files_in(cache)] == [[]]


def test_while_another_process_adds_what_is_known_is_read_and_what_is_new_waits(
    embedder, paths, cache, stubs, monkeypatch
):
    known = embedder.transform(paths[:9])
    (folder,) = cache.iterdir()
    lock, asked = fcntl.flock, threading.Event()

    def flock(*arguments):
        asked.set()
        return lock(*arguments)

    with exclusive(folder.with_suffix("")):
        np.testing.assert_array_equal(embedder.transform(paths[:9]), known)
        monkeypatch.setattr(fcntl, "flock", flock)
        waiting = threading.Thread(target=embedder.transform, args=(paths,))
        waiting.start()
        assert asked.wait(timeout=60)
        assert embedded(stubs) == 9
    waiting.join()
    assert embedded(stubs) == 18


@pytest.fixture
def other(embedder, forget, monkeypatch):
    """Called with images, it does what another process would: embed and seal them."""

    def transform_and_seal(*images):
        forget()
        with monkeypatch.context() as patch:
            patch.setattr(vector_cache, "SEALED_FROM", 1)
            clone(embedder).transform(images)

    return transform_and_seal


BLACK = np.zeros((4, 4, 3), np.uint8)


def test_what_others_sealed_meanwhile_is_read_from_the_file(embedder, paths, stubs, other):
    vectors = embedder.transform(paths)
    ours = embedder._vector_cache()
    for image in (BLACK, BLACK + 1):  # our units are gone and there is a file, then another file
        other(image)
        assert not units.verified(units.folder_of(ours.file))
        np.testing.assert_array_equal(
            ours.vectors(samples.references(samples.checked(paths))), vectors
        )
    assert ours.vectors(samples.references([BLACK])).shape == (1, 8)
    assert embedded(stubs) == 18 + 2


def test_what_is_sealed_while_it_is_read_is_not_taken_for_new(
    embedder, paths, stubs, other, monkeypatch, forget
):
    vectors = embedder.transform(paths)
    forget()
    original, pending = units.verified, [BLACK]

    def verified(folder, before=()):
        if pending:  # the file has been read, or found missing, and the units are next
            other(pending.pop())
        return original(folder, before)

    monkeypatch.setattr(units, "verified", verified)
    np.testing.assert_array_equal(clone(embedder).transform(paths), vectors)
    assert not pending
    assert embedded(stubs) == 18 + 1


def test_a_unit_that_vanishes_is_an_error_and_embedded_by_the_next_call(
    embedder, paths, monkeypatch
):
    original = units.publish
    with monkeypatch.context() as patch:
        patch.setattr(units, "publish", lambda *unit: original(*unit).unlink())
        with pytest.raises(FeatureFileError, match=r"18 images .* do not read back"):
            embedder.transform(paths)
    assert embedder.transform(paths).shape == (18, 8)


def test_threads_that_ask_at_once_share_one_backbone_and_embed_once(embedder, paths, stubs):
    vectors = {}
    start = threading.Barrier(4)

    def work_on(number):
        start.wait()
        vectors[number] = clone(embedder).transform(paths[number : number + 15])

    threads = [threading.Thread(target=work_on, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stubs) == 1
    assert embedded(stubs) == 18
    whole = embedder.transform(paths)
    for number in range(4):
        np.testing.assert_array_equal(vectors[number], whole[number : number + 15])


def _in_a_process(make_stub, embedder, paths):
    """Transform image by image, so that units come and are sealed beside another process."""

    def make(request, engine):
        stub = make_stub()
        stub.request = request
        return stub

    with pytest.MonkeyPatch.context() as patch:  # the process works for other tests, too
        patch.setattr(vector_cache, "Embedding", make)
        patch.setattr(vector_cache, "SEALED_FROM", 3)
        return np.concatenate([embedder.transform([path]) for path in paths])


def test_processes_that_embed_and_seal_at_once_get_the_right_vectors(
    embedder, paths, make_stub, send_whole, tmp_path
):
    send_whole(__name__)
    expected = embedder.set_params(cache=tmp_path / "one").transform(paths)
    embedder.set_params(cache=tmp_path / "shared")
    orders = [paths, paths[::-1], paths[9:] + paths[:9], paths]
    with loky.ProcessPoolExecutor(2) as processes:
        found = list(processes.map(_in_a_process, [make_stub] * 4, [embedder] * 4, orders))
    for order, vectors in zip(orders, found, strict=True):
        np.testing.assert_array_equal(vectors, expected[[paths.index(path) for path in order]])
    (file,) = files_in(tmp_path / "shared")
    assert verify(tmp_path / "shared" / file) == []


# When things go wrong


def test_a_damaged_file_is_said_with_what_to_delete(embedder, paths, cache, soon, forget):
    for path in paths[:4]:
        embedder.transform([path])
    (file,) = cache.glob("*.h5")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 3000] = bytes(3000)
    file.write_bytes(content)
    forget()
    with pytest.raises(FeatureFileError, match=rf"damaged.*is a cache: delete {file} and ") as said:
        embedder.transform(paths[:4])
    assert "\n" not in str(said.value)
    file.unlink()
    forget()
    assert embedder.transform(paths[:4]).shape == (4, 8)


def test_a_damaged_unit_is_embedded_again(embedder, paths, cache, stubs, forget):
    vectors = embedder.transform(paths)
    (unit,) = cache.rglob("*.h5.units/*.h5")
    unit.write_bytes(unit.read_bytes()[:-100])
    forget()
    np.testing.assert_array_equal(embedder.transform(paths), vectors)
    assert embedded(stubs) == 36


def test_a_cache_that_was_deleted_is_made_anew(embedder, paths, cache, stubs):
    vectors = embedder.transform(paths)
    shutil.rmtree(cache)
    np.testing.assert_array_equal(embedder.transform(paths), vectors)
    assert embedded(stubs) == 36


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_embedded(
    embedder, paths, tmp_path, stubs
):
    (tmp_path / "file").write_bytes(b"")
    embedder.set_params(cache=tmp_path / "file" / "cache")
    with pytest.raises(FeatureFileError, match=r"file/cache: cannot be made: .* cache=\.\.\.$"):
        embedder.transform(paths)
    assert loads(stubs) == 0


def test_other_weights_of_the_same_name_add_nothing_to_the_vectors_known(
    embedder, paths, monkeypatch, make_stub, forget
):
    vectors = embedder.transform(paths[:9])
    forget()
    monkeypatch.setattr(vector_cache, "Embedding", lambda request, engine: make_stub("1" * 64))
    np.testing.assert_array_equal(embedder.transform(paths[:9]), vectors)
    with pytest.raises(ProvenanceMismatch, match=r"weights_digest .* is a cache: delete"):
        embedder.transform(paths)


def test_weights_that_cannot_be_had_are_asked_for_again(embedder, paths, monkeypatch, make_stub):
    class Offline(make_stub):
        online = False

        @property
        def _loaded(self):
            if not self.online:
                raise BackboneError("no network")
            return super()._loaded

    monkeypatch.setattr(vector_cache, "Embedding", lambda request, engine: Offline())
    for _ in range(2):
        with pytest.raises(BackboneError, match="no network"):
            embedder.transform(paths)
    Offline.online = True
    assert embedder.transform(paths).shape == (18, 8)


# With a real backbone


PROGRAM = """
import json, sys
for name in ("tensorflow", "keras", "openvino"):
    sys.modules[name] = None
import headstart.extract
assert "sklearn" not in sys.modules
from headstart.extract import ImageEmbedder
import numpy as np
given = json.loads(sys.argv[1])
np.save(given["out"], ImageEmbedder(**given["parameters"]).transform(given["paths"]))
"""


def test_the_vectors_of_a_real_backbone_are_those_of_extract_and_found_without_it(
    paths, photos, cache, tmp_path
):
    store = extract(photos, tmp_path / "out.h5", **SMALL)
    assert [str(photos / path) for path in store.paths] == paths
    embedder = ImageEmbedder(**SMALL, cache=cache)
    vectors = embedder.transform(paths)
    np.testing.assert_allclose(vectors, store.features, rtol=1e-4, atol=1e-5)
    arrays = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_allclose(embedder.transform(arrays), vectors, rtol=1e-4, atol=1e-5)

    out = tmp_path / "out.npy"
    given = {
        "parameters": SMALL | {"cache": str(cache)},
        "paths": paths[::-1],
        "out": str(out),
    }
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(given)], check=True)
    np.testing.assert_array_equal(np.load(out), vectors[::-1])


def test_a_search_in_two_processes_with_a_real_backbone_scores_as_one_in_this_process(
    paths, cache, tmp_path
):
    def search(cache, n_jobs):
        pipeline = make_pipeline(ImageEmbedder(**SMALL, cache=cache), LogisticRegression())
        grid = {"logisticregression__C": [0.001, 1.0]}
        return GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(paths, labels_of(paths))

    alone, together = search(tmp_path / "alone", 1), search(cache, 2)
    np.testing.assert_array_equal(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    assert together.predict(paths).tolist() == alone.predict(paths).tolist()
    dimension = alone.best_estimator_[0].get_feature_names_out().shape
    assert dimension == (1280,)


def test_scikit_learn_is_not_imported_with_the_commands():
    program = "import headstart.extract, sys; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
    import headstart.extract

    assert headstart.extract.ImageEmbedder is ImageEmbedder
    with pytest.raises(AttributeError, match="has no attribute 'ImageEmbeder'"):
        _ = headstart.extract.ImageEmbeder


def test_no_process_waits_for_a_file_that_is_not_sealed(photos, stubs, monkeypatch, tmp_path):
    monkeypatch.setattr(child, "prepare", lambda _: pytest.fail("a process was started"))
    paths = sorted(photos.rglob("*.png"))
    assert len(ImageEmbedder(**SMALL, cache=tmp_path).fit_transform(paths)) == 18
