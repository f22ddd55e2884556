"""Units made by the workers of Ray, where that is installed; a stand-in for the backbone."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from headstart.extract import pipeline
from headstart.extract.work import clusters
from headstart.extract.work.clusters.crew import Fate
from headstart.features import HeadstartError
from headstart.features.journal import units

ray = pytest.importorskip("ray")

FAULTS = Path(__file__).parent / "faults"
IMAGES, TEST_IMAGES = 36, 8

run = functools.partial(pipeline.run, unit_images=4)


@pytest.fixture(scope="module", autouse=True)
def _environment():
    """Of workers, which import the modules of faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAULTS)
        paths = [str(FAULTS), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        yield


@pytest.fixture(autouse=True)
def _classes_of_the_stand_in(send_whole):
    send_whole()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, fill_photos):
    return fill_photos(tmp_path_factory.mktemp("photos") / "photos", count=IMAGES // 2)


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


@pytest.fixture
def head():
    """Start a head with two cores of its own; its address."""
    from ray.cluster_utils import Cluster

    started = []

    def start() -> Cluster:
        how = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 << 20}
        started.append(Cluster(initialize_head=True, head_node_args=how))
        return started[-1]

    yield start
    ray.shutdown()
    for one in started:
        one.shutdown()


def published(out: Path) -> int:
    return len(list(units.folder_of(out).glob("*.h5")))


def lines(log: Path) -> list[tuple[int, int, int]]:
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def computed(log: Path) -> int:
    """How many images have been embedded, but for the test images of each backbone."""
    by = {(process, backbone) for process, backbone, _ in lines(log)}
    return sum(count for *_, count in lines(log)) - TEST_IMAGES * len(by)


def wait_until(condition, running=None):
    until = time.monotonic() + 120
    while not condition():
        if running is not None and running.done():
            raise AssertionError(running.result())
        assert time.monotonic() < until, "this does not come about"
        time.sleep(0.01)


def test_workers_of_ray_give_the_file_of_one_process(photos, out, make_stub, expected):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert run(make_stub(), photos, out, executor="ray:auto").content_digest == expected
        assert ray.is_initialized()  # it is another's, and left open
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_a_head_that_is_not_there_is_one_line(photos, out, make_stub, address):
    with pytest.raises(HeadstartError, match=f"--ray {address}: no Ray cluster answers") as said:
        run(make_stub(), photos, out, executor=f"ray:{address}")
    assert "\n" not in str(said.value)
    assert not units.folder_of(out).exists()


@pytest.mark.sweep
def test_an_image_that_workers_die_of_is_skipped_alone(photos, out, head, make_stub, expected):
    import dataclasses

    from headstart.extract import scan

    deadly, listing = importlib.import_module("deadly").Deadly, scan(photos)
    images = [*listing[:9], deadly(listing[9].path, listing[9].location), *listing[10:]]
    address = head().address
    with_deadly = dataclasses.replace(listing, images=images)
    store = run(make_stub(), with_deadly, out, executor=f"ray:{address}")
    assert (store.summary.embedded, store.summary.skipped) == (IMAGES - 1, 1)
    again = run(make_stub(), photos, out, executor=f"ray:{address}")
    assert (again.summary.embedded, again.content_digest) == (1, expected)


@pytest.mark.sweep
def test_the_unit_of_a_killed_worker_is_given_out_again(photos, out, head, slow, log, expected):
    address = head().address
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, slow, photos, out, executor=f"ray:{address}")
        wait_until(lambda: published(out) and len({one[0] for one in lines(log)}) == 2, running)
        os.kill(lines(log)[-1][0], signal.SIGKILL)  # it has just embedded some
        assert not running.done()
        store = running.result()
    assert store.content_digest == expected
    assert store.summary.embedded == IMAGES
    assert computed(log) <= IMAGES + 4  # the victim's, and no other


@pytest.mark.sweep
def test_a_driver_that_is_killed_goes_on_from_what_was_published(
    photos, out, head, slow, log, expected
):
    address = head().address
    conftest, script = Path(__file__).parent / "conftest.py", FAULTS / "cluster_run.py"
    command = [sys.executable, script, conftest, photos, out, "ray:auto", log]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": address})
    wait_until(lambda: published(out) >= 2 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    store = run(slow, photos, out, executor=f"ray:{address}")
    assert store.content_digest == expected
    assert store.summary.reused >= 2 * 4
    assert computed(log) <= IMAGES + 2 * 4  # one unit of each worker


@pytest.mark.sweep
def test_a_head_that_goes_away_is_one_line_and_another_one_goes_on(
    photos, out, head, slow, log, expected
):
    first = head()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, slow, photos, out, executor=f"ray:{first.address}")
        wait_until(lambda: published(out), running)
        first.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        with pytest.raises(HeadstartError, match="same command again") as said:
            running.result()
    assert "\n" not in str(said.value)
    kept = published(out)
    assert kept
    store = run(slow, photos, out, executor=f"ray:{head().address}")
    assert store.content_digest == expected
    assert store.summary.reused >= 4 * kept


@pytest.mark.sweep
def test_a_result_that_was_lost_with_its_machine_is_asked_for_again(head):
    with clusters.crew(f"ray:{head().address}") as crew:
        gone = ray.exceptions.ObjectLostError("0" * 56, None, "")
        assert crew.fate(gone) is Fate.LOST
        assert crew.fate(ray.exceptions.OwnerDiedError("0" * 56, None, "")) is Fate.LOST
