"""Images on servers: an S3 server on loopback, moto as the oracle, pages of the web, and memory."""

from __future__ import annotations

import http.server
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from headstart.extract import pipeline
from headstart.extract.backbones.request import Request
from headstart.extract.sources import local
from headstart.extract.sources.image import Unreadable
from headstart.extract.sources.remote import reader, retry
from headstart.extract.sources.remote import scan as remote
from headstart.extract.sources.remote.reference import RemotePlace
from headstart.extract.sources.remote.store import Store
from headstart.extract.work import readahead
from headstart.extract.work.threads import Threads
from headstart.features.durable.remote import failures
from headstart.features.durable.remote.system import stamp_of
from headstart.features.durable.remote.url import is_remote, public
from headstart.features.errors import MissingExtra, SourceError
from headstart.features.records import UNREAD

sys.path.insert(0, str(Path(__file__).parent))
import s3

pytest.importorskip("s3fs")
REQUEST = Request.checked(weights="random", size=71)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_WAIT", 0.001)


@pytest.fixture
def bucket(served, photos, monkeypatch):
    """The photos of `photos` as a bucket."""
    served.reset()
    for path in photos.rglob("*.png"):
        served.put(str(path.relative_to(photos)), path.read_bytes())
    served.clear()
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    return served


def listed(name, **columns):
    return remote.listed(name, columns)


def embed(stub, name, out, **more):
    return pipeline.run(stub, listed(name), out, unit_images=5, **more)


def look(images):
    with Threads(2, "decode") as threads:
        return list(readahead.look_ahead(images, None, REQUEST, threads))


def test_a_bucket_gives_the_rows_of_the_folder_that_it_was_filled_from(
    bucket, photos, stub, tmp_path
):
    far = embed(stub, "s3://photos", tmp_path / "far.h5")
    near = pipeline.run(stub, photos, tmp_path / "near.h5", unit_images=5)
    assert list(far.paths) == list(near.paths)
    assert list(far.labels) == list(near.labels)
    assert np.array_equal(far.features, near.features)
    assert far.keys == near.keys


def test_what_is_unchanged_by_etag_is_not_read_again(bucket, stub, tmp_path, write_image):
    embed(stub, "s3://photos", tmp_path / "pets.h5")
    bucket.clear()
    again = embed(stub, "s3://photos", tmp_path / "pets.h5")
    assert set(bucket.answered()) == {""}  # the listing
    assert again.summary.embedded == 0
    bucket.put("red/red00.png", write_image(tmp_path / "new.png", 4711).read_bytes())
    assert embed(stub, "s3://photos", tmp_path / "pets.h5").summary.embedded == 1


def test_splits_hidden_files_and_others_are_understood_as_on_this_machine(
    tmp_path, write_image, monkeypatch
):
    for number, name in enumerate(["a/train/cat/1.png", "a/test/dog/images 1/2.png"]):
        write_image(tmp_path / "there" / name, number)
    for number, name in enumerate(["a/train/dog/3.png", "a/test/cat/ä#%20 +&.png"]):
        write_image(tmp_path / "there" / name, 10 + number)
    write_image(tmp_path / "there/a/.ipynb_checkpoints/1.png", 20)
    write_image(tmp_path / "there/a/.ipynb_checkpoints/2.png", 21)
    (tmp_path / "there/a/notes.psd").write_bytes(b"x")
    write_image(tmp_path / "there/a/test/top.png", 22)
    with s3.serving(tmp_path / "there") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        far, near = listed("s3://photos/a/"), local.folder(os.fsencode(tmp_path / "there/a"))
        assert [(i.path, i.label, i.split) for i in far] == [
            (i.path, i.label, i.split) for i in near
        ]
        assert far.passed_over == near.passed_over
        assert far.notes == near.notes
        assert [one.read()[0] for one in far] == [one.read()[0] for one in near]


def test_a_folder_is_not_what_only_begins_with_its_name(bucket, tmp_path, write_image):
    bucket.put("red2/1.png", b"x")
    assert {one.label for one in listed("s3://photos/red")} == {None}
    assert listed("s3://photos/red/").name == listed("s3://photos/red").name == "s3://photos/red"
    assert len(listed("s3://photos/red")) == 9


@pytest.mark.parametrize("fault", ["503 SlowDown", "500 InternalError", "429 Slow", "reset", "cut"])
def test_a_fault_that_passes_is_not_noticed(bucket, fault):
    images = listed("s3://photos/red")
    bucket.fail(any=[fault] * 3)
    assert [looked.file.reason for looked in look(images)] == [""] * 9


@pytest.mark.parametrize("fault", ["503 SlowDown", "reset", "cut"])
def test_a_fault_that_stays_skips_one_image_until_the_next_run(bucket, stub, tmp_path, fault):
    bucket.fail_keys({"red/red03.png": [fault] * 100})
    store = embed(stub, "s3://photos", tmp_path / "pets.h5")
    (skipped,) = store.skipped_files
    assert skipped.path == b"red/red03.png"
    assert skipped.digest == UNREAD
    assert f"after {retry.TRIES} tries" in skipped.reason
    assert skipped.reason.endswith(retry.AGAIN)
    bucket.fail()
    bucket.clear()
    whole = embed(stub, "s3://photos", tmp_path / "pets.h5")
    assert not whole.skipped_files
    assert set(bucket.answered()) == {"", "red/red03.png"}


def test_a_server_that_is_gone_is_not_waited_for_by_every_image(bucket, monkeypatch):
    monkeypatch.setattr(reader, "AT_A_TIME", 4)
    images = listed("s3://photos")
    bucket.fail(any=["503 SlowDown"] * 1000)
    assert all(looked.file.reason.endswith(retry.AGAIN) for looked in look(images))
    bucket.clear()
    assert all(looked.file.reason.endswith(retry.AGAIN) for looked in look(images))
    assert set(bucket.answered().values()) == {1}
    bucket.fail()
    assert all(looked.file.reason == "" for looked in look(images))


@pytest.mark.parametrize(
    ("fault", "said"),
    [("403 AccessDenied", "access is denied (403"), ("404 NoSuchKey", "it is not there (404")],
)
def test_a_fault_that_does_not_pass_is_not_tried_again(bucket, fault, said):
    (image,) = listed("S3://photos/red/red03.png")
    bucket.clear()
    bucket.fail_keys({"red/red03.png": [fault] * 100})
    with pytest.raises(Unreadable) as caught:
        image.read()
    assert said in str(caught.value)
    assert retry.AGAIN not in str(caught.value)
    assert bucket.answered()["red/red03.png"] == 2  # by its address, and by s3fs itself


def test_what_has_changed_since_it_was_listed_is_not_taken_for_what_was_listed(bucket):
    images = listed("s3://photos/red")
    whole, _ = images[0].read()
    for other in (whole + b"more", whole[:-4], b""):
        bucket.put("red/red00.png", other)
        with pytest.raises(Unreadable, match="changed since it was listed"):
            images[0].read()


def test_a_file_that_is_too_large_is_not_read(bucket, monkeypatch):
    monkeypatch.setattr("headstart.extract.sources.remote.reference.MAX_BYTES", 100)
    images = listed("s3://photos/red")
    bucket.clear()
    assert all("larger than" in looked.file.reason for looked in look(images))
    assert not bucket.answered()


def test_images_come_in_order_though_one_is_late(bucket):
    images = listed("s3://photos")
    bucket.fail_keys({"blue/blue00.png": ["503 SlowDown"] * 3})
    assert [looked.file.path for looked in look(images)] == [image.path for image in images]


def test_no_more_bytes_are_ahead_than_allowed_but_for_one_image(bucket, monkeypatch):
    monkeypatch.setattr(readahead, "FAR_BYTES", 1)
    bucket.clear()
    assert len(look(listed("s3://photos"))) == 18
    assert bucket.most() <= 2


def test_references_pickle_small_and_read_themselves_elsewhere(bucket, photos):
    images = listed("s3://photos")
    sent = pickle.dumps(list(images))
    assert len(sent) < 250 * len(images)
    program = (
        "import pickle, sys\nfor one in pickle.load(sys.stdin.buffer): print(one.digest().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], input=sent, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [
        image.digest().hex() for image in local.folder(os.fsencode(photos))
    ]
    assert done.stderr == b""


def test_a_list_costs_one_listing_and_finds_ids_by_their_stems(bucket):
    ids = [f"red{number:02}" for number in range(9)]
    bucket.put(
        "labels.csv", ("id,breed,group\n" + "".join(f"{one},x,{one}\n" for one in ids)).encode()
    )
    bucket.clear()
    images = listed("s3://photos/labels.csv")
    assert [image.path for image in images] == [f"red/{one}.png".encode() for one in ids]
    assert {image.label for image in images} == {"x"}
    assert [image.group for image in images] == ids
    assert bucket.answered()[""] == 1
    assert set(bucket.answered()) == {"", "labels.csv"}


def test_a_list_names_what_is_not_there_and_what_may_be_two(bucket):
    bucket.put("some.csv", b"path\nred/red00.png\nred/red01.png\nred/no.png\n")
    images = listed("s3://photos/some.csv")
    assert [image.exists() for image in images] == [True, True, False]
    assert "1 of 3 images listed are not there" in images.notes[0]
    bucket.put("none.csv", b"path\nelsewhere/red00.png\n")
    with pytest.raises(SourceError, match=r"s3://photos/none.csv: 1 of 1 .* s3://photos/, and"):
        listed("s3://photos/none.csv")
    bucket.put("blue/red00.png", b"x")
    bucket.put("two.csv", b"id\nred00\n")
    with pytest.raises(SourceError, match=r"line 2, column 'id': 'red00' may be s3://photos/blue"):
        listed("s3://photos/two.csv")


def test_an_address_signed_here_is_the_one_that_s3fs_signs(bucket):
    for number, key in enumerate(
        ["a b/ä+&=%.png", "x/../y.png", "a//b.png", "~/'(1)*.png", "日本.png"]
    ):
        bucket.put(key, b"%d" % number)
    reader = Store("s3://photos")._reader()

    async def addresses(key):
        made = await reader._addresses.of(f"photos/{key}")
        pattern = reader._addresses._patterns["photos"]
        return made, pattern.address(key), await reader.fs._url(f"photos/{key}", expires=3600)

    from fsspec.asyn import sync

    for key in [
        "red/red00.png",
        "a b/ä+&=%.png",
        "x/../y.png",
        "a//b.png",
        "~/'(1)*.png",
        "日本.png",
    ]:
        made, patterned, theirs = sync(reader.fs.loop, addresses, key)
        assert made == patterned
        without = [one.partition("&X-Amz-Date=")[0] for one in (made, theirs)]
        assert without[0] == without[1]
    assert reader._signed


def test_what_cannot_be_read_by_a_signed_address_is_read_by_s3fs(bucket, monkeypatch):
    images = listed("s3://photos/red")

    async def wrong(addresses, path):
        return f"{bucket.url}/no/{path}"

    monkeypatch.setattr("headstart.extract.sources.remote.signed.Addresses.of", wrong)
    assert [looked.file.reason for looked in look(images)] == [""] * 9
    assert not images[0].store._reader()._signed


def test_an_interrupted_run_goes_on_to_the_file_of_an_uninterrupted_one(
    bucket, stub, tmp_path, interrupted_after
):
    with interrupted_after(2):
        embed(stub, "s3://photos", tmp_path / "killed.h5")
    bucket.clear()
    killed = embed(stub, "s3://photos", tmp_path / "killed.h5")
    assert sum(bucket.answered().values()) < 18
    whole = embed(stub, "s3://photos", tmp_path / "whole.h5")
    assert killed.content_digest == whole.content_digest


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches it off
from conftest import StubEmbedding
from headstart.cli import main
from headstart.extract import pipeline

pipeline.Embedding = lambda *_: StubEmbedding()
pipeline.run.__wrapped__.__kwdefaults__["unit_images"] = 4
if __name__ == "__main__":
    main(["extract", "s3://photos", "-o", "pets.h5"])
"""


def test_ctrl_c_ends_a_run_at_once_though_answers_are_waited_for(bucket, tmp_path):
    from headstart.features.journal import units

    (tmp_path / "command.py").write_text(COMMAND)
    bucket.fail_keys({f"red/red0{number}.png": ["hang"] * 9 for number in range(9)})
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "command.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = units.folder_of(tmp_path / "pets.h5")
    try:
        while len(list(folder.glob("*.h5"))) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)  # far less than what an answer is waited for
    finally:
        process.kill()
    assert process.returncode == 130
    lines = [line for line in told.splitlines() if line and "%" not in line and "it/s" not in line]
    assert not [
        line for line in lines if "Traceback" in line or "nclosed" in line or "Task" in line
    ]
    assert len(list(folder.glob("*.h5"))) >= 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("s3://nothing-there/cats", "no such bucket, folder or file (404)"),
        ("s3://photos/nowhere", "there is nothing below this address"),
        ("s3://photos/no.png", "no such bucket, folder or file (404)"),
        ("s3://photos/no.csv", "no such bucket, folder or file (404)"),
        ("nfs5://x/y", "nfs5:// is no protocol that is known"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(bucket, name, said):
    with pytest.raises(SourceError) as caught:
        listed(name)
    assert str(caught.value).startswith(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rights_that_are_missing_and_servers_that_are_down_are_said_in_one_line(
    bucket, monkeypatch
):
    bucket.fail(any=["403 AccessDenied"] * 50)
    with pytest.raises(SourceError, match=r"s3://photos: access is denied \(403.*credentials"):
        listed("s3://photos")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"s3://photos/: not reached: .*run the same command"):
        listed("s3://photos/")


def test_credentials_that_are_missing_are_said_in_one_line(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SourceError, match=r"s3://photos//: no credentials were found"):
        listed("s3://photos//")


def test_a_library_that_is_missing_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    with pytest.raises(MissingExtra, match=r'install "headstart\[remote\]"'):
        listed("s3://photos/without/the/library")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.registry", None)
    with pytest.raises(MissingExtra, match=r'install "headstart\[remote\]"'):
        listed("s3://photos/without/fsspec")


@pytest.fixture
def web(photos):
    """The photos of `photos` on a web server that lists its folders."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(photos))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_that_link_to_images_are_a_folder(web, photos, write_image):
    write_image(photos / "red" / "a b & ü#.png", 77)
    write_image(photos / ".hidden" / "1.png", 78)
    far, near = listed(web), local.folder(os.fsencode(photos))
    assert [(i.path, i.label) for i in far] == [(i.path, i.label) for i in near]
    assert [one.read()[0] for one in far] == [one.read()[0] for one in near]
    assert [one.stat() for one in listed(web)] == [one.stat() for one in far]
    assert not far.notes


def test_one_image_and_a_list_on_the_web_need_no_listing(web, photos):
    (image,) = listed(f"{web}/red/red00.png?X-Amz-Signature=secret")
    assert image.path == f"{web}/red/red00.png".encode()
    assert image.read()[0] == (photos / "red/red00.png").read_bytes()
    rows = f"path,label,group\nred/red00.png,a,x\n{web}/blue/blue00.png,b,y\nred/none.png,c,\n"
    (photos / "list.csv").write_text(rows)
    images = listed(f"{web}/list.csv")
    assert [image.path for image in images] == [
        b"red/red00.png",
        b"blue/blue00.png",
        b"red/none.png",
    ]
    assert [image.exists() for image in images] == [True, True, False]
    assert [image.group for image in images] == ["x", "y", None]
    assert images[1].read()[0] == (photos / "blue/blue00.png").read_bytes()
    with pytest.raises(SourceError, match=r"no.png: there is no such .*\(404\)"):
        listed(f"{web}/red/no.png")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_server_that_sends_only_whole_files_is_refused_before_it_sends_one(
    web, photos, tmp_path, suffix
):
    with zipfile.ZipFile(photos / "small.zip", "w") as archive:
        archive.write(photos / "red/red00.png", "red/red00.png")
    assert len(listed(f"{web}/small.zip")) == 1  # one block, so no part of it is asked for
    (photos / f"large{suffix}").write_bytes(os.urandom(1 << 25))
    tracemalloc.start()
    with pytest.raises(SourceError) as refused:
        listed(f"{web}/large{suffix}")
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()
    assert str(refused.value).startswith(f"{web}/large{suffix}: the server sends files only as a ")
    assert str(refused.value).endswith("download it")
    assert "\n" not in str(refused.value)


def test_archives_are_given_by_their_urls_too(bucket, photos, tmp_path):
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(photos / "red/red00.png", "red/1.png")
        bucket.put(f"packed/{split}-0.zip", (tmp_path / "a.zip").read_bytes())
    images = remote.files(["s3://photos/packed/train-0.zip", "s3://photos/packed/test-0.zip"])
    assert images.name == "s3://photos/packed"
    assert {image.path: (image.label, image.split) for image in images} == {
        b"train-0.zip/red/1.png": ("red", "train"),
        b"test-0.zip/red/1.png": ("red", "test"),
    }
    with pytest.raises(SourceError, match="only images, or only archives"):
        remote.files(["s3://photos/red/red01.png", "s3://photos/packed/train-0.zip"])


def test_a_page_of_a_listing_is_tried_a_few_times_by_one_library_only(bucket, monkeypatch):
    import botocore.retryhandler

    monkeypatch.setattr(botocore.retryhandler, "delay_exponential", lambda *_, **__: 0.001)
    bucket.fail_keys({"": ["503 SlowDown"] * 3})
    assert len(listed("s3://photos")) == 18
    bucket.clear()
    bucket.fail_keys({"": ["503 SlowDown"] * 99})
    with pytest.raises(SourceError, match=r"not reached: .*503"):
        listed("s3://photos")
    assert 3 <= bucket.answered()[""] <= 6
    bucket.fail_keys({})


def test_several_images_are_given_by_their_urls_and_nothing_else_is(bucket):
    names = ["s3://photos/red/red01.png", "s3://photos/blue/blue00.png"]
    images = remote.files(names)
    assert [image.path for image in images] == [name.encode() for name in names]
    assert all(looked.file.reason == "" for looked in look(images))
    with pytest.raises(SourceError, match="is given twice"):
        remote.files([*names, names[0]])
    with pytest.raises(SourceError, match="s3://photos/red: not an image by its name"):
        remote.files([*names, "s3://photos/red"])


def test_memory_is_a_folder_too(photos):
    import fsspec

    files = fsspec.filesystem("memory")
    files.put(str(photos), "/remote-test", recursive=True)
    images = listed("memory://remote-test")
    assert len(images) == 18
    assert all(looked.file.reason == "" for looked in look(images))
    files.rm("/remote-test", recursive=True)


def test_urls_may_be_chained(bucket, photos, tmp_path):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", photos))
    bucket.put("packed.zip", packed.read_bytes())
    images = listed("zip://::s3://photos/packed.zip")
    assert [(one.path, one.label) for one in images] == [
        (one.path, one.label) for one in local.folder(os.fsencode(photos))
    ]
    assert all(looked.file.reason == "" for looked in look(images))
    (image,) = listed("zip://red/red00.png::s3://photos/packed.zip")
    assert image.read()[0] == (photos / "red/red00.png").read_bytes()


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_is_read_where_it_lies(bucket, photos, tmp_path, kind):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, photos))
    bucket.put(packed.name, packed.read_bytes())
    images, near = listed(f"s3://photos/{packed.name}"), local.folder(os.fsencode(photos))
    assert sorted((one.label, one.digest()) for one in images) == sorted(
        (one.label, one.digest()) for one in near
    )
    assert all(looked.file.reason == "" for looked in look(images))
    with pytest.raises(SourceError, match=r"no\.[a-z.]+: there is no such"):
        listed("s3://photos/no" + "".join(packed.suffixes))


def test_a_place_reads_as_a_file_does(bucket):
    data = np.random.default_rng(0).bytes(1_500_000)
    bucket.put("some.tar", data)
    info = Store("s3://photos").listing.info("photos/some.tar")
    place = RemotePlace(
        Store("s3://photos"), "photos/some.tar", info["size"], 1, "s3://photos/some.tar"
    )
    with pickle.loads(pickle.dumps(place)).open() as file:
        assert file.read(10) == data[:10]
        file.seek(-20, os.SEEK_END)
        assert file.read() == data[-20:]
        file.seek(700_000)
        assert file.read(300_000) == data[700_000:1_000_000]
        file.seek(0)
        assert file.read() == data
    bucket.put("some.tar", data[:1000])
    with place.open() as file, pytest.raises(Unreadable, match="changed since it was listed"):
        file.seek(1_000_000)
        file.read(10)


def test_a_stamp_is_of_the_content_and_else_of_the_time():
    one = {"size": 3, "ETag": '"a"', "LastModified": 1}
    assert stamp_of(one) == stamp_of(one | {"LastModified": 2})
    assert len({stamp_of(one), stamp_of(one | {"ETag": '"b"'}), stamp_of(one | {"size": 4})}) == 3
    assert stamp_of({"size": 3, "mtime": 1}) != stamp_of({"size": 3, "mtime": 2})
    assert stamp_of({"size": 3}) == 0


def test_addresses_are_shown_without_what_is_secret():
    assert public("https://me:pass@host/x.png") == "https://host/x.png"
    assert public("https://host/x.png?sig=abc&sv=1") == "https://host/x.png"
    assert public("https://token@host/x.png") == "https://host/x.png"
    assert public("abfs://container@account/x.png") == "abfs://container@account/x.png"
    assert public("https://host/x.png?id=1") == "https://host/x.png?id=1"


def test_only_urls_are_remote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s3://b/x", "https://h/x.png", "memory://x", "zip://*.png::s3://b/x.zip"):
        assert is_remote(name)
    for name in ("photos", "/data/s3", "tfds:cats", "C:\\x", "file:///x", "a:b", "hf:x"):
        assert not is_remote(name)


def test_moto_gives_the_same_as_the_folder(photos, monkeypatch, write_image):
    """Another server, which knows nothing of this project."""
    threaded = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    threaded.start()
    try:
        _, port = threaded.get_host_and_port()
        for name, value in s3.Server(port).environment().items():
            monkeypatch.setenv(name, value)
        import fsspec

        write_image(photos / "red" / "a b+ü#?%.png", 77)
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("moto-photos")
        for path in photos.rglob("*.png"):
            files.pipe_file(f"moto-photos/in/{path.relative_to(photos)}", path.read_bytes())
        far, near = listed("s3://moto-photos/in"), local.folder(os.fsencode(photos))
        assert [(i.path, i.label) for i in far] == [(i.path, i.label) for i in near]
        assert [one.read()[0] for one in far] == [one.read()[0] for one in near]
        assert far[0].store._reader()._signed
        with pytest.raises(SourceError, match="no such bucket"):
            listed("s3://moto-nothing")
    finally:
        threaded.stop()
