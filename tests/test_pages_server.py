"""The server of the labelling page: who is let in, and what is refused unread."""

import asyncio
import http.client
import json
import shutil
import socket
import threading

import numpy as np
import pytest
from headstart.extract.pipeline import run
from headstart.features.errors import HeadstartError, WrongUsage
from headstart.pages.labelling.guard import LARGEST
from headstart.pages.labelling.jobs import Jobs
from headstart.pages.labelling.journal import Journal
from headstart.pages.labelling.server import Server, application, listen
from headstart.pages.labelling.session import Session
from headstart.pages.labelling.site import Site
from headstart.pages.pictures import Pictures
from PIL import Image

PORT, TOKEN = 4242, "a" * 32
HOST = f"127.0.0.1:{PORT}"
COOKIE = f"headstart-{PORT}={TOKEN}"
READ = {"host": HOST, "cookie": COOKIE}
WRITE = READ | {
    "origin": f"http://{HOST}",
    "x-headstart": "1",
    "content-type": "application/json",
}


class Client:
    """Calls an ASGI application with exactly the headers that are given."""

    def __init__(self, app):
        self.app = app
        self.received = 0

    def ask(self, method, path, headers, body=b"", query=""):
        lines = list(headers.items() if isinstance(headers, dict) else headers)
        if method == "POST" and "content-length" not in {name for name, _ in lines}:
            lines.append(("content-length", str(len(body))))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in lines],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", PORT),
        }
        sent = []

        async def receive():
            self.received += 1
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        start = sent[0]
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        whole = b"".join(one.get("body", b"") for one in sent[1:])
        return start["status"], found, whole

    def get(self, path, headers=READ, query=""):
        return self.ask("GET", path, headers, query=query)

    def post(self, name, values, headers=WRITE):
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        status, _, answer = self.ask("POST", f"/api/{name}", headers, body)
        return status, answer


@pytest.fixture(scope="module")
def store(fill_photos, make_stub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    return run(make_stub(), fill_photos(folder / "photos"), folder / "pets.h5", labels="none")


@pytest.fixture
def photos(store):
    return store.path.parent / "photos"


@pytest.fixture
def site(store, tmp_path):
    session = Session(store, Journal(tmp_path / "labels.jsonl"), ["blue", "red"])
    session.found.start()
    yield Site(session, Pictures(store), tmp_path / "labels.csv", None)
    session.stop()


@pytest.fixture
def client(site):
    return Client(application(site, PORT, TOKEN))


def without(headers, name):
    return {key: value for key, value in headers.items() if key != name}


ADDRESSES = ["/", "/static/label.js", "/image/0", "/api/about", "/api/map", "/api/job"]


def test_the_token_becomes_a_cookie_that_only_this_page_sends(client):
    status, headers, body = client.get("/", {"host": HOST}, f"token={TOKEN}")
    assert (status, headers["location"], body) == (303, "/", b"")
    assert headers["set-cookie"] == f"{COOKIE}; HttpOnly; SameSite=Strict; Path=/"
    status, headers, body = client.get("/")
    assert status == 200
    assert TOKEN.encode() not in body


def test_whoever_follows_a_link_from_elsewhere_is_sent_on_by_a_page_of_ours(client):
    headers = {"host": HOST, "sec-fetch-site": "cross-site"}
    status, found, _ = client.get("/", headers, f"token={TOKEN}")
    assert (status, found["refresh"]) == (200, "0; url=/")
    assert "SameSite=Strict" in found["set-cookie"]


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize(
    ("cookie", "query"),
    [
        ("", ""),
        ("", "token="),
        ("", f"token={TOKEN[:-1]}"),
        ("", f"token={TOKEN}&token={TOKEN}"),
        (f"headstart-{PORT}=", ""),
        (f"headstart-{PORT}={TOKEN}x", ""),
        (f"headstart-1={TOKEN}", ""),
    ],
)
def test_nothing_is_answered_without_the_token(client, path, cookie, query):
    headers = {"host": HOST} | ({"cookie": cookie} if cookie else {})
    status, found, _ = client.get(path, headers, query)
    assert status == 403
    assert "set-cookie" not in found
    assert client.post("label", {"labels": [[0, [1]]]}, WRITE | {"cookie": cookie})[0] == 403


def test_the_token_lets_in_at_the_page_alone(client):
    for path in ADDRESSES[1:]:
        status, found, _ = client.get(path, {"host": HOST}, f"token={TOKEN}")
        assert status == 403
        assert "set-cookie" not in found


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", f"{HOST}.", ""),
        *(f"127.0.0.1.evil.example:{PORT}", f"[::1]:{PORT}", f"0.0.0.0:{PORT}", f"{HOST}@evil"),
    ],
)
def test_another_host_is_refused_with_whatever_else_in_order(client, host):
    for path in ADDRESSES:
        assert client.get(path, READ | {"host": host})[0] == 403
    assert client.get("/", {"host": host}, f"token={TOKEN}")[0] == 403
    assert client.post("undo", {}, WRITE | {"host": host, "origin": f"http://{host}"})[0] == 403


def test_two_hosts_or_none_are_refused(client):
    assert client.get("/", without(READ, "host"))[0] == 403
    lines = [("host", HOST), ("host", "evil.example"), ("cookie", COOKIE)]
    assert client.ask("GET", "/", lines)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        without(WRITE, "origin"),
        WRITE | {"origin": "null"},
        WRITE | {"origin": "http://evil.example"},
        WRITE | {"origin": f"https://{HOST}"},
        WRITE | {"origin": "http://127.0.0.1:4243"},
        WRITE | {"origin": f"http://localhost:{PORT}"},
        without(WRITE, "x-headstart"),
        WRITE | {"x-headstart": "0"},
        WRITE | {"sec-fetch-site": "cross-site"},
        WRITE | {"sec-fetch-site": "same-site"},
        WRITE | {"content-type": "text/plain"},
        WRITE | {"content-type": "application/x-www-form-urlencoded"},
        without(WRITE, "content-type"),
        without(WRITE, "cookie"),
        WRITE | {"transfer-encoding": "chunked"},
        WRITE | {"content-length": "-1"},
        WRITE | {"content-length": "1e3"},
        WRITE | {"content-length": str(LARGEST + 1)},
        WRITE | {"content-length": str(1 << 30)},
    ],
)
def test_what_others_write_is_refused_unread(client, site, headers):
    for name in site.writes:
        status, answer = client.post(name, {"labels": [[0, [1]]], "queue": "all"}, headers)
        assert status in (403, 411, 413, 415)
        assert answer.count(b"\n") == 1
    assert client.received == 0
    assert (site.session.labels.codes == -1).all()


def test_a_body_that_is_longer_than_it_says_is_refused(client):
    assert client.post("undo", b"{}" * 10, WRITE | {"content-length": "2"})[0] == 413


@pytest.mark.parametrize("path", ADDRESSES)
def test_pages_of_other_ports_of_this_machine_get_nothing(client, path):
    expected = 200 if path == "/" else 403  # a page of ours may be opened from anywhere
    assert client.get(path, READ | {"sec-fetch-site": "same-site"})[0] == expected


@pytest.mark.parametrize("path", [*ADDRESSES, "/no", "/image/99", "/static/no"])
def test_every_answer_keeps_browsers_from_reading_more_into_it(client, path):
    for headers in (READ, {"host": HOST}, {"host": "evil.example"}):
        _, found, _ = client.get(path, headers)
        assert found["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in found["content-security-policy"]
        assert "unsafe" not in found["content-security-policy"]
        assert "frame-ancestors 'none'" in found["content-security-policy"]
        assert found["cross-origin-resource-policy"] == "same-origin"
        assert found["referrer-policy"] == "no-referrer"
        assert found["cache-control"] == "no-store"
        assert not [name for name in found if name.startswith("access-control-")]
        assert "server" not in found


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
def test_other_methods_are_refused(client, method):
    headers = WRITE | {"access-control-request-method": "POST"}
    for path in ("/", "/api/label"):
        assert client.ask(method, path, headers)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/../etc/passwd", "/static/../server.py", "/static/..%2fserver.py", "/static/"),
        *("/static/../../pictures.py", "/static//etc/passwd", "/static/%2e%2e/__init__.py"),
        *("/image/../labels.jsonl", "/image/-1", "/image/18", "/image/1.5", "/image/a.png"),
        *("/image/99999999999999999999", "/docs", "/openapi.json", "/redoc", "/api/", "/api/no"),
        *("/labels.csv", "/pets.h5", "/blue/blue00.png", "/static/label.py", "//", "/./"),
    ],
)
def test_there_are_no_files_but_those_of_the_page(client, path):
    assert client.get(path)[0] == 404


def test_the_page_and_all_that_it_names_are_there(client, site):
    status, headers, body = client.get("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = body.decode()
    for name in ("label.css", "label.js", "icon.svg"):
        assert f"/static/{name}" in text
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in site.files:
        status, headers, _ = client.get(f"/static/{name}")
        assert status == 200
        assert headers["content-type"].startswith(types.get(name.split(".")[1], "text/html"))
    # A policy without 'unsafe-inline' would undo these; and nothing is asked of another machine.
    assert " style=" not in text
    assert " on" not in text.replace(" one", "").replace(" only", "").replace(" on ", "")
    for name, answer in site.files.items():
        inside = answer.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in inside, name
        assert "https:" not in inside, name
        assert "innerHTML" not in inside


def test_images_are_made_anew_and_are_those_of_their_rows(client, site, photos):
    import io

    for image in (0, 17):
        status, headers, body = client.get(f"/image/{image}", query="side=192")
        assert (status, headers["content-type"]) == (200, "image/webp")
        shown = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"), float)
        path = photos / site.session.paths[image]
        with Image.open(path) as picture:
            assert np.abs(shown.mean((0, 1)) - np.asarray(picture).mean((0, 1))).max() < 6
        assert body[:4] == b"RIFF"
    assert client.get("/image/0", query="side=9999")[0] == 404
    assert client.get("/image/0", query="side=..")[0] == 200


def test_only_an_address_with_its_digest_is_kept_by_a_browser(client, site):
    digest = site.session.labels.digests[3][:12]
    cached = {
        of: client.get("/image/3", query=f"side=192&of={of}")[1]["cache-control"]
        for of in (digest, digest[:3], "", "0" * 12)
    }
    assert cached.pop(digest) == "private, max-age=86400, immutable"
    assert set(cached.values()) == {"no-store"}


def test_an_image_that_changed_or_went_is_not_shown_and_why(
    client, site, photos, write_image, tmp_path
):
    moved = shutil.copytree(photos, tmp_path / "photos")
    site.pictures = Pictures(site.session.store, moved)
    (moved / site.session.paths[4]).unlink()
    write_image(moved / site.session.paths[5], 77)
    assert client.get("/image/4")[::2] == (404, b"no longer there")
    assert client.get("/image/5")[::2] == (404, b"has changed since")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(("label", body) for body in (b"", b"{", b"[]", b"7", b"\xff", b"[" * 50_000, b"null")),
        ("label", {}),
        ("label", {"labels": {"0": [1]}}),
        ("label", {"labels": [[0, ["1"]]]}),
        ("label", {"labels": [[0, [1.5]]]}),
        ("label", {"labels": [[True, [1]]]}),
        ("label", {"labels": [[0, []]]}),
        ("label", {"labels": [[0, [18]]]}),
        ("label", {"labels": [[2, [1]]]}),
        ("label", {"labels": [[0, [1]]], "queue": ["all"]}),
        ("queue", {}),
        ("queue", {"queue": "no"}),
        ("queue", {"queue": "all", "count": "9"}),
        ("queue", {"queue": "all", "wait": float("inf")}),
        ("queue", {"queue": "all", "lasso": [[float("nan"), 0]] * 3}),
        ("queue", {"queue": "all", "lasso": [[0, 0, 0]]}),
        ("queue", {"queue": "all", "search": 7}),
        ("class", {}),
        ("class", {"name": "\ud800"}),
        ("class", {"name": "x" * 100_000}),
        ("undo", {}),
        ("train", {}),
    ],
)
def test_what_is_not_understood_is_said_in_a_line_and_changes_nothing(client, site, name, values):
    status, answer = client.post(name, values)
    assert status == 400
    assert len(json.loads(answer)["error"].splitlines()) == 1
    assert (site.session.labels.codes == -1).all()
    assert site.session.labels.names == ["blue", "red"]


def test_a_head_that_is_there_is_replaced_at_the_second_press_only(client, site, monkeypatch):
    begun = []
    monkeypatch.setattr(site.jobs, "begin", lambda name, work: begun.append(name))
    client.post("label", {"labels": [[0, [1, 2]], [1, [9]]], "queue": "all"})
    mine = site.out.with_suffix(".joblib")
    mine.write_bytes(b"a head of hours")
    status, answer = client.post("train", {})
    assert (status, begun) == (400, [])
    assert "labels.joblib: is there already" in json.loads(answer)["error"]
    assert client.post("train", {})[0] == 200
    assert begun == ["training"]


@pytest.mark.parametrize(
    ("splits", "given", "low"),
    [
        (["train"] * 4, [0, 1], True),  # cross-validation
        (["train", "train", "test", "test"], [0, 1], False),
        (["train", "train", "test", "test"], [0, 2], True),
    ],
)
def test_a_score_on_images_that_were_shown_for_being_hard_is_said_to_be_low(
    make_store, tmp_path, monkeypatch, splits, given, low
):
    store = make_store(np.eye(4), [None, None, "a", "b"], splits=splits)
    session = Session(store, Journal(tmp_path / "labels.jsonl"), ["a", "b"])
    made = Site(session, Pictures(store), tmp_path / "labels.csv", None)
    said = []
    monkeypatch.setattr(made.jobs, "begin", lambda name, work: said.append(work()))
    monkeypatch.setattr(made, "_brought", lambda: "")
    monkeypatch.setattr("headstart.pages.labelling.site.train_apart", lambda *_: "accuracy")
    for code, image in enumerate(given):
        session.label({code: [image]}, "uncertain")
    made.writes["train"]({})()
    assert [one.endswith("so it may be low") for one in said] == [low]
    session.stop()


def test_labels_of_images_that_were_replaced_reach_no_other_ones_by_pressing_again(
    tmp_path, fill_photos, make_stub, write_image, monkeypatch
):
    photos = fill_photos(tmp_path / "photos")
    store = run(make_stub(), photos, tmp_path / "pets.h5", labels="none")
    session = Session(store, Journal(tmp_path / "labels.jsonl"), ["a"])
    made = Site(session, Pictures(store), tmp_path / "labels.csv", None)
    session.label({0: [3]})
    calls = []

    def bring(path, source, labels):
        calls.append(labels)
        write_image(photos / store.paths[3], 99)
        run(make_stub(), photos, path, labels="none")
        return "brought"

    monkeypatch.setattr("headstart.pages.labelling.site.bring_apart", bring)
    for match in ("^brought; .*has other images now", "^.*pets.h5: has other images now"):
        with pytest.raises(HeadstartError, match=match):
            made._brought()
    assert len(calls) == 1
    session.stop()


def test_a_label_goes_in_and_comes_out_again(client):
    status, answer = client.post("label", {"labels": [[0, [1, 2]], [1, [9]]], "queue": "all"})
    found = json.loads(answer)
    assert status == 200
    assert {one["image"]: one["label"] for one in found["images"]} == {1: 0, 2: 0, 9: 1}
    assert found["state"]["counts"] == [2, 1]
    status, answer = client.post("queue", {"queue": "all", "count": 3, "wait": 1})
    assert [one["label"] for one in json.loads(answer)["images"]] == [-1, 0, 0]
    assert json.loads(client.post("undo", {})[1])["state"]["unlabelled"] == 18


def test_names_that_are_no_text_come_through(client, site):
    site.session.paths[0] = "\udcff</script>.png"
    status, answer = client.post("queue", {"queue": "all", "count": 1})
    assert status == 200
    assert json.loads(answer)["images"][0]["path"] == "\udcff</script>.png"
    assert answer.isascii()


def test_one_job_at_a_time_and_a_failure_is_told():
    jobs, go = Jobs(), threading.Event()
    jobs.begin("waiting", lambda: str(go.wait(20)))
    with pytest.raises(WrongUsage, match="waiting is still running"):
        jobs.begin("more", str)
    go.set()
    while jobs.state()["running"]:
        pass
    assert jobs.state() == {"running": "", "ended": "waiting", "said": "True", "failed": False}
    jobs.begin("failing", lambda: str(1 / 0))
    while jobs.state()["running"]:
        pass
    assert jobs.state()["failed"]
    assert "division by zero" in jobs.state()["said"]


@pytest.fixture
def served(site):
    server = Server(listen(0), site)
    server.start()
    yield server
    server.stop()


def test_a_body_of_a_gigabyte_is_refused_before_it_is_sent(served):
    port = int(served.address.split(":")[2].split("/")[0])
    token = served.address.partition("token=")[2]
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(
            f"POST /api/label HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {1 << 30}\r\n"
            f"Origin: http://127.0.0.1:{port}\r\nX-Headstart: 1\r\n"
            f"Content-Type: application/json\r\nCookie: headstart-{port}={token}\r\n\r\n".encode()
        )
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")  # and the connection is closed


def test_the_address_that_is_printed_opens_the_page(served):
    port = int(served.address.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", served.address.partition(str(port))[2])
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303
    cookie = answer.headers["set-cookie"].partition(";")[0]
    connection.request("GET", "/", headers={"Cookie": cookie})
    page = connection.getresponse()
    assert b"headstart label" in page.read()
    connection.close()


def test_it_listens_on_this_machine_alone(served):
    assert served._listening.getsockname()[0] == "127.0.0.1"
    # Else asyncio leaves TCP_NODELAY out, and every answer takes 40 ms more.
    assert served._listening.proto == socket.IPPROTO_TCP
