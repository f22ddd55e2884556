"""Feature files on servers: read by a copy that is checked, written on conditions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from headstart.features import FeatureStore, verify
from headstart.features.durable.remote import copies, failures, puts
from headstart.features.durable.remote.server import Server
from headstart.features.errors import FeatureFileError, HeadstartError, MissingExtra, WrongUsage

sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("s3fs")
pytestmark = pytest.mark.usefixtures("opened_once")
URL = "s3://photos/deep/pets.h5"
KEY = "deep/pets.h5"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_WAIT", 0.001)


@pytest.fixture(autouse=True)
def _own_copies(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bucket(served, monkeypatch):
    served.reset()
    served.clear()
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def sealed(make_store):
    def make(seed: int = 0) -> FeatureStore:
        features = np.random.default_rng(seed).standard_normal((12, 4))
        return make_store(features, ["a", "b"] * 6, name=f"sealed{seed}.h5")

    return make


def put(bucket, store):
    bucket.put(KEY, store.path.read_bytes())
    bucket.clear()
    return store


def gets(bucket):
    return bucket.asked().get(f"GET {KEY}", 0)


def test_a_file_in_a_bucket_reads_as_the_file_itself(bucket, sealed):
    near = put(bucket, sealed())
    far = FeatureStore(URL)
    assert np.array_equal(far.features, near.features)
    assert far.content_digest == near.content_digest
    assert far.name == far.url == URL
    assert repr(far).startswith(f"FeatureStore('{URL}'")


def test_a_copy_that_fits_is_not_fetched_again_and_one_that_does_not_is(bucket, sealed):
    put(bucket, sealed())
    FeatureStore(URL)
    fetched = gets(bucket)
    FeatureStore(URL)
    assert gets(bucket) == fetched > 0
    other = put(bucket, sealed(1))
    assert FeatureStore(URL).content_digest == other.content_digest
    copies.local(URL).write_bytes(b"somebody wrote here")
    assert FeatureStore(URL).content_digest == other.content_digest


def test_rows_that_are_not_those_that_were_sealed_are_refused_and_told_by_verify(bucket, sealed):
    import h5py

    store = sealed()
    with h5py.File(store.path, "r+") as file:
        file["features"][0] += 1
    put(bucket, store)
    for _ in range(2):
        with pytest.raises(FeatureFileError, match=rf"^{URL}: damaged: its rows are not"):
            FeatureStore(URL)
    assert any("content digest" in problem for problem in verify(URL))


def test_what_is_no_feature_file_is_named_by_its_url(bucket):
    bucket.put(KEY, b"something else")
    with pytest.raises(FeatureFileError, match=rf"^{URL}: not a headstart feature file"):
        FeatureStore(URL)


def test_a_file_that_changes_each_time_is_not_taken_for_any_of_them(bucket, sealed, monkeypatch):
    put(bucket, sealed())
    fetch = Server.fetch

    def changed(server, path):
        fetch(server, path)
        bucket.put(KEY, sealed(changed.seed).path.read_bytes())
        changed.seed += 1

    changed.seed = 1
    monkeypatch.setattr(Server, "fetch", changed)
    with pytest.raises(FeatureFileError, match="changes each time while it is fetched"):
        FeatureStore(URL)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://photos/none.h5", "no such file"),
        ("s3://nobody/pets.h5", "no such file"),
        ("nfs5://x/pets.h5", "nfs5:// is no protocol that is known"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(bucket, url, said):
    with pytest.raises(FeatureFileError) as refused:
        FeatureStore(url)
    assert str(refused.value).startswith(url)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_credentials_that_are_refused_are_said_in_one_line(bucket):
    bucket.fail(any=["403 InvalidAccessKeyId"] * 50)
    with pytest.raises(FeatureFileError, match=rf"^{URL}: access is denied \(403.*credentials"):
        FeatureStore(URL)


def test_a_library_that_is_missing_is_said_with_the_command_that_installs_it(anew, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    with pytest.raises(MissingExtra, match=rf'^{URL}: .*install "headstart\[remote\]"'):
        FeatureStore(URL)


def test_commands_take_a_url_for_a_feature_file(bucket, cli, tmp_path, sealed):
    put(bucket, sealed())
    head = tmp_path / "pets.joblib"
    assert URL in cli("info", URL).out
    assert cli("verify", URL).out == f"{URL}: sound\n"
    assert cli("train", URL, "-o", head).code == 0
    assert cli("evaluate", head, URL, "--split", "all").failure().startswith(f"headstart: {URL}: ")
    assert cli("predict", head, URL, "-o", tmp_path / "out.csv").code == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 13


def test_labels_are_not_brought_into_a_file_on_a_server(bucket, sealed):
    from headstart.pages.labelling.site import Site

    put(bucket, sealed())
    site = Site.__new__(Site)
    site.session, site.out = SimpleNamespace(store=FeatureStore(URL)), Path("labels.csv")
    with pytest.raises(WrongUsage, match=rf"^{URL}: is on a server.* labels.csv -o {URL}"):
        site._bring()


def test_other_files_are_not_written_to_servers(bucket, cli, sealed):
    store = sealed()
    line = cli("train", store.path, "-o", "s3://photos/pets.joblib").failure()
    assert "looks like a URL" in line


def test_a_file_is_created_only_where_none_is(bucket):
    server = Server.anew(URL)
    assert puts.create(server, ".units/a", b"one")
    assert not puts.create(server, ".units/a", b"two")
    assert bucket.get(f"{KEY}.units/a") == b"one"


def test_an_answer_that_is_lost_is_not_taken_for_a_failure(bucket):
    server = Server.anew(URL)
    bucket.fail_keys({f"{KEY}.units/a": ["lost"], f"{KEY}.units/b": ["503 SlowDown", "reset"]})
    assert not puts.create(server, ".units/a", b"one")  # there it is
    assert puts.create(server, ".units/b", b"one")
    assert bucket.names() == [f"{KEY}.units/a", f"{KEY}.units/b"]


@pytest.mark.parametrize("at_once", [1 << 20, 10])
def test_a_file_is_replaced_only_if_it_is_the_one_that_was_there(
    bucket, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr(puts, "_AT_ONCE", at_once)
    monkeypatch.setattr(puts, "_PART", 1000)
    server, path = Server.anew(URL), tmp_path / "new"
    data = np.random.default_rng(0).bytes(4321)
    path.write_bytes(data)
    written, etag = puts.replace(server, path, None)
    assert written
    assert bucket.get(KEY) == data
    there = server.told()
    assert there.etag == etag
    assert puts.replace(server, path, None) == (False, "")
    path.write_bytes(data * 2)
    assert puts.replace(server, path, there)[0]
    assert not puts.replace(server, path, there)[0]
    assert bucket.get(KEY) == data * 2
    assert bucket.parts() == 0


def test_a_server_that_knows_no_conditions_is_asked_before(bucket, tmp_path):
    server, path = Server.anew(URL), tmp_path / "new"
    path.write_bytes(b"new")
    bucket.fail_keys({f"{KEY}.units/a": ["501 NotImplemented"]})
    assert puts.create(server, ".units/a", b"one")
    bucket.fail_keys({f"{KEY}.units/a": ["501 NotImplemented"], KEY: ["", "501 NotImplemented"]})
    assert not puts.create(server, ".units/a", b"two")
    assert puts.replace(server, path, None)[0]
    assert bucket.get(f"{KEY}.units/a") == b"one"


def test_file_systems_without_etags_do_too(tmp_path):
    import fsspec

    url, path = "memory://put-test/pets.h5", tmp_path / "new"
    server = Server.anew(url)
    path.write_bytes(b"new")
    assert puts.create(server, ".units/a", b"one")
    assert not puts.create(server, ".units/a", b"two")
    assert puts.replace(server, path, None)[0]
    assert not puts.replace(server, path, None)[0]
    assert puts.replace(server, path, server.told())[0]
    assert server.read(".units/a") == b"one"
    assert server.names(".units") == ["a"]
    server.remove(".units/a")
    server.remove(".units/a")
    assert server.names(".units") == []
    fsspec.filesystem("memory").rm("/put-test", recursive=True)


def test_nothing_is_sent_where_something_else_is_seen_to_be(bucket, tmp_path):
    """Be it that the server would take it: there are some that look at no condition."""
    server, path = Server.anew(URL), tmp_path / "new"
    path.write_bytes(b"new")
    bucket.put(KEY, b"another's")
    there = server.told()
    bucket.put(KEY, b"yet another's")
    bucket.clear()
    assert puts.replace(server, path, there) == (False, "")
    assert puts.replace(server, path, None) == (False, "")
    assert not [one for one in bucket.asked() if one.startswith(("PUT", "POST"))]


def test_rights_to_write_are_tried_and_leave_nothing(bucket):
    puts.require_rights(Server.anew(URL), ".units")
    assert bucket.names() == []
    bucket.fail_keys({f"{KEY}.units/rights.try": ["403 AccessDenied"]})
    with pytest.raises(FeatureFileError, match=rf"^{URL}: access is denied.* the rights that"):
        puts.require_rights(Server.anew(URL), ".units")
    server = Server.anew("memory://rights-test/pets.h5")
    puts.require_rights(server, ".units")
    assert server.names(".units") == []
    server.leave(".units")


def test_a_web_server_that_tells_no_length_is_read(sealed, anew):
    import functools
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    store = sealed()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            self.send_response(200)
            self.send_header("ETag", '"one"')
            self.end_headers()  # and no Content-Length: it ends when it is closed
            if body:
                self.wfile.write(store.path.read_bytes())

        do_HEAD = functools.partialmethod(do_GET, body=False)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        far = FeatureStore(f"http://127.0.0.1:{server.server_port}/pets.h5")
        assert far.content_digest == store.content_digest
    finally:
        server.shutdown()
        server.server_close()


def test_what_was_opened_is_used_again_until_the_environment_is_another(
    bucket, sealed, anew, monkeypatch
):
    from headstart.features.durable.remote import system

    opened, count = system.opened, []
    monkeypatch.setattr(system, "opened", lambda *a, **k: count.append(1) or opened(*a, **k))
    put(bucket, sealed())
    FeatureStore(URL)
    FeatureStore(URL)
    assert len(count) == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    FeatureStore(URL)
    assert len(count) == 2
    bucket.fail(any=["403 InvalidAccessKeyId"] * 3)
    with pytest.raises(FeatureFileError, match="access is denied"):
        FeatureStore(URL)
    bucket.fail()
    FeatureStore(URL)
    assert len(count) == 3


def test_names_on_a_server_are_names_on_any_disk():
    assert copies.name_of("s3://b/pets.h5") == "pets.h5"
    assert copies.name_of("s3://b/a b:*?.h5") == "a_b___.h5"
    assert copies.name_of("s3://b/..") == "file"
    assert len(copies.name_of("s3://b/" + "x" * 500 + ".h5")) == 100


def test_a_folder_is_no_feature_file(bucket, sealed):
    put(bucket, sealed())
    with pytest.raises(HeadstartError, match="s3://photos/deep: is a folder"):
        FeatureStore("s3://photos/deep")
