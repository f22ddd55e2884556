"""Runs whose output is a URL: interrupted, gone on with elsewhere, two at a time, refused."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from headstart.apply import predict
from headstart.extract import pipeline
from headstart.extract.work import shards
from headstart.features import FeatureStore, child
from headstart.features.durable.remote import failures
from headstart.features.errors import (
    FeatureFileError,
    HeadstartError,
    MissingExtra,
    SourceError,
    WrongUsage,
)
from headstart.features.journal import graphs, outputs, units
from headstart.features.journal.outputs import Output
from headstart.features.provenance.graph import Graph

sys.path.insert(0, str(Path(__file__).parent))
import s3

pytest.importorskip("s3fs")
pytestmark = pytest.mark.usefixtures("opened_once")
OUT = "s3://photos/made/pets.h5"
KEY = "made/pets.h5"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_WAIT", 0.001)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Be another machine: one with a cache of its own."""

    def be(name: str) -> None:
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "caches" / name))
        monkeypatch.setattr(outputs.platform, "node", lambda: name)

    be("first")
    return be


@pytest.fixture
def bucket(served, photos, monkeypatch, machine):
    """The photos of `photos` as a bucket, which is written to, too."""
    served.reset()
    for path in photos.rglob("*.png"):
        served.put(f"in/{path.relative_to(photos)}", path.read_bytes())
    served.clear()
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture(scope="module")
def whole(make_stub, fill_photos, tmp_path_factory):
    """The digest of what a run makes of `photos` that nothing disturbs, on this machine."""
    folder = tmp_path_factory.mktemp("whole")
    photos = fill_photos(folder / "photos")
    return pipeline.run(make_stub(), photos, folder / "near.h5").content_digest


@pytest.fixture(autouse=True)
def _sealed_here(monkeypatch):
    """Have files sealed in this process; those of tests that start one are not."""
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)


def embed(stub, out=OUT, source="s3://photos/in", **more):
    return pipeline.run(stub, source, out, unit_images=5, **more)


def made(bucket):
    return [key for key in bucket.names() if key.startswith("made/")]


def sent(bucket):
    """What was written, but for the question whether it may be."""
    return [one for one in bucket.asked() if one.startswith("PUT") and "rights.try" not in one]


def unit_keys(bucket):
    return [key for key in made(bucket) if ".units/" in key]


def test_a_bucket_is_extracted_from_and_to(bucket, stub, tmp_path, whole):
    far = embed(stub)
    assert far.content_digest == whole
    assert far.name == OUT
    assert far.summary.embedded == 18
    assert made(bucket) == [KEY]
    (tmp_path / "fetched.h5").write_bytes(bucket.get(KEY))
    assert FeatureStore(tmp_path / "fetched.h5").content_digest == whole


def test_units_and_the_file_are_written_once_and_nothing_is_fetched(bucket, stub):
    embed(stub)
    asked = {one: count for one, count in bucket.asked().items() if " made/" in one}
    written = {one: count for one, count in asked.items() if one.startswith("PUT")}
    assert written.pop(f"PUT {KEY}.units/rights.try") == 1
    assert set(written.values()) == {1}
    assert len(written) == 1 + 4
    assert not [one for one in asked if one.startswith("GET")]
    bucket.clear()
    assert embed(stub).summary.embedded == 0
    assert not sent(bucket)
    assert not [one for one in bucket.asked() if one.startswith("GET made")]


@pytest.mark.parametrize("where", ["first", "second"])
def test_an_interrupted_run_goes_on_to_the_file_of_an_uninterrupted_one(
    bucket, stub, make_stub, whole, interrupted_after, machine, where
):
    with interrupted_after(2):
        embed(stub)
    assert len(unit_keys(bucket)) == 2
    machine(where)
    other = make_stub()
    resumed = embed(other)
    assert resumed.summary.embedded in (8, 10)  # two units of 5, 5, 5 and 3
    assert resumed.content_digest == whole
    assert made(bucket) == [KEY]


def test_a_unit_that_was_not_sent_is_sent_by_the_next_run(bucket, stub, photos, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(FeatureFileError, match="access is denied"):

        def refused(output, path):
            bucket.fail(any=["403 AccessDenied"] * 9)
            push(output, path)

        push = Output.push
        patch.setattr(Output, "push", refused)
        embed(stub, source=photos)
    bucket.fail()
    assert not unit_keys(bucket)
    assert embed(stub, source=photos).summary.embedded < 18
    assert made(bucket) == [KEY]


def test_what_is_new_in_the_bucket_is_added_on_another_machine(
    bucket, stub, machine, write_image, tmp_path
):
    embed(stub)
    machine("second")
    bucket.put("in/red/new.png", write_image(tmp_path / "new.png", 4711).read_bytes())
    assert embed(stub).summary.embedded == 1
    machine("first")
    assert len(FeatureStore(OUT)) == 19


def test_two_machines_at_once_have_each_others_units_and_end_in_one_file(
    bucket, make_stub, machine, whole, monkeypatch
):
    """The second begins when the first has published all, and ends before it."""
    pull, ended = Output.pull, []

    def overtaken(output):
        monkeypatch.setattr(Output, "pull", pull)
        machine("second")
        ended.append(embed(make_stub()))
        machine("first")
        return pull(output)

    monkeypatch.setattr(Output, "pull", overtaken)
    last = embed(make_stub())
    assert ended[0].summary.embedded == 0
    assert ended[0].content_digest == last.content_digest == whole
    assert made(bucket) == [KEY]


def test_what_another_machine_makes_meanwhile_is_left_out(
    bucket, make_stub, machine, whole, monkeypatch
):
    """The second begins after the first has begun, and is interrupted."""
    from headstart.extract.work import here

    monkeypatch.setattr(here, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(here, "_LOOK_SHARE", 0.0)
    catch_up, other = pipeline.catch_up, make_stub()

    def caught_up(*arguments, **more):
        machine("second")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setitem(pipeline.run.__wrapped__.__kwdefaults__, "work", stopped)
            embed(other)
        machine("first")
        return catch_up(*arguments, **more)

    def stopped(known, embedding, images, stats, **more):
        catch_up(known, embedding, images[:10], stats, **more)
        raise KeyboardInterrupt

    monkeypatch.setitem(pipeline.run.__wrapped__.__kwdefaults__, "work", caught_up)
    store = embed(make_stub())
    assert store.summary.embedded == 8
    assert store.content_digest == whole


def test_a_run_that_was_overtaken_is_told_and_loses_nothing(
    bucket, make_stub, machine, write_image, tmp_path
):
    """Meanwhile another machine seals other images."""
    stub = make_stub()
    embed(stub)
    for number in range(3):
        bucket.put(f"in/red/n{number}.png", write_image(tmp_path / "n.png", number).read_bytes())
    upload = Output.upload

    def overtaken(output):
        machine("second")
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Output, "upload", upload)
            bucket.put("in/blue/n.png", write_image(tmp_path / "n.png", 77).read_bytes())
            embed(make_stub())
        machine("first")
        upload(output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Output, "upload", overtaken)
        with pytest.raises(FeatureFileError, match=rf"^{OUT}: another run sealed it while this"):
            embed(stub)
    assert len(FeatureStore(OUT)) == 22
    again = embed(stub)
    assert again.summary.embedded == 0
    assert len(again) == 22
    assert made(bucket) == [KEY]


def test_units_of_images_that_a_run_does_not_have_stay_for_the_one_that_does(
    bucket, make_stub, machine
):
    """Two machines embed two folders into one output; the first to seal has one of them."""
    catch_up = pipeline.catch_up

    def caught_up(*arguments, **more):
        machine("second")
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(KeyboardInterrupt),
        ):
            patch.setitem(pipeline.run.__wrapped__.__kwdefaults__, "work", stopped)
            embed(make_stub(), source="s3://photos/in/red")
        machine("first")
        return catch_up(*arguments, **more)

    def stopped(*arguments, **more):
        catch_up(*arguments, **more)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pipeline.run.__wrapped__.__kwdefaults__, "work", caught_up)
        assert len(embed(make_stub(), source="s3://photos/in/blue")) == 9
    assert len(unit_keys(bucket)) == 2
    machine("second")
    assert embed(make_stub(), remove=True).summary.embedded == 0
    assert made(bucket) == [KEY]


def test_a_unit_that_is_damaged_in_the_bucket_is_made_again(
    bucket, make_stub, machine, interrupted_after
):
    with interrupted_after(2):
        embed(make_stub())
    key = unit_keys(bucket)[0]
    bucket.put(key, bucket.get(key)[:-100])
    machine("second")
    assert embed(make_stub()).summary.embedded in (8 + 5, 10 + 5, 10 + 3)
    assert made(bucket) == [KEY]


def test_a_quantised_backbone_travels_before_the_units_that_it_makes(bucket, machine):
    graph = Graph(b"<net/>" * 9, bytes(range(256)), {"backbone": "VGG16", "size": 32})
    output = Output.of(OUT)
    output.begin()
    graphs.keep(output.path, graph)
    unit = units.folder_of(output.path) / f"{'0' * 32}.h5"
    unit.write_bytes(b"damaged")
    bucket.put(f"{KEY}.units/{graph.digest}.graph", b"damaged as well")
    output.push(unit)
    wanted = [f"{KEY}.units/{unit.name}", f"{KEY}.units/{graph.digest}.graph"]
    assert sorted(unit_keys(bucket)) == sorted(wanted)
    assert bucket.get(wanted[1]) == graph.packed()
    machine("second")
    other = Output.of(OUT)
    other.begin()
    assert graphs.find(other.path, graph.digest).constants == graph.constants


def test_what_is_not_ours_is_not_fetched_from_a_folder_of_units(bucket, stub):
    for name in ("notes.txt", "../../../pets.h5", "x" * 32 + ".h5"):
        bucket.put(f"{KEY}.units/{name}", b"somebody's")
    embed(stub)
    assert not [one for one in bucket.asked() if one.startswith(f"GET {KEY}.units/")]
    assert bucket.get(f"{KEY}.units/notes.txt") == b"somebody's"


def test_what_another_run_has_sealed_is_not_sent_again(
    bucket, make_stub, machine, interrupted_after
):
    with interrupted_after(2):
        embed(make_stub())
    machine("second")
    embed(make_stub())
    machine("first")
    bucket.clear()
    assert embed(make_stub()).summary.embedded == 0
    assert not sent(bucket)
    assert made(bucket) == [KEY]


def test_two_runs_of_one_machine_are_kept_apart_by_its_lock(bucket, make_stub):
    from headstart.features.journal.lock import exclusive

    path = Output.of(OUT).path
    with exclusive(path), pytest.raises(FeatureFileError, match=rf"^{OUT}: another run of head"):
        embed(make_stub())
    assert not made(bucket)


def test_worker_processes_write_to_the_bucket_themselves(bucket, stub, whole, send_whole):
    send_whole()
    far = embed(stub, workers=2)
    assert far.content_digest == whole
    assert len([one for one in sent(bucket) if ".units/" in one]) == 4


def test_machines_with_one_cache_know_only_what_they_have_begun_with(
    bucket, make_stub, tmp_path, monkeypatch, write_image
):
    """A home on a network disk: what the first writes is not what the second has seen."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "home"))

    def begun(name, seed):
        monkeypatch.setattr(outputs.platform, "node", lambda: name)
        output = Output.of(OUT)
        output.begin()
        output.path.write_bytes(bytes([seed]) * 9)
        return output

    embed(make_stub())
    first, second = begun("first", 1), begun("second", 2)
    first.upload()
    with pytest.raises(FeatureFileError, match="another run sealed it"):
        second.upload()
    assert bucket.get(KEY) == b"\x01" * 9


def test_what_was_left_with_other_settings_is_told_on_its_machine_alone(
    bucket, make_stub, machine, interrupted_after, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Output, "push", lambda *_: None)  # the network is gone
        with interrupted_after(2):
            embed(make_stub())
    left = {path.name for path in units.folder_of(Output.of(OUT).path).iterdir()}
    other = make_stub(dtype="float16")
    for _ in range(2):
        with pytest.raises(HeadstartError, match=rf"unfinished work .*{OUT}|{OUT} does not fit"):
            embed(other)
    assert not unit_keys(bucket)
    machine("second")
    assert embed(make_stub(dtype="float16")).summary.embedded == 18
    machine("first")
    bucket.clear()
    assert len(embed(other, fresh=True)) == 18
    assert len(left) == 2
    assert not [one for one in sent(bucket) if one.rpartition("/")[2] in left]


def test_a_bucket_that_cannot_be_written_to_is_told_before_the_source_is_listed(bucket, stub):
    bucket.fail_keys({f"{KEY}.units/rights.try": ["403 AccessDenied"]})
    bucket.clear()
    with pytest.raises(FeatureFileError, match=rf"^{OUT}: access is denied .*rights that they"):
        embed(stub)
    assert not bucket.asked().get("GET ")
    assert (stub.loads, made(bucket)) == (0, [])


def shard(stub, number, of=3, **more):
    """One of so many, by a stand-in for the backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "Embedding", lambda *_: stub)
        source = more.pop("source", "s3://photos/in")
        return shards.extract_shard(source, OUT, (number, of), unit_images=2, **more)


def sealed(stub):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "Embedding", lambda *_: stub)
        return shards.seal(OUT)


def test_shards_on_machines_of_their_own_are_sealed_by_another(
    bucket, make_stub, machine, whole, tmp_path
):
    with pytest.raises(FeatureFileError, match=rf"^{OUT}: no shard has begun it; .* -o {OUT} --"):
        sealed(make_stub())
    parts = []
    for number in (3, 1):
        machine(f"m{number}")
        bucket.clear()
        parts.append(shard(make_stub(), number))
        assert not [
            one
            for one in bucket.asked()
            if one.startswith(f"GET {KEY}.units/") and "shards.json" not in one
        ]
    machine("m2")
    with pytest.raises(
        FeatureFileError, match=rf"^{OUT}: .* of 18 images .* of the shard 2/3; run"
    ):
        sealed(make_stub())
    parts.append(shard(make_stub(), 2, workers=1))
    assert [part.embedded for part in parts] == [part.images for part in parts]
    machine("m1")
    bucket.clear()
    assert shard(make_stub(), 1).embedded == 0  # on a machine that has it no more
    mine = [key for key in unit_keys(bucket) if "/1-of-3/" in key]
    assert mine
    assert all(f"GET {key}" in bucket.asked() for key in mine)
    assert not [one for one in bucket.asked() if one.startswith("GET") and "/2-of-3/" in one]
    machine("another")
    store = sealed(make_stub())
    assert (store.content_digest, store.summary.embedded, store.name) == (whole, 0, OUT)
    assert made(bucket) == [KEY]
    with pytest.raises(FeatureFileError, match=rf"^{OUT}: it is sealed already"):
        sealed(make_stub())
    left = [
        path for name in ("m1", "m3", "another") for path in (tmp_path / "caches" / name).rglob("*")
    ]
    assert {path.name for path in left if path.is_file()} <= {"pets.h5", "pets.h5.json", ".there"}


def test_shards_that_are_asked_otherwise_are_refused_on_any_machine(bucket, make_stub, machine):
    shard(make_stub(), 1)
    machine("second")
    before = bucket.names()
    with pytest.raises(
        WrongUsage,
        match=rf"^{OUT}: its first shard was asked with of 3, .* {OUT}\.units/shards.json to",
    ):
        shard(make_stub(), 2, of=4)
    with pytest.raises(WrongUsage, match="asked with source"):
        shard(make_stub(), 2, source="s3://photos/in/red")
    assert bucket.names() == before


def test_a_run_without_shards_takes_over_from_them(bucket, make_stub, machine, whole):
    did = shard(make_stub(), 1)
    machine("second")
    store = embed(make_stub())
    assert store.summary.embedded == 18 - did.embedded
    assert store.content_digest == whole
    assert made(bucket) == [KEY]


def test_shards_at_once_on_one_machine_end_in_one_file(bucket, make_stub, whole):
    stubs = {number: make_stub() for number in (1, 2, 3)}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as threads:
        patch.setattr(shards, "Embedding", lambda *_: make_stub())
        run = functools.partial(shards.extract_shard, "s3://photos/in", OUT, unit_images=2)
        parts = list(threads.map(run, [(number, 3) for number in stubs]))
    assert sum(part.embedded for part in parts) == 18
    assert sealed(make_stub()).content_digest == whole


def test_shards_leave_no_folder_where_there_are_folders(photos, make_stub, machine, whole):
    import fsspec

    out = "memory://shard-test/pets.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "Embedding", lambda *_: make_stub())
        for number in (1, 2):
            machine(f"m{number}")
            shards.extract_shard(photos, out, (number, 2))
        machine("m3")
        assert shards.seal(out).content_digest == whole
    files = fsspec.filesystem("memory")
    assert files.ls("/shard-test", detail=False) == ["/shard-test/pets.h5"]
    files.rm("/shard-test", recursive=True)


def test_fresh_replaces_a_feature_file_and_nothing_else(bucket, make_stub):
    embed(make_stub())
    other = make_stub(dtype="float16")
    with pytest.raises(HeadstartError, match=rf"^{OUT} does not fit"):
        embed(other)
    assert embed(other, fresh=True).summary.embedded == 18
    bucket.put("in/notes.h5", b"something else")
    with pytest.raises(FeatureFileError, match="is not a feature file, so --fresh does not"):
        embed(other, "s3://photos/in/notes.h5", fresh=True)
    assert bucket.get("in/notes.h5") == b"something else"


def test_predictions_keep_their_features_there_too(bucket, stub, stand_in):
    from headstart.classify import train

    store = embed(stub)
    head = train(FeatureStore(OUT))
    stand_in("apply.predict")
    predicted = predict(head, "s3://photos/in/red", features="s3://photos/made/kept.h5")
    assert len(predicted) == 9
    assert predicted.features == "s3://photos/made/kept.h5"
    assert len(FeatureStore("s3://photos/made/kept.h5")) == 9
    assert predict(head, OUT).ranked == predict(head, store).ranked


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s3://nobody/pets.h5", "no such bucket"),
        ("s3:///pets.h5", "names no bucket; a file in one is s3://bucket"),
        ("https://host/pets.h5", "nothing can be written there"),
        ("zip://pets.h5::s3://photos/a.zip", "nothing can be written there"),
        ("s3://photos/made/", "is a folder"),
        ("nfs5://x/pets.h5", "nfs5:// is no protocol that is known"),
    ],
)
def test_where_nothing_can_be_written_is_refused_before_any_work(bucket, stub, out, said):
    with pytest.raises(HeadstartError, match=said) as refused:
        embed(stub, out)
    assert str(refused.value).startswith(out)
    assert "\n" not in str(refused.value)
    assert stub.engine.images == 0


def test_a_url_that_became_a_path_is_told(stub, photos):
    with pytest.raises(FeatureFileError, match=r"^s3:/photos/pets.h5: .*give that as text"):
        embed(stub, Path(OUT.replace("made/", "")), photos)


def test_passwords_are_not_shown(stub, photos):
    out = "memory://me:secret@host/pets.h5"
    with pytest.raises(WrongUsage, match="write to no URL") as refused:
        embed(stub, out, photos, executor="dask:local")
    assert "secret" not in str(refused.value)


def test_credentials_that_are_refused_are_said_in_one_line(bucket, photos, cli):
    bucket.fail(any=["403 InvalidAccessKeyId"] * 99)
    line = cli("extract", photos, "-o", OUT, "--weights", "random").failure()
    assert line.startswith(f"headstart: {OUT}: access is denied (403")
    assert "check the credentials" in line


def test_credentials_that_are_missing_are_said_in_one_line(anew, bucket, stub, photos, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(FeatureFileError, match=rf"^{OUT}: no credentials were found"):
        embed(stub, source=photos)


def test_a_library_that_is_missing_is_said_with_the_command_that_installs_it(
    anew, stub, photos, monkeypatch, machine
):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    with pytest.raises(MissingExtra, match=rf'^{OUT}: .*install "headstart\[remote\]"'):
        embed(stub, source=photos)


def test_images_of_which_none_can_be_used_leave_nothing_there(bucket, stub):
    for key in [key for key in bucket.names() if key.startswith("in/")]:
        bucket.put(key, b"no image")
    with pytest.raises(SourceError, match="none of the 18 images can be used"):
        embed(stub)
    assert not made(bucket)


def test_a_server_that_fails_now_and_then_is_not_noticed(bucket, stub):
    bucket.fail_keys({KEY: ["503 SlowDown", "reset"]})
    assert embed(stub).summary.embedded == 18


def test_an_answer_to_the_upload_that_is_lost_is_no_other_run(bucket, stub):
    bucket.fail_keys({KEY: ["", "", "lost"]})  # after it was asked twice whether it is there
    assert embed(stub).summary.embedded == 18
    assert made(bucket) == [KEY]


def test_memory_is_a_place_too(stub, photos, whole, machine, interrupted_after):
    import fsspec

    out = "memory://output-test/pets.h5"
    with interrupted_after(2):
        embed(stub, out, photos)
    machine("second")
    far = embed(stub, out, photos)
    assert far.content_digest == whole
    files = fsspec.filesystem("memory")
    assert files.find("/output-test") == ["/output-test/pets.h5"]
    files.rm("/output-test", recursive=True)


COMMAND = """
import os, signal, sys, types

# Of conftest, which needs it for other tests; it takes more processor time than all else here.
sys.modules["sklearn.preprocessing"] = types.SimpleNamespace(StandardScaler=object)
from conftest import StubEmbedding
from headstart.cli import main
from headstart.extract import pipeline
from headstart.extract.work import shards
from headstart.features.journal.outputs import Output
from headstart.features.provenance.graph import Graph

pipeline.Embedding = lambda *_: StubEmbedding()
pipeline.run.__wrapped__.__kwdefaults__["unit_images"] = 2
push, count = Output.push, [0]

def counted(output, path):
    push(output, path)
    count[0] += 1
    if count[0] == int(os.environ.get("DIE_AFTER", 0)):
        os.kill(os.getpid(), signal.SIGKILL)

Output.push = counted
main(["extract", "s3://photos/in", "-o", "s3://photos/made/pets.h5", "--json"])
"""


def started(**more):
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", COMMAND], env=environment, **pipes)


def test_a_killed_run_goes_on_on_another_machine(bucket, stub, whole, machine):
    killed = started(DIE_AFTER="3")
    _, told = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, told
    machine("second")
    resumed = embed(stub)
    assert resumed.summary.embedded <= 18 - 3 * 2
    assert resumed.content_digest == whole
    assert made(bucket) == [KEY]


def test_two_processes_at_once_end_in_one_file_and_lose_nothing(bucket, stub, tmp_path, whole):
    both = [started(HEADSTART_CACHE=str(tmp_path / name)) for name in "ab"]
    told = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    assert FeatureStore(OUT).content_digest == whole
    assert embed(stub).summary.embedded == 0
    assert made(bucket) == [KEY]


def test_moto_sees_the_same(photos, stub, monkeypatch, machine, whole, interrupted_after):
    """Another server, which knows nothing of this project."""
    threaded = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    threaded.start()
    try:
        _, port = threaded.get_host_and_port()
        for name, value in s3.Server(port).environment().items():
            monkeypatch.setenv(name, value)
        import fsspec

        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("moto-made")
        out = "s3://moto-made/pets.h5"
        with interrupted_after(2):
            embed(stub, out, photos)
        machine("second")
        far = embed(stub, out, photos)
        assert far.summary.embedded in (8, 10)
        assert far.content_digest == whole
        files.invalidate_cache()
        assert files.find("moto-made") == ["moto-made/pets.h5"]
        with pytest.raises(HeadstartError, match="no such bucket"):
            embed(stub, "s3://moto-nothing/pets.h5", photos)
    finally:
        threaded.stop()
