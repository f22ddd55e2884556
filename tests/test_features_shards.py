"""Feature files sealed apart and read as one."""

import shutil

import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import train
from headstart.features import (
    FeatureFileError,
    FeatureStore,
    ProvenanceMismatch,
    WrongUsage,
    layout,
    verify,
)
from headstart.features.store.shards import Shards

NAMES = [f"pets-{shard:05}-of-00003.h5" for shard in range(3)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_stub, fill_photos):
    """The same photographs extracted at once, and as three parts in files of their own."""
    from headstart.extract.pipeline import run

    home = tmp_path_factory.mktemp("parted")
    folder = fill_photos(home / "photos", ("blue", "green", "red"), count=8)
    paths = run(make_stub(), folder, home / "whole.h5").paths
    for shard, name in enumerate(NAMES):
        table = home / f"part{shard}.csv"
        rows = [f"photos/{path},{path.split('/')[0]}" for path in paths[shard::3]]
        table.write_text("path,label\n" + "\n".join(rows) + "\n")
        run(make_stub(), table, home / name)
    return home


@pytest.fixture
def parted(made, tmp_path):
    """Copies of these files: the one, and the name of the three."""
    for name in ("whole.h5", *NAMES):
        shutil.copyfile(made / name, tmp_path / name)
    return FeatureStore(tmp_path / "whole.h5"), tmp_path / "pets-*-of-00003.h5"


def test_shards_are_read_as_the_one_file_that_they_are_parts_of(parted):
    whole, pattern = parted
    store = FeatureStore(pattern)
    assert len(store) == len(whole) == store.images
    assert [path.removeprefix("photos/") for path in store.paths] == whole.paths
    assert store.label_names == whole.label_names
    for name in (layout.FEATURES, layout.LABELS, layout.SPLITS, layout.DIGESTS, layout.VIEWS):
        np.testing.assert_array_equal(store.read(name), whole.read(name))
    some = np.array([0, 3, 4, 5, 11, 23])
    np.testing.assert_array_equal(store.read_features(some), whole.features[some])
    assert store.skipped == []
    assert verify(pattern) == []
    assert "24 rows" in repr(store)


def test_heads_of_shards_are_those_of_the_one_file(parted, tmp_path):
    whole, pattern = parted
    one, other = train(whole), train(FeatureStore(pattern))
    assert one.scores.accuracy == other.scores.accuracy
    assert one.scores.log_loss == other.scores.log_loss
    assert predict(one, pattern, out=tmp_path / "out.csv").labels == predict(one, whole).labels


def test_a_shard_is_a_file_by_itself(parted, tmp_path):
    assert len(FeatureStore(tmp_path / NAMES[1])) == 8
    assert type(FeatureStore(tmp_path / NAMES[1])) is FeatureStore
    assert type(FeatureStore(tmp_path / "pets-*-of-00003.h5")) is Shards


def test_a_missing_shard_is_named(parted, tmp_path):
    _, pattern = parted
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(FeatureFileError, match=r"1 shard of 3 missing, the first pets-00001-of"):
        FeatureStore(pattern)


def test_an_image_in_two_shards_is_named(parted, tmp_path):
    _, pattern = parted
    (tmp_path / NAMES[1]).write_bytes((tmp_path / NAMES[0]).read_bytes())
    with pytest.raises(FeatureFileError, match=r"photos/blue/\S+ is in two of its files"):
        FeatureStore(pattern).read(layout.LABELS)


def test_shards_of_different_backbones_are_no_one_file(parted, make_store, tmp_path):
    _, pattern = parted
    (tmp_path / NAMES[2]).unlink()
    make_store(np.ones((2, 8)), ["a", "b"], name=NAMES[2], weights_digest="1" * 64)
    with pytest.raises(ProvenanceMismatch, match="weights_digest"):
        FeatureStore(pattern)


def test_a_damaged_shard_is_named_by_verify(parted, tmp_path):
    _, pattern = parted
    path = tmp_path / NAMES[2]
    data = bytearray(path.read_bytes())
    vectors = FeatureStore(path).features.tobytes()
    data[bytes(data).index(vectors[:64]) + 5] ^= 1
    path.write_bytes(data)
    (line,) = verify(pattern)
    assert line.startswith(f"{NAMES[2]}: features: cannot be read")


@pytest.fixture
def photos(tmp_path, fill_photos):
    return fill_photos(tmp_path / "photos", ("blue", "green", "red"), count=8)


def vectors_by_path(store):
    return dict(zip(store.paths, store.features.tolist(), strict=True))


def test_an_output_that_stands_for_several_files_is_sealed_as_so_many(photos, tmp_path, make_stub):
    from headstart.extract.pipeline import run

    whole = run(make_stub(), photos, tmp_path / "whole.h5")
    parts = run(make_stub(), photos, tmp_path / "pets-*-of-00003.h5")
    assert type(parts) is Shards
    assert vectors_by_path(parts) == vectors_by_path(whole)
    assert parts.label_names == whole.label_names
    assert (parts.summary.images, parts.summary.embedded) == (24, 24)
    assert sorted(path.name for path in tmp_path.glob("pets*")) == NAMES
    again = run(make_stub(), photos, tmp_path / "pets-?????-of-00003.h5")
    assert (again.summary.embedded, again.summary.reused) == (0, 24)
    assert again.content_digest == parts.content_digest


def test_each_of_several_processes_seals_the_file_of_its_own_shard(photos, tmp_path, stand_in):
    from headstart.extract import extract_shard

    stand_in("extract.work.shards")
    name = tmp_path / "pets-*-of-00003.h5"
    done = [extract_shard(photos, name, (number, 3)) for number in (3, 1, 2)]
    assert sum(one.images for one in done) == {one.of for one in done}.pop() == 24
    assert [one.file for one in done] == [str(tmp_path / NAMES[k]) for k in (2, 0, 1)]
    assert len(FeatureStore(name)) == 24
    with pytest.raises(WrongUsage, match=r"shard 1/4: .* stands for 3 files; ask for one of 3"):
        extract_shard(photos, name, "1/4")


def test_more_shards_than_images_can_fill_are_refused_before_any_is_made(
    photos, tmp_path, make_stub
):
    from headstart.extract.pipeline import run

    with pytest.raises(WrongUsage, match="24 images are too few for 64 shards"):
        run(make_stub(), photos, tmp_path / "pets-*-of-00064.h5")
    assert list(tmp_path.glob("pets*")) == []


def test_what_shards_skipped_is_listed_by_path(photos, tmp_path, make_stub):
    from headstart.extract.pipeline import run

    for name in ("red/z", "blue/a-name-that-is-longer-than-all-others", "green/mm"):
        (photos / f"{name}.jpg").write_bytes(b"no image" + name.encode())
    store = run(make_stub(), photos, tmp_path / "pets-*-of-00003.h5")
    paths = [one.path for one in store.skipped]
    assert len(paths) == 3
    assert paths == sorted(paths)
    assert store.summary.skipped == 3
    assert verify(store.path) == []


def test_shards_of_another_number_are_named_where_some_are_missing(parted, tmp_path):
    with pytest.raises(FeatureFileError, match=r"another number: \*-of-00003\.h5"):
        FeatureStore(tmp_path / "pets-*-of-00007.h5")


def test_blocks_that_are_read_across_shards_are_the_rows_asked_for(parted, monkeypatch):
    whole, pattern = parted
    monkeypatch.setattr("headstart.classify.examples.stored.SHARE", 0.0)
    one, other = train(whole), train(FeatureStore(pattern))
    assert other.scores.log_loss == pytest.approx(one.scores.log_loss, rel=1e-6)


def test_commands_take_one_name_for_all_shards(parted, tmp_path, cli):
    whole, pattern = parted
    head = tmp_path / "pets.joblib"
    for command, *arguments in (
        ("info", pattern),
        ("verify", pattern),
        ("train", pattern, "-o", head),
        ("predict", head, pattern, "-o", tmp_path / "predictions.csv"),
        ("audit", pattern),
        ("compare", pattern, whole.path),
        ("report", head, pattern, "-o", tmp_path / "report.html"),
    ):
        done = cli(command, *arguments)
        assert (done.code, done.err) == (0, ""), command
        assert done.out, command
    assert "honest scores" in cli("evaluate", head, pattern).failure()  # it knows them all
    done = cli("train", tmp_path / "pets-*-of-00004.h5", "-o", head)
    assert done.code == 1
    assert "4 shards of 4 missing, the first pets-00000-of-00004.h5" in done.err


def test_what_is_sealed_by_each_run_is_not_sealed_again(tmp_path):
    from headstart.extract import seal

    with pytest.raises(WrongUsage, match="each of its shards is sealed by the run that makes it"):
        seal(tmp_path / "pets-*-of-00003.h5")


def test_in_int8_the_shard_whose_backbone_all_have_is_made_first(photos, tmp_path, make_stub):
    from headstart.extract.work.plan import shards_made

    stub, name = make_stub(precision="int8"), tmp_path / "pets-*-of-00003.h5"
    with pytest.raises(WrongUsage, match="make shard 1/3 first"):
        list(shards_made(pytest.fail, stub, photos, name, only=2))
