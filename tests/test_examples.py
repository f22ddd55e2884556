"""The programs of examples/ run as they stand, on a few small images."""

import asyncio
import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from headstart.extract import machine
from headstart.extract.backbones import fused
from headstart.extract.images.decode import decode
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OWN_FOLDER, SERVE = EXAMPLES / "own_folder.py", EXAMPLES / "serve_onnx.py"

pytestmark = pytest.mark.skipif(
    not all(map(machine.installed, (*fused.ONNX_NEEDS, "starlette", "uvicorn"))),
    reason="tf2onnx, onnxruntime, starlette or uvicorn is not installed",
)

NOT_NEEDED = ("headstart", "tensorflow", "keras", "sklearn", "h5py", "onnx", "tf2onnx")
SERVE_ALONE = """
import runpy, sys
program, *sys.argv[1:], names = sys.argv[1:]
for name in names.split():
    sys.modules[name] = None
sys.argv[0] = program
runpy.run_path(program, run_name="__main__")
"""


def awkward(size=(40, 30)):
    """Bytes of images that have to be turned, flattened or converted, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(noise // 3 + np.array([120, 20, 10], np.uint8))
    clear = picture.copy()
    clear.putalpha(Image.fromarray(noise[..., 0]))
    turned = Image.Exif()
    turned[0x0112] = 6
    invisible = picture.copy()
    invisible.putalpha(0)
    images = {
        "turned.jpg": (picture, {"format": "JPEG", "exif": turned}),
        "invisible.bmp": (invisible, {"format": "BMP"}),
        "clear.png": (clear, {"format": "PNG"}),
        "grey.png": (picture.convert("L"), {"format": "PNG"}),
        "grey16.png": (Image.fromarray(noise[..., 0].astype(np.uint16) * 257), {"format": "PNG"}),
        "palette.gif": (picture.quantize(32), {"format": "GIF"}),
    }
    found = {}
    for name, (image, how) in images.items():
        buffer = io.BytesIO()
        image.save(buffer, **how)
        found[name] = buffer.getvalue()
    return found


@contextlib.contextmanager
def serving(model, *options, labels="blue, red", **environment):
    """The address of the server, which Ctrl-C stops; it never lets an exception through."""
    command = [sys.executable, "-c", SERVE_ALONE, str(SERVE), str(model), "--port", "0", *options]
    errors = Path(model).with_suffix(".err")
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [*command, " ".join(NOT_NEEDED)],
            stdout=subprocess.PIPE, stderr=stderr, env=os.environ | environment,
        ) as server,
    ):  # fmt: skip
        try:
            first = server.stdout.readline().decode()
            assert f"{labels}; listening on http://127.0.0.1:" in first, errors.read_text()
            server.address = first.split()[-1]
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            try:
                assert server.wait(timeout=60) == 0
                assert server.stdout.read() == b"stopped\n"
                assert "Traceback" not in errors.read_text()
            finally:
                server.kill()


def ask(address, data=None):
    """Status and answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_from_a_folder_of_photographs_to_served_answers(tmp_path, monkeypatch, fill_photos):
    monkeypatch.chdir(tmp_path)
    fill_photos(tmp_path / "photos")
    new = fill_photos(tmp_path / "new", count=2)
    for name, data in awkward().items():
        (new / name).write_bytes(data)
    (new / "bad.png").write_bytes(b"<html>")
    done = subprocess.run(
        [sys.executable, OWN_FOLDER, "--photos", "photos", "--new", "new",
         "--backbone", "MobileNetV2", "--size", "64", "--weights", "random"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "18 images, 1280 numbers each" in done.stdout
    assert "svm-rbf: " in done.stdout
    with open("new.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11

    with serving("own.onnx") as server:
        address = server.address
        for row in rows:
            status, answer = ask(address, (new / row["path"]).read_bytes())
            if row["skipped"]:
                assert status == 415
            else:
                assert answer["label"] == row["label"]
                assert answer["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-4)
                assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        status, about = ask(address)
        assert status == 200
        assert about["labels"] == ["blue", "red"]
        assert about["provenance"]["backbone"] == "MobileNetV2"
        data = (new / rows[-1]["path"]).read_bytes()
        status, answer = ask(address, data[: len(data) // 2])
        assert status == 400
        assert "damaged image" in answer["error"]


def imported():
    spec = importlib.util.spec_from_file_location("serve_onnx", SERVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [96, 150])
def test_the_server_makes_the_pixels_that_headstart_makes(size, fit):
    module = imported()
    classifier = module.Classifier.__new__(module.Classifier)
    classifier.size, classifier.fit = size, fit
    for name, data in awkward((1300, 1250)).items():
        np.testing.assert_array_equal(
            classifier.pixels(data), decode(data, size, fit).pixels, err_msg=name
        )


def write_model(path, labels):
    """A model in the form of exported ones, that takes the redder half of colours for the second.

    It is made without Keras, so that the server can be tried in a second.
    """
    import onnx

    def float_(name, shape):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    node = onnx.helper.make_node
    weights = [-0.05, 0.05, 0, 0, 0.05, -0.05]
    graph = onnx.helper.make_graph(
        [
            node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
            node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            node("MatMul", ["means", "weights"], ["logits"]),
            node("Softmax", ["logits"], ["probabilities"]),
        ],
        "colours",
        [
            onnx.helper.make_tensor_value_info(
                "images", onnx.TensorProto.UINT8, ["N", SIZE, SIZE, 3]
            )
        ],
        [float_("probabilities", ["N", 2])],
        [
            onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [1, 2]),
            onnx.helper.make_tensor("weights", onnx.TensorProto.FLOAT, [3, 2], weights),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    about = {"labels": labels, "input": {"size": SIZE, "fit": "stretch"}}
    onnx.helper.set_model_props(model, {name: json.dumps(about[name]) for name in about})
    onnx.save(model, path)
    return path


SIZE = 32


def image_file(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


BLUE, RED = image_file((20, 30, 220)), image_file((220, 30, 20))
HOST = b"Host: 127.0.0.1"


def head(*lines, first=b"POST / HTTP/1.1", host=HOST):
    return b"\r\n".join([first, *([host] if host else []), *lines, b"", b""])


def length(value):
    return b"Content-Length: " + (value if isinstance(value, bytes) else b"%d" % value)


SECOND = head(first=b"GET /second HTTP/1.1")
CHUNKED = b"Transfer-Encoding: chunked"
PIECES = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BLUE), BLUE)
GET = b"GET / HTTP/1.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(write_model(tmp_path_factory.mktemp("model") / "m.onnx", ["blue", "red"])) as it:
        yield it


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """One that waits for little more than the time of a small upload on a busy machine."""
    model = write_model(tmp_path_factory.mktemp("hasty") / "m.onnx", ["blue", "red"])
    with serving(model, "--timeout", "3") as it:
        yield it


def connected(server):
    port = int(server.address.rsplit(":", 1)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def heard(connection):
    """All that is answered until the server closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError), connection:
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def told(server, request):
    """The answer to bytes that a client sends."""
    connection = connected(server)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(request)
    return heard(connection)


def statuses(answer):
    """The status of each answer of a connection: a server that is misled gives two."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def test_uploads_and_questions_are_answered(server):
    assert ask(server.address, RED)[1]["label"] == "red"
    assert ask(server.address, BLUE)[1]["label"] == "blue"
    assert ask(server.address)[1]["labels"] == ["blue", "red"]
    assert ask(server.address + "/elsewhere") == (404, {"error": "Not Found"})


SECOND_REQUESTS = {
    "in the body of a GET": head(length(len(SECOND)), first=GET) + SECOND,
    "in the body of a HEAD": head(length(len(SECOND)), first=b"HEAD / HTTP/1.1") + SECOND,
    "in a body for nobody": head(length(len(SECOND)), first=b"POST /x HTTP/1.1") + SECOND,
    "behind a GET": head(first=GET) + SECOND,
    "behind a POST": head(length(len(BLUE))) + BLUE + SECOND,
    "behind a body that is said to be longer": head(length(len(BLUE) - 9)) + BLUE + SECOND,
    "behind a refused POST": head(length(6)) + b"<html>" + SECOND,
    "behind chunks": head(CHUNKED) + PIECES + SECOND,
    "behind the chunks of a GET": head(CHUNKED, first=GET) + b"0\r\n\r\n" + SECOND,
    "behind chunks that have a length too": head(length(len(PIECES)), CHUNKED) + PIECES + SECOND,
    "between length and chunks": head(length(5), CHUNKED) + b"0\r\n\r\n" + SECOND,
    "between length and chunks of a GET": head(length(5), CHUNKED, first=GET)
    + b"0\r\n\r\n"
    + SECOND,
    "in a body of HTTP/1.0": head(CHUNKED, first=b"POST / HTTP/1.0") + b"0\r\n\r\n" + SECOND,
    "behind an upgrade": head(b"Connection: Upgrade", b"Upgrade: websocket", first=GET) + SECOND,
    "behind a CONNECT": head(first=b"CONNECT 127.0.0.1:1 HTTP/1.1") + SECOND,
    "behind the upgrade of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "behind a Keep-Alive": head(b"Connection: keep-alive", first=GET) + SECOND,
    "behind a kept HTTP/1.0": head(b"Connection: keep-alive", first=b"GET / HTTP/1.0") + SECOND,
    "behind line feeds alone": b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n" + SECOND,
}


@pytest.mark.parametrize("request_", SECOND_REQUESTS.values(), ids=SECOND_REQUESTS)
def test_a_connection_has_one_request_whatever_else_is_sent(server, request_):
    answer = told(server, request_)
    assert len(statuses(answer)) == 1
    assert b"onnection: close" in answer


LENGTHS = (
    b"1_0", b"+10", b"-10", b"0x10", b"1e1", b"10.0", b"", b"ten", b"10;", b'"10"', b"1 0",
    b"\xd9\xa1\xd9\xa0", b"\x0b10", b"10\x0b", b"10, 11", b"10,", b"9" * 21, b"9" * 100_000,
)  # fmt: skip
ODD_HEADS = {f"length {value[:20]!r}": head(length(value)) + BLUE for value in LENGTHS} | {
    "two lengths": head(length(len(BLUE)), length(3)) + BLUE,
    "a length with a space before the colon": head(b"Content-Length : 3") + BLUE,
    "a length behind a bare carriage return": head(b"X: y\rContent-Length: 3") + BLUE,
    "chunks and a length": head(CHUNKED, length(len(PIECES))) + PIECES,
    "a length and chunks in other letters": head(length(5), b"TRANSFER-encoding: CHUNKED") + PIECES,
    "chunks alone": head(CHUNKED) + PIECES,
    "chunks with a trailer": head(CHUNKED) + PIECES[:-2] + b"X: y\r\n\r\n",
    "chunks of no length": head(CHUNKED) + b"\r\n" + PIECES,
    "chunks of a negative length": head(CHUNKED) + b"-" + PIECES,
    "chunks of a hexadecimal length": head(CHUNKED) + b"0x" + PIECES,
    "chunks of a huge length": head(CHUNKED) + b"f" * 30 + b"\r\n" + PIECES,
    "another coding": head(b"Transfer-Encoding: gzip, chunked") + PIECES,
    "no coding": head(b"Transfer-Encoding: identity", length(len(BLUE))) + BLUE,
    "a misspelt coding": head(b"Transfer-Encoding: xchunked", length(len(BLUE))) + BLUE,
    "a coding behind a vertical tab": head(b"Transfer-Encoding: \x0bchunked") + PIECES,
    "a coding and a space": head(b"Transfer-Encoding : chunked", length(5)) + PIECES,
    "two codings": head(CHUNKED, b"Transfer-Encoding: identity") + PIECES,
    "a folded coding": head(b"Transfer-Encoding:\r\n chunked", length(5)) + PIECES,
    "no length": head(),
    "a length of nothing": head(length(0)),
    "a length that is too large": head(length(1 << 30)),
    "the largest length": head(length(b"9" * 20)),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
    "a NUL": head(b"X: \0", first=GET),
    "a huge line": head(b"X: " + b"y" * 1_000_000, first=GET),
    "many lines": head(*[b"X: y"] * 200_000, first=GET),
    "a huge path": head(first=b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1"),
    "another method": head(first=b"DELETE / HTTP/1.1"),
    "another path": head(first=b"GET /../m.onnx HTTP/1.1"),
    "the address of another": head(first=b"GET http://evil.example/ HTTP/1.1"),
    "no Host": head(first=GET, host=None),
    "no Host in HTTP/1.0": head(first=b"GET / HTTP/1.0", host=None),
    "an empty Host": head(first=GET, host=b"Host:"),
    "two Hosts": head(HOST, first=GET),
    "two Hosts that differ": head(b"Host: evil.example", first=GET),
    "another Host": head(first=GET, host=b"Host: evil.example"),
    "another Host that begins so": head(first=GET, host=b"Host: 127.0.0.1.evil.example"),
    "another Host that ends so": head(first=GET, host=b"Host: evil-localhost"),
    "another Host behind a name": head(first=GET, host=b"Host: 127.0.0.1@evil.example"),
    "another Host behind a password": head(first=GET, host=b"Host: 127.0.0.1:80@evil.example"),
    "another Host for an upload": head(length(len(BLUE)), host=b"Host: evil.example") + BLUE,
}  # fmt: skip


@pytest.mark.parametrize("request_", ODD_HEADS.values(), ids=ODD_HEADS)
def test_an_odd_head_is_refused_and_the_next_client_is_answered(server, request_):
    answer = told(server, request_)
    # Of a head that is far too long the rest is not read, and may undo the answer on its way.
    assert len(request_) > 50_000 or [status // 100 for status in statuses(answer)] == [4]
    assert statuses(answer) in ([], [400], [404], [405], [411], [413])
    assert ask(server.address, BLUE)[0] == 200


@pytest.mark.parametrize(
    "host", [b"127.0.0.1", b"127.0.0.1:8000", b"localhost", b"LocalHost:80", b"cats.example:443"]
)
def test_the_hosts_that_are_answered_are_this_machine_and_those_named(tmp_path, host):
    model = write_model(tmp_path / "m.onnx", ["blue", "red"])
    with serving(model, "--name", "cats.example") as server:
        assert statuses(told(server, head(first=GET, host=b"Host: " + host))) == [200]


def test_a_head_over_several_lines_and_equal_lengths_are_what_the_standard_says(server):
    for lines in ([b"X: y\r\n z"], [length(len(BLUE))], [b"Content-Type: image/png"]):
        assert statuses(told(server, head(length(len(BLUE)), *lines) + BLUE)) == [200]


def test_three_hundred_silent_clients_hold_no_threads_and_keep_nobody_from_an_answer(server):
    with contextlib.ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(connected(server))
            # Nothing; half a head; and a head whose image does not come.
            connection.sendall((b"", head()[:-2], head(length(len(BLUE))) + BLUE[:9])[number % 3])
        assert ask(server.address, RED)[1]["label"] == "red"
        process = psutil.Process(server.pid)
        assert process.num_threads() < 100
        assert process.num_fds() < 256  # files, of which some systems give it no more
    assert ask(server.address, RED)[1]["label"] == "red"


def test_clients_that_send_too_slowly_are_let_go(hasty):
    silent, half_head, half_image = (connected(hasty) for _ in range(3))
    half_head.sendall(head(b"X: y")[:-2])
    half_image.sendall(head(length(len(BLUE))) + BLUE[:-1])
    assert b"not received in 3 seconds" in (answer := heard(half_image))
    assert statuses(answer) == [408]
    assert heard(half_head) == b""
    assert heard(silent) == b""
    assert ask(hasty.address, BLUE)[0] == 200


def test_a_client_that_has_said_all_is_answered_and_one_that_hung_up_is_let_go(server):
    for request, answered in (
        (head(length(len(BLUE))) + BLUE, [200]),
        (head(first=GET), [200]),
        (head(length(len(BLUE))) + BLUE[:-1], []),
        (head()[:-2], []),
        (b"", []),
    ):
        connection = connected(server)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(heard(connection)) == answered
    for _ in range(20):  # without waiting for the answer
        with connected(server) as connection:
            connection.sendall(head(length(len(BLUE))) + BLUE)
    assert ask(server.address, BLUE)[0] == 200


def test_a_client_that_asks_first_is_told_before_it_sends_a_large_image(server):
    connection = connected(server)
    connection.sendall(head(length(len(RED)), b"Expect: 100-continue"))
    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100")
    connection.sendall(RED)
    assert b'"label": "red"' in heard(connection)
    answer = told(server, head(length(1 << 30), b"Expect: 100-continue"))
    assert statuses(answer) == [413]


def test_an_image_of_far_too_many_pixels_is_refused_before_it_is_decoded(server):
    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    about = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    status, answer = ask(server.address, bomb)
    assert status == 413
    assert "too many pixels" in answer["error"]


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_keeps_a_decoder_busy(server):
    buffer = io.BytesIO()
    Image.effect_noise((3000, 3000), 9).convert("RGB").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    assert ask(server.address, data)[0] == 200
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last : last + 10] * 1000 + b"\xff\xd9"
    status, answer = ask(server.address, many)
    assert (status, answer["error"]) == (400, "too many scans")


def test_labels_of_any_bytes_are_served_and_shown_without_what_a_terminal_obeys(tmp_path):
    labels = ["caf\udce9 \u732b", "\x1b[31mred\r\n\u202e"]
    model = write_model(tmp_path / "m.onnx", labels)
    shown = "caf\\udce9 \\u732b, \\x1b[31mred\\r\\n\\u202e"
    with serving(model, labels=shown, PYTHONIOENCODING="ascii") as server:
        assert ask(server.address)[1]["labels"] == labels
        assert ask(server.address, RED)[1]["label"] == labels[1]


def test_images_on_their_way_are_held_up_to_a_limit_and_then_refused():
    module = imported()
    module.MOST = 100

    class Echo:
        def pixels(self, data):
            return data

        def classify(self, data):
            return {"size": len(data)}

    async def together():
        go_on = asyncio.Event()
        service = module.Service(Echo(), 60)

        def asked(pieces, wait):
            async def receive():
                if not pieces:
                    await asyncio.Event().wait()  # the client stays
                if len(pieces) == 1 and wait:
                    await go_on.wait()
                body = pieces.pop(0)
                return {"type": "http.request", "body": body, "more_body": bool(pieces)}

            headers = [(b"content-length", b"80")]
            scope = {"type": "http", "method": "POST", "headers": headers}
            return service.reply(module.Request(scope, receive))

        first = asyncio.create_task(asked([b"x" * 70, b"x" * 10], wait=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(module.HTTPException) as refused:
            await asked([b"x" * 80], wait=False)
        go_on.set()
        answers = [await first, await asked([b"x" * 80], wait=False)]
        return refused.value.status_code, [json.loads(answer.body)["size"] for answer in answers]

    assert asyncio.run(together()) == (503, [80, 80])


def test_nothing_is_decoded_for_those_who_have_hung_up_while_they_waited():
    module = imported()

    class Unasked:
        def pixels(self, data):
            raise AssertionError

    async def gone():
        pieces = [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}]

        async def receive():
            return pieces.pop(0)

        scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"1")]}
        return await module.Service(Unasked(), 60).reply(module.Request(scope, receive))

    assert b"cut off" in asyncio.run(gone()).body


def test_ctrl_c_stops_it_whoever_is_connected(tmp_path):
    with serving(write_model(tmp_path / "m.onnx", ["blue", "red"])) as server:
        waiting = [connected(server) for _ in range(9)]
        for connection in waiting[::2]:
            connection.sendall(head(length(len(BLUE))) + BLUE[:9])
        assert ask(server.address, BLUE)[0] == 200
