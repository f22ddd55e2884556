"""Augmented views: what they are of an image, and how they get into a file and out of it."""

import functools
import hashlib
import shutil

import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.images import views
from headstart.extract.images.views import AS_BEFORE, KINDS, TEXTBOOK, Asked, moved, recipe_of, view
from headstart.extract.work import readahead
from headstart.features import (
    FeatureFileError,
    FeatureStore,
    ProvenanceMismatch,
    WrongUsage,
    verify,
)
from headstart.features.journal import units
from headstart.features.provenance.augmentation import Augmentation

run = functools.partial(pipeline.run, unit_images=5)
RECIPE = recipe_of(TEXTBOOK)


def asked(count=None, augment=None, of=None):
    return Asked.checked(count, augment, of)


def smooth(size=96, seed=0):
    """An image without edges, on which two ways to interpolate agree."""
    y, x = np.mgrid[:size, :size] / size
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [128 + 60 * np.sin(5 * x + p) + 60 * np.cos(4 * y + 2 * p) for p in phases]
    return np.stack(waves, axis=2).clip(0, 255).astype(np.uint8)


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def pets(tmp_path, fill_photos):
    """12 images to train on, and 6 of the test split."""
    fill_photos(tmp_path / "pets" / "train", count=6)
    shutil.copytree(tmp_path / "pets" / "train", tmp_path / "pets" / "test")
    for index, path in enumerate(sorted((tmp_path / "pets" / "test").rglob("*.png"))):
        if index % 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes() + b" of the test")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("flip", "flip=0.5;1"),
        ("rotation , flip", "flip=0.5,rotation=0.1;1"),
        ("color=.5,crop=0.50,vertical=1", "vertical=1,crop=0.5,color=0.5;1"),
    ],
)
def test_a_recipe_is_recorded_in_one_way_however_it_is_written(text, recorded):
    assert recipe_of(text) == recorded
    assert recipe_of(recorded.partition(";")[0]) == recorded


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("flop", "unknown change 'flop'; did you mean flip?"),
        ("", "unknown change ''"),
        ("flip,", "unknown change ''"),
        ("rotate=0.1", "did you mean rotation?"),
        ("rotation=0.6", "rotation takes a number from 0 to 0.5, received '0.6'"),
        ("crop=0", "crop takes a number from 0.1 to 1, received '0'"),
        ("crop=nan", "received 'nan'"),
        ("color=much", "received 'much'"),
        ("flip,flip", "flip is there twice"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_could(text, complaint):
    with pytest.raises(WrongUsage) as caught:
        recipe_of(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flips_are_those_of_keras(monkeypatch):
    from keras import layers

    images = np.stack([smooth(48, seed) for seed in range(32)])
    for name, mode, axis in (("flip", "horizontal", 2), ("vertical", "vertical", 1)):
        theirs = np.asarray(layers.RandomFlip(mode, seed=0)(images.astype("f4"), training=True))
        ours = np.stack([moved(one, KINDS[name].moves(np.zeros(4), 0.5)) for one in images])
        np.testing.assert_array_equal(ours, np.flip(images, axis))
        flipped = (theirs == ours).all(axis=(1, 2, 3))
        kept = (theirs == images).all(axis=(1, 2, 3))
        assert (flipped | kept).all()
        assert flipped.any()
        assert kept.any()


@pytest.mark.parametrize("amount", [0.03, 0.1, 0.25, 0.4])
@pytest.mark.parametrize("size", [64, 75])
def test_turned_images_are_those_of_keras_corners_included(amount, size):
    from keras import layers

    image = smooth(size)
    layer = layers.RandomRotation((amount, amount), fill_mode="reflect", interpolation="bilinear")
    theirs = np.asarray(layer(image[None].astype("f4"), training=True))[0]
    found = [
        np.abs(moved(image, KINDS["rotation"].moves(np.array([draw, 0, 0, 0]), amount)) - theirs)
        for draw in (0.0, 1.0)  # one of the two is their direction
    ]
    best = min(found, key=np.mean)
    assert best.mean() < 1
    assert best.max() < 8


def test_what_changes_nothing_leaves_every_pixel():
    noise = np.random.default_rng(0).integers(0, 256, (71, 71, 3)).astype(np.uint8)
    recipe = recipe_of("flip=0,vertical=0,rotation=0,crop=1,color=0")
    for number in range(1, 6):
        np.testing.assert_array_equal(view(noise, digest(number), number, recipe), noise)


def test_a_crop_shows_a_square_of_the_image_and_nothing_beside_it():
    y, x = np.mgrid[:100, :100]
    image = np.stack([x, y, x + y], axis=2).astype(np.uint8)
    recipe, sides = recipe_of("crop=0.5"), []
    for number in range(1, 200):
        seen = view(image, digest(0), number, recipe).astype(int)
        width, height = (np.ptp(seen[..., channel]) for channel in (0, 1))
        assert abs(width - height) <= 2
        sides.append(width / 100)
        assert np.abs(seen[..., 2] - seen[..., 0] - seen[..., 1]).max() <= 2
    assert 0.45 <= min(sides) < 0.55
    assert 0.95 < max(sides) <= 1


def test_a_view_depends_on_bytes_number_and_recipe_alone():
    image, recipe = smooth(), recipe_of("flip,rotation,crop,color")
    seen = view(image, digest(1), 1, recipe)
    np.testing.assert_array_equal(seen, view(image.copy(), digest(1), 1, recipe))
    assert seen.shape == image.shape
    assert seen.dtype == np.uint8
    others = [(digest(2), 1, recipe), (digest(1), 2, recipe), (digest(1), 1, recipe_of("crop"))]
    for other in others:
        assert (view(image, *other) != seen).any()


def test_half_of_the_views_are_mirrored_and_angles_are_spread_evenly():
    draws = np.stack(
        [views._draws(digest(n), k, RECIPE, "flip") for n in range(500) for k in (1, 2)]
    )
    assert draws.min() >= 0
    assert draws.max() < 1
    # Kolmogorov's 1 in 1,000 for 1,000 draws.
    for column in np.sort(draws, axis=0).T:
        assert np.abs(column - np.arange(1000) / 1000).max() < 1.95 / np.sqrt(1000)


def test_images_to_train_on_have_views_and_those_of_the_test_split_only_themselves(pets, out, stub):
    store = run(stub, pets, out, views=asked(3))
    assert store.augmentation == Augmentation(3, RECIPE, "training")
    assert store.images == 18
    assert len(store) == 3 * 12 + 6
    counts = {path: store.paths.count(path) for path in store.paths}
    assert all(number == (1 if path.startswith("test") else 3) for path, number in counts.items())
    assert store.summary.images == 18
    assert store.summary.embedded == 18
    assert store.summary.views == 24
    assert verify(out) == []
    whole = run(stub, pets, out, views=asked(3, of="all"))
    assert len(whole) == 3 * 18
    assert whole.summary.views == 12


def test_view_0_is_the_image_whatever_the_recipe(pets, out, stub):
    plain = run(stub, pets, out.with_name("plain.h5"))
    for number, recipe in enumerate([None, "crop,color", "vertical=1"]):
        store = run(stub, pets, out.with_name(f"{number}.h5"), views=asked(2, recipe))
        np.testing.assert_array_equal(store.features[store.views == 0], plain.features)
        assert store.provenance == plain.provenance
        first, second = store.features[store.views == 1], plain.features[plain.splits != 3]
        assert (first != second).any(axis=1).all()


def test_more_views_later_embed_the_new_ones_and_fewer_nothing(pets, out, stub, make_stub):
    once = run(make_stub(), pets, out.with_name("once.h5"), views=asked(4))
    run(stub, pets, out)
    for number, new in ((2, 12), (4, 24), (3, 0), (1, 0)):
        before = stub.engine.images
        store = run(stub, pets, out, views=asked(number))
        assert stub.engine.images - before == new
        assert len(store) == 18 + 12 * (number - 1)
        if number == 4:
            assert store.content_digest == once.content_digest


def test_what_is_not_said_is_as_before(pets, out, stub, write_image):
    run(stub, pets, out, views=asked(3, "vertical", "all"))
    write_image(pets / "train" / "red" / "new.png", 77)
    store = run(stub, pets, out, views=AS_BEFORE)
    assert store.augmentation == Augmentation(3, recipe_of("vertical"), "all")
    assert store.summary.embedded == 1
    assert store.summary.views == 2
    assert len(run(stub, pets, out, views=asked(2))) == 2 * 19


def test_two_recipes_never_mix(pets, out, stub, interrupted_after):
    run(stub, pets, out, views=asked(2, "flip"))
    sealed = out.read_bytes()
    with pytest.raises(
        ProvenanceMismatch, match=r"made by 'flip=0.5', not by 'color=0.2'.*--views 1"
    ):
        run(stub, pets, out, views=asked(2, "color"))
    assert out.read_bytes() == sealed
    other = out.with_name("other.h5")
    with interrupted_after(4):  # two of them are of the test split, without views
        run(stub, pets, other, views=asked(2, "flip"))
    with pytest.raises(ProvenanceMismatch, match="and they never mix"):
        run(stub, pets, other, views=asked(2, "color"))
    assert any(units.folder_of(other).iterdir())
    assert len(run(stub, pets, other, views=asked(2, "color"), fresh=True)) == 30
    run(stub, pets, out, views=asked(1))
    store = run(stub, pets, out, views=asked(2, "color"))
    anew = run(stub, pets, out.with_name("anew.h5"), views=asked(2, "color"))
    assert store.content_digest == anew.content_digest


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_was_killed_ends_in_the_file_of_an_undisturbed_one(
    pets, out, make_stub, interrupted_after, workers, send_whole
):
    send_whole()
    whole = run(make_stub(), pets, out.with_name("whole.h5"), views=asked(3))
    for count in (0, 2, 4):
        with interrupted_after(count):
            run(make_stub(), pets, out, views=asked(3))
    store = run(make_stub(), pets, out, views=asked(3), workers=workers)
    assert store.content_digest == whole.content_digest
    assert verify(out) == []


def test_an_image_that_cannot_be_read_now_keeps_its_views(pets, out, stub):
    before = run(stub, pets, out, views=asked(2))
    path = pets / "train" / "blue" / "blue00.png"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to(pets / "away")
    store = run(stub, pets, out, views=asked(3))
    assert store.paths.count("train/blue/blue00.png") == 2
    assert store.summary.unreachable == 1
    path.unlink()
    path.write_bytes(content)
    assert run(stub, pets, out, views=asked(2)).paths.count("train/blue/blue00.png") == 2
    assert len(before) == 30


def test_copies_in_both_splits_have_the_views_of_training_once(pets, out, stub):
    shutil.copy(pets / "train" / "blue" / "blue00.png", pets / "test" / "blue" / "same.png")
    store = run(stub, pets, out, views=asked(3))
    assert store.paths.count("test/blue/same.png") == 1
    assert store.paths.count("train/blue/blue00.png") == 3
    assert store.summary.views == 24


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"count": 0}, "views 0: 1 (the image itself) to 256"),
        ({"count": 2.0}, "views 2.0"),
        ({"count": 2, "of": "some"}, "views_of 'some': use one of training, all"),
    ],
)
def test_views_that_cannot_be_are_refused(how, complaint):
    with pytest.raises(WrongUsage) as caught:
        asked(**how)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "how", [{"augment": "flip"}, {"of": "all"}, {"count": 1, "augment": "flip"}]
)
def test_a_recipe_without_views_is_refused(pets, out, stub, how):
    with pytest.raises(WrongUsage, match="there are no views to make; ask for --views 2 or more"):
        run(stub, pets, out, views=asked(**how))
    assert not out.exists()


def test_every_view_is_made_once_and_few_images_are_ahead_where_each_has_many(
    pets, out, stub, monkeypatch
):
    asked_for = []
    original = readahead.view

    def counted(*arguments):
        asked_for.append(arguments[2])
        return original(*arguments)

    submit, ahead, most = readahead.Threads.submit, [0], [0]

    def submitted(*arguments):
        ahead[0] += 1
        most[0] = max(most[0], ahead[0])
        call = submit(*arguments)
        call.add_done_callback(lambda _: ahead.__setitem__(0, ahead[0] - 1))
        return call

    monkeypatch.setattr(readahead.Threads, "submit", submitted)
    monkeypatch.setattr(readahead, "view", counted)
    store = run(stub, pets, out, views=asked(40))
    assert len(store) == 12 * 40 + 6
    assert sorted(asked_for) == sorted(12 * [*range(1, 40)])
    assert most[0] <= 2 * 2  # two units at a time
    np.testing.assert_array_equal(FeatureStore(out).features, store.features)


@pytest.mark.parametrize(
    "recipe", ["flip=0.5;99", "flop=1;1", "rotation=9;1", "rotation=0.1,flip=0.5;1"]
)
def test_views_of_a_recipe_that_means_something_else_here_are_not_added(
    pets, out, stub, monkeypatch, recipe
):
    monkeypatch.setattr(views, "_require_makeable", lambda _: None)
    monkeypatch.setattr(readahead, "view", lambda pixels, *_: pixels)
    run(stub, pets, out, views=Asked(2, recipe))
    monkeypatch.undo()
    assert verify(out) == []
    with pytest.raises(ProvenanceMismatch, match="cannot be made by this headstart"):
        run(stub, pets, out, views=AS_BEFORE)
    assert len(run(stub, pets, out, views=asked(1))) == 18


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"of":"training","recipe":"","views":2}',
        '{"of":"training","recipe":"flip=0.5;1","views":1}',
        '{"of":"training","recipe":"flip;1","views":2}',
        '{"of":"training","recipe":"flip=x\\n;1","views":2}',
        '{"of":"some","recipe":"flip=0.5;1","views":2}',
        '{"of":"training","recipe":"flip=0.5;1","views":true}',
        '{"of":"training","recipe":"flip=0.5;1","views":2,"more":1}',
    ],
)  # fmt: skip
def test_what_was_recorded_by_anybody_is_checked(text):
    with pytest.raises(FeatureFileError, match="the recorded augmentation cannot be read"):
        Augmentation.from_json(text)


def test_unfinished_work_remembers_what_was_asked_for(pets, out, stub, interrupted_after):
    with interrupted_after(1):  # a unit of the test split, without views
        run(stub, pets, out, views=asked(4))
    store = run(stub, pets, out, views=AS_BEFORE)
    assert store.augmentation.views == 4


def test_predictions_keep_the_views_that_are_there_and_make_none(pets, out, stub, write_image):
    run(stub, pets, out, views=asked(3))
    write_image(pets / "train" / "red" / "new.png", 78)
    before = stub.engine.images
    store = run(stub, pets, out, views=views.KEPT)
    assert stub.engine.images - before == 1
    assert (len(store), store.augmentation.views) == (31 + 12, 3)
    assert (
        run(stub, pets, out, views=Asked(2, RECIPE, "all", at_least=True)).augmentation.views == 3
    )
