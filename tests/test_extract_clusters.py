"""Units made by the workers of a cluster: a real one of Dask, with a stand-in for the backbone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import dask
import distributed
import loky
import pytest
from headstart.extract import pipeline, scan
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.work import clusters, unit
from headstart.extract.work.clusters import dask as adapter
from headstart.extract.work.clusters import dask_futures, there
from headstart.extract.work.clusters.crew import Crew, Fate, Part, ToDo
from headstart.features import FeatureFileError, FeatureStore, HeadstartError, WrongUsage, verify
from headstart.features.errors import MissingExtra, ProvenanceMismatch
from headstart.features.journal import marks, units
from headstart.features.journal.lock import exclusive
from headstart.features.journal.units import Unit

FAULTS = Path(__file__).parent / "faults"
IMAGES = 36
TEST_IMAGES = 8

run = functools.partial(pipeline.run, unit_images=4)


@pytest.fixture(scope="module", autouse=True)
def _modules_of_faults():
    """Worker processes import these; classes of this file they are sent whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAULTS)
        paths = [str(FAULTS), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield


@pytest.fixture(autouse=True)
def _classes_of_the_stand_in(send_whole):
    send_whole(__name__)


@pytest.fixture(scope="module")
def client(_modules_of_faults):
    """Of a cluster of two worker processes; one that is killed is started again."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 2}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=100,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def photos(tmp_path_factory, fill_photos):
    """No test changes them."""
    return fill_photos(tmp_path_factory.mktemp("photos") / "photos", count=IMAGES // 2)


@pytest.fixture
def own_photos(tmp_path, fill_photos):
    """The same, to be changed."""
    return fill_photos(tmp_path / "photos", count=IMAGES // 2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "embedded"


@pytest.fixture
def slow(make_stub, log):
    """A stand-in that takes its time and writes down what it embeds."""
    return importlib.import_module("cluster_run").counted(make_stub(), log)


def published(out: Path) -> int:
    return len(list(units.folder_of(out).glob("*.h5")))


def wait_until(condition, running=None):
    """Until it holds; what ends before that, and should not, is heard of."""
    until = time.monotonic() + 120
    while not condition():
        if running is not None and running.done():
            raise AssertionError(running.result())
        assert time.monotonic() < until, "this does not come about"
        time.sleep(0.01)


@contextlib.contextmanager
def meanwhile(function):
    """Have a function called in another thread; what it returns, or raises, comes at the end."""
    with ThreadPoolExecutor(1) as threads:
        yield (future := threads.submit(function))
        future.result()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def embedded(log: Path) -> dict[tuple[int, int], int]:
    """How many images each backbone of each process has embedded, but for the test images.

    Whoever was last comes last.
    """
    by: dict[tuple[int, int], int] = {}
    for line in log.read_text().splitlines():
        process, backbone, count = map(int, line.split())
        key = process, backbone
        by[key] = by.pop(key, -TEST_IMAGES) + count
    return by


def computed(log: Path) -> int:
    return sum(embedded(log).values())


def test_workers_of_a_cluster_give_the_file_of_one_process(
    own_photos, out, client, make_stub, expected
):
    (own_photos / "blue" / "page.png").write_bytes(b"<html>")
    four = make_stub()
    store = run(four, own_photos, out, executor=client.get_executor())
    assert four.loads == 0  # this process only reads
    assert store.content_digest == expected
    assert (store.summary.embedded, store.summary.skipped) == (IMAGES, 1)
    assert verify(out) == []
    assert not units.folder_of(out).exists()


def test_a_client_is_an_executor_and_known_images_are_not_given_out(
    own_photos, out, client, make_stub, write_image
):
    run(make_stub(), own_photos, out)
    write_image(own_photos / "blue" / "new.png", 1)
    summary = run(make_stub(), own_photos, out, executor=client).summary
    assert (summary.embedded, summary.reused) == (1, IMAGES)


def test_nobody_is_asked_where_nothing_is_new(photos, out, make_stub):
    run(make_stub(), photos, out)
    summary = run(make_stub(), photos, out, executor="dask:tcp://127.0.0.1:1").summary
    assert (summary.embedded, summary.reused) == (0, IMAGES)


def test_the_unit_of_a_killed_worker_is_given_out_again(photos, out, client, slow, log, expected):
    with meanwhile(lambda: run(slow, photos, out, executor=client)) as running:
        wait_until(lambda: published(out) and len(embedded(log)) == 2, running)
        victim, _ = [*embedded(log)][-1]  # it has just embedded some
        os.kill(victim, signal.SIGKILL)
        at_work = not running.done()
    store = running.result()
    assert at_work
    assert store.content_digest == expected
    assert store.summary.embedded == IMAGES
    assert computed(log) <= IMAGES + 4  # the victim's, and no other


def test_a_driver_that_is_killed_goes_on_from_what_was_published(
    photos, out, client, slow, log, expected
):
    conftest, scheduler = Path(__file__).parent / "conftest.py", client.scheduler.address
    script, where = FAULTS / "cluster_run.py", f"dask:{scheduler}"
    command = [sys.executable, script, conftest, photos, out, where, log]
    driver = subprocess.Popen(command)
    wait_until(lambda: published(out) >= 2 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    store = run(slow, photos, out, executor=client)
    assert store.content_digest == expected
    assert store.summary.reused >= 2 * 4
    assert computed(log) <= IMAGES + 2 * 4  # one unit of each worker
    assert not units.folder_of(out).exists()


@pytest.fixture
def scheduler(tmp_path):
    """Start a scheduler with workers that end with it; again, at the same address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, started = f"tcp://127.0.0.1:{port}", []

    def start(workers=2) -> tuple[str, subprocess.Popen]:
        host = ["--host", "127.0.0.1", "--no-dashboard"]
        worker = ["dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        commands = [["dask_scheduler", *host, "--port", str(port)], *[worker] * workers]
        with open(tmp_path / "cluster.log", "a") as said:
            for name, *options in commands:
                command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
                started.append(subprocess.Popen(command, stdout=said, stderr=said, cwd=tmp_path))
        wait_until(lambda: answers(port))
        return address, started[-1 - workers]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_scheduler_that_is_started_again_is_given_what_was_in_hand(
    photos, out, scheduler, slow, log, expected, caplog
):
    address, process = scheduler()
    with meanwhile(lambda: run(slow, photos, out, executor=f"dask:{address}")) as running:
        wait_until(lambda: published(out), running)
        process.kill()
        process.wait()
        scheduler()
    store = running.result()
    assert store.content_digest == expected
    assert store.summary.skipped == 0
    # One unit of each worker, and the next if it began before it was heard that all is lost.
    assert computed(log) <= IMAGES + 2 * 2 * 4
    assert "waiting up to 300 s for it and its workers" in caplog.text


def test_a_scheduler_that_stays_away_is_one_line_and_what_is_finished_is_kept(
    photos, out, scheduler, slow, make_stub, expected, monkeypatch
):
    monkeypatch.setattr(adapter, "_SECONDS_TO_RETURN", 1)
    address, process = scheduler(workers=1)
    with (
        pytest.raises(
            HeadstartError, match=r"did not come back in 1 s.*same command again"
        ) as said,
        meanwhile(lambda: run(slow, photos, out, executor=f"dask:{address}")) as running,
    ):
        wait_until(lambda: published(out), running)
        process.kill()
    assert "\n" not in str(said.value)
    kept = published(out)
    store = run(make_stub(), photos, out)
    assert store.content_digest == expected
    assert store.summary.reused >= 4 * kept > 0


def test_a_unit_of_which_the_answer_got_lost_is_not_waited_for(
    photos, out, client, slow, log, expected, lossy
):
    lossy(client, times=4)
    store = run(slow, photos, out, executor=client)
    assert store.content_digest == expected
    assert store.summary.skipped == 0
    assert computed(log) == IMAGES  # it had been published


def test_answers_that_always_get_lost_are_one_line(photos, out, client, make_stub, lossy):
    lossy(client, times=10**9)
    with pytest.raises(
        HeadstartError, match=r"got lost again and again \(Stream is closed\)"
    ) as it:
        run(make_stub(), photos, out, executor=client)
    assert "\n" not in str(it.value)


def test_what_was_given_by_an_older_connection_is_lost_though_nobody_says_so(client):
    class Silent:
        """A client that never hears of what it was given."""

        status, scheduler_comm, loop = "running", object(), client.loop

        def submit(self, *_, key):
            return key

        async def gather(self, *_, asynchronous):
            await asyncio.sleep(3600)

    silent, futures = Silent(), dask_futures.Futures()
    before = futures.submit(silent, b"")
    silent.scheduler_comm = object()
    after = futures.submit(silent, b"")
    futures.end_lost(silent)
    with pytest.raises(CancelledError, match="the connection to the scheduler was lost"):
        before.result(timeout=0)
    assert not after.done()
    silent.status = "connecting"
    futures.end_lost(silent)
    assert after.done()


class Panic(BaseException):
    """What no handler of `Exception` sees."""


def panics():
    raise Panic("of a library")


class Call:
    """A call that is made when it is unpacked."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_a_worker_that_raises_what_is_no_exception_is_heard(client):
    future = dask_futures.Futures().submit(client, cloudpickle.dumps(Call(panics)))
    with pytest.raises(RuntimeError, match="Panic: of a library"):
        future.result(timeout=60)


def test_what_was_not_done_is_dropped_at_the_scheduler(client):
    tasks = client.cluster.scheduler.tasks
    others = {*tasks}
    with clusters.crew(client) as crew:
        given = [crew.send(pickle.dumps(Call(time.sleep, 0.5))) for _ in range(8)]
        wait_until(lambda: len(tasks.keys() - others) == 8)
        for future in given:
            crew.drop(future)
    wait_until(lambda: not tasks.keys() - others)
    with pytest.raises(CancelledError):
        given[-1].result(timeout=60)


@contextlib.contextmanager
def interrupted_when(condition):
    """Ctrl-C comes to this thread as soon as it holds."""

    def wait():
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    # A shell's & switches it off.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with meanwhile(wait):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_lets_the_workers_go_and_the_next_run_goes_on(
    photos, out, client, slow, log, expected
):
    said = pytest.raises(KeyboardInterrupt, match="what is finished is kept, and the same command")
    with said, interrupted_when(lambda: published(out) >= 2):
        run(slow, photos, out, executor=client)
    assert not list(units.folder_of(out).glob("*.run"))
    wait_until(lambda: not any(client.run(runs_there).values()))
    store = run(slow, photos, out, executor=client)
    assert store.content_digest == expected
    assert store.summary.reused >= 2 * 4
    assert computed(log) <= IMAGES + 2 * 4  # one unit of each worker


def with_deadly(photos):
    """The listing, one image of which no process survives."""
    deadly, listing = importlib.import_module("deadly").Deadly, scan(photos)
    images = [*listing[:9], deadly(listing[9].path, listing[9].location), *listing[10:]]
    return dataclasses.replace(listing, images=images)


def test_an_image_that_workers_die_of_is_skipped_alone_and_tried_again_by_the_next_run(
    photos, out, client, make_stub, expected, monkeypatch
):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)  # and not 2
    listing = with_deadly(photos)
    store = run(make_stub(), listing, out, executor=client)
    assert (store.summary.embedded, store.summary.skipped) == (IMAGES - 1, 1)
    [skipped] = store.skipped
    assert skipped.path == os.fsdecode(listing[9].path)
    assert skipped.transient
    assert skipped.reason == "a process dies of decoding it; the next run tries it again"
    again = run(make_stub(), photos, out)
    assert (again.summary.embedded, again.content_digest) == (1, expected)


class _Fickle(Crew):
    """This process, where the maker of a unit with a certain image always dies."""

    def __init__(self, path, deaths, fate=Fate.DIED, met=None):
        super().__init__(ThreadPoolExecutor(2), 2)
        self.path, self.deaths, self.died_with, self.given_out = path, deaths, fate, []
        self.met = met

    def submit(self, job, part):
        self.given_out.append([one.path for one in part.references])
        if self.deaths and self.path in self.given_out[-1]:
            self.deaths -= 1
            if self.met is not None:  # other units of the process that dies do without it
                unit.workers[job.run]._met.add((self.met, 0))
                self.met = None
            future = Future()
            future.set_exception(InterruptedError())
            return future
        return super().submit(job, part)

    def fate(self, error):
        return self.died_with if isinstance(error, InterruptedError) else Fate.FAILED


@pytest.fixture
def fickle(monkeypatch, photos):
    """Have units of a run made by such a crew."""
    from headstart.extract.work import catch_up

    def put(deaths, **more):
        crew = _Fickle(scan(photos)[9].path, deaths, **more)
        made = catch_up._made
        monkeypatch.setattr(
            catch_up,
            "_made",
            lambda job, parts, _, ending, *known: made(job, parts, crew, ending, *known),
        )
        return crew

    return put


@pytest.mark.parametrize("fate", [Fate.DIED, Fate.LOST])
def test_a_unit_that_was_lost_by_chance_is_made_like_any_other(
    photos, out, make_stub, expected, fickle, fate
):
    fickle(2, fate=fate)
    assert run(make_stub(), photos, out).content_digest == expected


def test_a_unit_that_processes_die_of_whatever_is_tried_is_given_up_and_the_rest_is_sealed(
    photos, out, make_stub, fickle, expected
):
    crew = fickle(100)
    store = run(make_stub(), photos, out)
    assert (store.summary.embedded, store.summary.skipped) == (IMAGES - 4, 4)
    why = "worker processes died again and again while they were at this image and 3 others"
    assert {one.reason for one in store.skipped} == {f"{why}; the next run tries it again"}
    assert sum(crew.path in paths for paths in crew.given_out) == 6
    assert all(crew.path in paths for paths in crew.given_out[-3:])  # alone, at the end
    crew.deaths = 0
    assert run(make_stub(), photos, out).content_digest == expected


def test_what_counts_on_an_image_of_a_unit_that_is_given_up_is_embedded_all_the_same(
    photos, own_photos, out, make_stub, fickle
):
    listing = scan(own_photos)
    twin = Path(os.fsdecode(listing[-1].location))
    twin.write_bytes(Path(os.fsdecode(listing[9].location)).read_bytes())
    crew = fickle(100, met=hashlib.sha256(twin.read_bytes()).digest())
    store = run(make_stub(), own_photos, out)
    skipped = {one.path for one in store.skipped}
    assert len(skipped) == 4
    assert os.fsdecode(crew.path) in skipped
    assert os.fsdecode(listing[-1].path) in store.paths
    assert verify(out) == []


def test_work_that_always_gets_lost_does_not_go_round_for_ever(photos, out, make_stub, fickle):
    fickle(1000, fate=Fate.LOST)
    with pytest.raises(InterruptedError):
        run(make_stub(), photos, out)


def test_no_more_is_given_out_than_the_crew_can_do_and_a_few(photos):
    class Wide(Crew):
        def width(self):
            return 5

    crew, parts = Wide(None, 0), ([number] for number in range(10**9))
    todo, given = ToDo(parts), 0
    while isinstance(todo.next(given, crew), Part):
        given += 1
    assert given == 5 + crew.spare


def test_a_cluster_of_its_own_gives_the_file_of_one_process(photos, out, make_stub, expected):
    assert run(make_stub(), photos, out, executor="dask:local").content_digest == expected


def test_a_real_backbone_on_a_cluster_of_its_own_gives_the_vectors_of_one_process(
    out, cli, fill_photos
):
    photos = fill_photos(out.with_name("photos"), count=4)
    embedding = Embedding(Request.checked(backbone="MobileNetV3Small", weights="random", size=32))
    expected = pipeline.run(embedding, photos, out.with_name("one.h5")).content_digest
    how = ("--backbone", "MobileNetV3Small", "--weights", "random", "--size", "32")
    done = cli("extract", photos, "-o", out, *how, "--dask", "local")
    assert done.code == 0, done.err
    assert FeatureStore(out).content_digest == expected
    loading, *rest = done.err.splitlines()
    assert loading.startswith("loading MobileNetV3Small")
    assert loading.endswith("on a Dask cluster ...")
    assert not [line for line in rest if "of 8 images" not in line]


def test_without_a_main_guard_a_cluster_of_its_own_is_one_line(photos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"from headstart.extract import extract\n"
        f"extract({str(photos)!r}, 'out.h5', weights='random', executor='dask:local')\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode
    errors = [line for line in done.stderr.splitlines() if "Error: " in line]
    assert "under: if __name__ == '__main__':" in errors[-1]


def test_threads_will_do_and_let_the_backbone_go(photos, out, make_stub, expected):
    with ThreadPoolExecutor(2) as executor:
        assert executor.submit(int).result() == 0
        before = threading.active_count()
        assert run(make_stub(), photos, out, executor=executor).content_digest == expected
        assert threading.active_count() <= before + 1
        assert executor.submit(int).result() == 0  # it is another's, and left open
    assert not there._runs
    with pytest.raises(HeadstartError, match="takes no more work"):
        run(make_stub(), photos, out, fresh=True, executor=executor)


def test_processes_in_another_folder_find_what_is_named_relative_to_this_one(
    photos, out, make_stub, expected, monkeypatch, tmp_path
):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(photos.parent)
    name = os.path.relpath(out)
    with loky.ProcessPoolExecutor(2, initializer=os.chdir, initargs=(elsewhere,)) as executor:
        assert run(make_stub(), "photos", name, executor=executor).content_digest == expected
        # Of files that are given one by one the file has the names that were given.
        files = sorted(path.relative_to(photos.parent) for path in photos.rglob("*.png"))
        store = run(make_stub(), files, "some.h5", executor=executor)
        assert [*store.paths] == [*map(str, files)]
    Path("some.h5").unlink()
    assert not [*elsewhere.iterdir()]


def test_an_executor_that_breaks_is_one_line_and_what_is_finished_is_kept(photos, out, make_stub):
    said = pytest.raises(HeadstartError, match=r"a worker process died.*same command again")
    with loky.ProcessPoolExecutor(2) as executor, said:
        run(make_stub(), with_deadly(photos), out, executor=executor)
    assert run(make_stub(), photos, out).summary.images == IMAGES


@pytest.fixture
def odd_worker(client):
    """Have something done on one of two workers, and undone after the test."""
    address, undo = min(client.run(os.getpid)), []

    def put(module: str, name: str, value: object) -> None:
        undo.append((module, name, client.run(replaced, module, name, value, workers=[address])))

    yield put
    for module, name, before in undo:
        client.run(replaced, module, name, before[address], workers=[address])


def replaced(module, name, value):
    """Put something into a module, here; what was there."""
    names = vars(importlib.import_module(module))
    before, names[name] = names.get(name), value
    return before


def runs_there():
    """How many runs a worker works for."""
    return len(importlib.import_module("headstart.extract.work.clusters.there")._runs)


def test_a_worker_of_another_version_is_refused_before_any_work(
    photos, out, client, slow, log, odd_worker
):
    odd_worker(there.__name__, "version", lambda: "99.9")
    with pytest.raises(HeadstartError, match=r"has headstart 99\.9, and this .*; install"):
        run(slow, photos, out, executor=client)
    assert not log.exists()
    assert not units.folder_of(out).exists()


def test_a_worker_without_the_engine_is_refused_before_any_work(
    photos, out, client, slow, log, odd_worker
):
    def missing(*_):
        raise MissingExtra("the openvino engine is not installed; install it with: ...")

    odd_worker("headstart.extract.engines", "require_usable", missing)
    with pytest.raises(HeadstartError, match=r"worker .*: the openvino engine is not installed"):
        run(slow, photos, out, executor=client)
    assert not log.exists()


def test_a_worker_that_does_not_see_the_images_is_refused_before_any_work(
    photos, out, client, slow, log, odd_worker
):
    odd_worker("os.path", "lexists", lambda _: False)
    with pytest.raises(HeadstartError, match=r"worker .* does not see .*\.png; is the folder"):
        run(slow, photos, out, executor=client)
    assert not log.exists()


def test_other_libraries_of_a_worker_are_said(photos, out, client, make_stub, odd_worker, caplog):
    odd_worker(there.__name__, "libraries", lambda: {"pillow": "0.1"})
    run(make_stub(), photos, out, executor=client)
    assert "has pillow 0.1, here it is" in caplog.text
    assert "has no numpy, here it is" in caplog.text


def test_a_worker_that_computes_other_vectors_ends_the_run_and_none_of_them_is_kept(
    photos, out, client, slow, log, odd_worker, make_stub, expected
):
    odd = max(client.run(os.getpid).values())
    slow.engine = Odd(slow.engine, odd)
    with pytest.raises(ProvenanceMismatch, match=r"worker .*: the test images come out"):
        run(slow, photos, out, executor=client)
    assert len({one.origin.canary.tobytes() for one in units.verified(units.folder_of(out))}) <= 1


class Odd:
    """An engine that computes something else in one process."""

    batch = 4
    calls = 1

    def __init__(self, engine, odd):
        self.engine, self.odd = engine, odd

    def embed(self, images):
        return self.engine.embed(images) * (2 if os.getpid() == self.odd else 1)


def test_a_run_that_was_begun_by_two_workers_has_the_vectors_of_the_one_that_was_heard(
    photos, out, make_stub
):
    job = unit.Job(make_stub(), out, str(photos), False, (), None, 1)
    ours = unit.begin(job)
    try:
        theirs = dataclasses.replace(ours, canary=ours.canary * 2, name="theirs")
        begun = dataclasses.replace(job, origin=theirs, begun=True)
        with pytest.raises(ProvenanceMismatch, match="come out differently"):
            unit.make(begun, scan(photos)[:4])
    finally:
        unit.workers.pop(job.run).close()
    assert published(out) == 0


def test_a_worker_without_headstart_is_one_line(photos, out, client, make_stub):
    address = min(client.run(os.getpid))
    kept = client.run(hidden, there.__name__, workers=[address])
    try:
        with pytest.raises(HeadstartError, match="a worker has no headstart, or another") as said:
            run(make_stub(), photos, out, executor=client)
        assert "\n" not in str(said.value)
    finally:
        client.run(found_again, there.__name__, workers=[*kept])


def hidden(module):
    """Let it be as if it were not installed."""
    sys.hidden, sys.modules[module] = sys.modules.get(module), None


def found_again(module):
    """Let it be found again."""
    sys.modules[module] = sys.hidden


def test_a_worker_that_does_not_see_the_output_is_refused(tmp_path, client, make_stub):
    folder = tmp_path / "elsewhere.h5.units"
    with pytest.raises(HeadstartError, match=r"does not see .*elsewhere\.h5\.units"):
        there.call(there.version(), str(tmp_path / "elsewhere.h5"), "x.run", "run", b"")
    assert not folder.exists()


def test_a_worker_that_sees_no_image_of_a_unit_is_refused(photos, out, client, make_stub):
    listing = scan(photos)
    elsewhere = [
        dataclasses.replace(image, location=b"/nowhere" + image.location) for image in listing
    ]
    with pytest.raises(HeadstartError, match=r"sees none of the 36 images .*mounted there"):
        there.make(None, elsewhere, True, False)


def test_what_an_older_run_left_behind_is_published_no_more(tmp_path):
    out = tmp_path / "out.h5"
    with pytest.raises(marks.Unseen):
        marks.require(out, "x.run")
    with marks.Mark(out) as mark:
        marks.require(out, mark.name)
        before = mark.name
        mark.renew()  # the scheduler was away
        with pytest.raises(FeatureFileError, match="mark of this run"):
            marks.require(out, before)
        marks.require(out, mark.name)
        said = "another run has begun on this output, or this one has ended"
        with exclusive(out), pytest.raises(marks.Unmarked, match=said):
            marks.require(out, mark.name)  # another run has begun


def test_work_under_an_older_mark_is_given_out_again_and_a_mark_that_went_ends_the_run(
    out, client, tmp_path
):
    (tmp_path / "out.h5.units").mkdir()
    with clusters.crew(client) as crew, marks.Mark(out) as crew.mark:
        with pytest.raises(marks.Unmarked) as older:
            marks.require(out, "older.run")
        assert crew.fate(pickle.loads(pickle.dumps(older.value))) is Fate.LOST
        present = marks.Unmarked("gone", crew.mark.name)
        assert crew.fate(pickle.loads(pickle.dumps(present))) is Fate.FAILED


def test_runs_on_one_cluster_keep_their_backbones_until_they_are_over(tmp_path):
    class Backbone:
        closed = 0

        def close(self, *, at_once):
            self.closed += 1

    one, two, three = (tmp_path / f"{name}.h5" for name in ("one", "two", "three"))
    with marks.Mark(one) as first, marks.Mark(two) as second, marks.Mark(three) as third:
        with marks.Mark(two) as over, there._counted("over", two, over.name):
            unit.workers["over"] = gone = Backbone()
        with there._counted("first", one, first.name):
            unit.workers["first"] = kept = Backbone()
        with there._counted("second", two, second.name):
            assert (kept.closed, gone.closed) == (0, 1)
        there._runs["first"].last -= there._IDLE_SECONDS + 1
        with there._counted("third", three, third.name):
            assert (kept.closed, gone.closed) == (1, 1)
        assert not {"first", "over"} & unit.workers.keys()
    there._runs.clear()


def test_a_cluster_that_lost_its_workers_is_said_once(client, monkeypatch, caplog):
    with clusters.crew(client) as crew:
        threads = crew.width()
        monkeypatch.setattr(crew, "_workers", dict)
        monkeypatch.setattr(crew, "patience", 0)
        assert [crew.width() for _ in range(3)] == [threads] * 3
    assert caplog.text.count("has no workers; waiting for some. Start them (dask worker tcp") == 1


def test_units_that_were_there_before_are_not_read_to_find_one_whose_news_was_lost(
    out, photos, make_stub, monkeypatch, interrupted_after
):
    with interrupted_after(3):
        run(make_stub(), photos, out)
    folder, read = units.folder_of(out), []
    before = units.verified(folder)
    monkeypatch.setattr(units, "Unit", lambda path: read.append(path) or Unit(path))
    passed_over = {one.path.name for one in before[1:]}
    files = {file.path for file in before[0].files}
    assert units.of_files(folder, 1, files, passed_over).path == before[0].path
    assert units.of_files(folder, 2, files, passed_over) is None
    assert units.of_files(folder, 1, files, passed_over) is None  # of another run, as is known now
    assert read == [before[0].path] * 2


def test_two_drivers_on_one_output_are_one_too_many(photos, out, client, slow, make_stub, expected):
    with meanwhile(lambda: run(slow, photos, out, executor=client)) as running:
        wait_until(lambda: published(out), running)
        with pytest.raises(FeatureFileError, match="another run of headstart"):
            run(make_stub(), photos, out, executor=client)
        assert not running.done()
    assert running.result().content_digest == expected


def test_a_client_that_is_closed_is_wrong_usage(photos, out, client, stub):
    with distributed.Client(client.scheduler.address, set_as_default=False) as closed:
        executor = closed.get_executor()
    for given in (closed, executor):
        with pytest.raises(WrongUsage, match="is closed, and takes no more work"):
            run(stub, photos, out, executor=given)


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ("spark:local", "executor 'spark:local': use 'dask:tcp://HOST:PORT'"),
        ("dask:", "executor 'dask:': use"),
        (3, "an object with the method submit.* received int"),
    ],
)
def test_what_is_no_executor_is_wrong_usage(photos, out, stub, executor, said):
    with pytest.raises(WrongUsage, match=said):
        run(stub, photos, out, executor=executor)


def test_an_executor_and_workers_are_too_many(photos, out, cli):
    done = cli("extract", photos, "-o", out, "--dask", "local", "--workers", 2)
    assert "workers 2" in done.failure(2)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:1", "no Dask scheduler answers there"),
        ("tls://127.0.0.1:1", "name its certificates in the configuration of Dask"),
    ],
)
def test_a_scheduler_that_is_not_there_is_one_line(photos, out, cli, monkeypatch, address, said):
    monkeypatch.setattr(adapter, "_SECONDS_TO_ANSWER", 1.0)
    done = cli("extract", photos, "-o", out, "--weights", "random", "--dask", address)
    lines = [line for line in done.err.splitlines() if line.startswith("headstart: ")]
    assert done.code == 1
    assert len(lines) == 1
    assert f"--dask {address}: " in lines[0]
    assert said in lines[0]
    assert not units.folder_of(out).exists()


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, engine):
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=rf'pip install "headstart\[{engine}\]"'):
        clusters.require_usable(f"{engine}:auto")
