"""Workers of a cluster that publish at a URL, on an S3 server of this machine; a stand-in backbone.

Those of Dask have a cache of their own, as on another machine.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import pytest
from headstart.extract import pipeline
from headstart.extract.backbones.request import Request
from headstart.extract.backbones.weights import QUANTISED, WeightsSource
from headstart.extract.engines import int8
from headstart.extract.work import summary, unit
from headstart.extract.work.clusters import there
from headstart.features import FeatureFileError, FeatureStore, HeadstartError, child, verify
from headstart.features.durable.remote import failures
from headstart.features.journal import graphs, units
from headstart.features.journal.direct import Direct, given_out
from headstart.features.journal.outputs import Output
from headstart.features.provenance.graph import Graph

sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("s3fs")
pytestmark = pytest.mark.usefixtures("opened_once")
OUT = "s3://photos/made/pets.h5"
KEY = "made/pets.h5"
IMAGES = 18

run = functools.partial(pipeline.run, unit_images=3)


@pytest.fixture(scope="module", autouse=True)
def _environment(served):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def _here(monkeypatch, send_whole):
    """Be quick, and send workers what they cannot import."""
    monkeypatch.setattr(failures, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)
    send_whole(__name__)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Be another machine: one with a cache of its own."""

    def be(name: str) -> None:
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "caches" / name))

    be("first")
    return be


@pytest.fixture
def bucket(served, machine):
    served.reset()
    served.clear()
    return served


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The cache of the workers."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def client(_environment, elsewhere):
    """Of a cluster of two worker processes."""
    how = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(elsewhere))
        cluster = distributed.LocalCluster(dashboard_address=None, silence_logs=100, **how)
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def photos(tmp_path_factory, fill_photos):
    """No test changes them."""
    return fill_photos(tmp_path_factory.mktemp("photos") / "photos", count=IMAGES // 2)


def made(bucket):
    return [key for key in bucket.names() if key.startswith("made/")]


def of_units(bucket, method):
    """How often each unit was written, or read."""
    begins, asked = f"{method} {KEY}.units/", bucket.asked()
    return [asked[one] for one in asked if one.startswith(begins) and one.endswith(".h5")]


def test_workers_elsewhere_write_to_the_url_and_keep_nothing(
    bucket, client, photos, make_stub, expected, elsewhere
):
    stub = make_stub()
    store = run(stub, photos, OUT, executor=client)
    assert stub.loads == 0
    assert (store.content_digest, store.summary.embedded) == (expected, IMAGES)
    assert verify(OUT) == []
    assert made(bucket) == [KEY]
    assert of_units(bucket, "PUT") == of_units(bucket, "GET") == [1] * 6
    files = {path.name for path in elsewhere.rglob("*") if path.is_file()}
    assert files <= {"pets.h5", "pets.h5.json"}  # a sealed file that another test reads there


@pytest.mark.parametrize("replaced", [False, True])
def test_what_is_sealed_is_known_to_workers_elsewhere_unless_it_was_replaced(
    bucket, client, make_stub, write_image, fill_photos, tmp_path, monkeypatch, replaced
):
    photos = fill_photos(tmp_path / "photos")
    run(make_stub(), photos, OUT)
    (photos / "blue" / "blue00.png").rename(photos / "blue" / "renamed.png")
    write_image(photos / "blue" / "new.png", 4711)
    if replaced:
        monkeypatch.setattr(
            sys.modules["headstart.extract.work.clusters.crew"],
            "given_out",
            lambda output: dataclasses.replace(given_out(output), began_with=None),
        )
    store = run(make_stub(), photos, OUT, executor=client)
    assert store.summary.embedded == (2 if replaced else 1)
    assert store.content_digest == run(make_stub(), photos, tmp_path / "near.h5").content_digest
    assert made(bucket) == [KEY]


def test_a_sealed_file_that_is_another_by_now_is_not_taken(bucket, photos, make_stub, machine):
    run(make_stub(), photos, OUT)
    output = Output.of(OUT)
    output.begin()
    worker = given_out(output)
    machine("second")
    assert worker.take_sealed()
    assert len(FeatureStore(worker.path)) == IMAGES
    bucket.put(KEY, b"another")
    assert not worker.take_sealed()


def test_an_interrupted_run_goes_on_from_the_url_on_another_machine(
    bucket, client, photos, make_stub, expected, machine, monkeypatch
):
    add, heard = summary.Found.add, []

    def interrupted(found, done, stats):
        heard.append(done)
        if len(heard) == 3:
            raise KeyboardInterrupt
        add(found, done, stats)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="is kept, and the"):
        patch.setattr(summary.Found, "add", interrupted)
        run(make_stub(), photos, OUT, executor=client)
    machine("second")
    store = run(make_stub(), photos, OUT, executor=client)
    assert store.content_digest == expected
    assert store.summary.reused >= 3 * 3
    assert made(bucket) == [KEY]


def test_a_unit_of_which_the_news_got_lost_is_found_at_the_url(
    bucket, client, photos, make_stub, expected, lossy
):
    lossy(client, times=3)
    store = run(make_stub(), photos, OUT, executor=client)
    assert store.content_digest == expected
    assert of_units(bucket, "PUT") == [1] * 6


def test_threads_of_the_machine_of_the_run_will_do(bucket, threads, photos, make_stub, expected):
    assert run(make_stub(), photos, OUT, executor=threads).content_digest == expected
    assert not there._runs
    assert made(bucket) == [KEY]


def test_a_worker_that_cannot_write_there_is_one_line_before_any_work(
    bucket, threads, photos, stub
):
    bucket.fail_keys({f"{KEY}.units/rights.try": ["", "403 AccessDenied"]})  # the run may
    with pytest.raises(
        HeadstartError, match=rf"^worker .* \(process \d+\): {OUT}: access is denied .*rights"
    ) as it:
        run(stub, photos, OUT, executor=threads)
    assert "\n" not in str(it.value)
    assert (stub.loads, made(bucket)) == (0, [])


@pytest.mark.parametrize(
    ("sealed", "said"),
    [
        (
            False,
            "a unit that the worker process .* is not there; does the environment of",
        ),
        (True, "another run sealed it while this one was at work"),
    ],
)
def test_a_unit_that_is_not_there_is_one_line(
    bucket, threads, photos, make_stub, monkeypatch, sealed, said
):
    def publish(_, *made):
        if sealed:
            bucket.put(KEY, b"of another run")
        return units.packed(*made)[0]

    monkeypatch.setattr(Direct, "publish", publish)
    with pytest.raises(FeatureFileError, match=rf"^{OUT}: .*{said}") as it:
        run(make_stub(), photos, OUT, executor=threads)
    assert "\n" not in str(it.value)


def test_an_empty_unit_is_read_as_what_it_is(bucket):
    bucket.put(f"{KEY}.units/empty", b"")
    assert Output.of(OUT).server.read(f"{units.ENDING}/empty") == b""


def test_a_unit_that_came_after_the_last_listing_is_found(bucket):
    output, name = Output.of(OUT), f"{'0' * 32}.h5"
    bucket.put(f"{KEY}.units/{'1' * 32}.h5", b"of the listing")
    output.begin()
    assert not output.take(name)
    bucket.put(f"{KEY}.units/{name}", b"later")
    assert output.take(name)


def test_workers_elsewhere_have_the_quantised_backbone_from_the_url(bucket, machine):
    graph = Graph(b"<net/>" * 9, bytes(range(256)), {"backbone": "VGG16", "size": 32})
    output = Output.of(OUT)
    output.begin()
    graphs.keep(output.path, graph)
    given_out(output)
    machine("second")
    request = Request.checked(backbone="VGG16", weights="random", size=32, precision="int8")
    of_graph = WeightsSource(QUANTISED, OUT, graph.digest)
    assert int8.graph_of(dataclasses.replace(request, weights=of_graph)).xml == graph.xml
    no_graph = WeightsSource(QUANTISED, OUT, "0" * 64)
    with pytest.raises(HeadstartError, match=rf"^{OUT}: no such file"):
        int8.graph_of(dataclasses.replace(request, weights=no_graph))


def test_a_run_that_is_over_is_not_begun_again_and_makes_room(tmp_path):
    class Backbone:
        closed = 0

        def close(self, *, at_once):
            self.closed += 1

    with there._counted("old", tmp_path, ""):
        unit.workers["old"] = backbone = Backbone()
    with there._counted("other", tmp_path, ""):
        assert not backbone.closed
    with pytest.raises(HeadstartError, match="the run that this was given out for is over"):
        there.call(there.version(), str(tmp_path), "", "old", b"", ("old",))
    with there._counted("other", tmp_path, ""):
        assert backbone.closed == 1
    there._runs.clear()
