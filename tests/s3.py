"""A small S3 server on loopback, in a process of its own: as slow and as faulty as one asks.

It speaks what listing, reading and writing take (list-objects-v2 in pages, GET with a range, HEAD,
etags; PUT in one piece or in parts, on conditions, and DELETE), and costs a tenth of a millisecond
an answer, so that what is measured is who asks. The truth of S3 is tested on moto, whose answers
take too long for that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "photos"
PAGE = 1000
"""Keys on a page of a listing, as S3 has it."""


class _Server:
    def __init__(self, root: Path | None, latency: float, made: int) -> None:
        self.latency = latency
        self.faults: dict[str, list[str]] = {}
        self.answered: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.at_a_time = self.most = 0
        if root is not None:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    self.objects[str(path.relative_to(root))] = path.read_bytes()
        for number in range(made):
            self.objects[f"made/{number % 10}/{number:06}.jpg"] = b"%08d" % number * 512
        self.etags = {key: _etag(data) for key, data in self.objects.items()}
        self.keys = sorted(self.objects)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                headers = {
                    name.lower(): value
                    for name, _, value in (line.partition(": ") for line in lines[1:] if line)
                }
                if headers.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(writer, method, target, headers, body):
                    break
        writer.close()

    async def _answer(self, writer, method, target, headers, body) -> bool:
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if bucket == "_control":
            writer.write(_told(200, self._control(key, body)))
            return True
        self.answered[key] = self.answered.get(key, 0) + 1
        asked = f"{method} {key}"
        self.asked[asked] = self.asked.get(asked, 0) + 1
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        if self.latency:
            await asyncio.sleep(self.latency)
        self.at_a_time -= 1
        faults = self.faults.get(key) or self.faults.get("*")
        fault = faults.pop(0) if faults else ""
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault[:3].isdigit():
            writer.write(_failed(int(fault[:3]), fault[4:] or "Fault", method))
            return True
        if bucket != BUCKET:
            writer.write(_failed(404, "NoSuchBucket", method))
        elif key and method in ("PUT", "POST", "DELETE"):
            query = {name: values[0] for name, values in parse_qs(url.query, True).items()}
            written = self._written(method, key, query, headers, body)
            if fault == "lost":  # done, and nobody hears of it
                writer.transport.abort()
                return False
            writer.write(written)
        elif not key and method == "HEAD":
            writer.write(_told(200, b""))
        elif not key:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            writer.write(_told(200, self._page(query), "application/xml"))
        elif key not in self.objects:
            writer.write(_failed(404, "NoSuchKey", method))
        else:
            writer.write(self._object(method, key, headers.get("range"), cut=fault == "cut"))
            return fault != "cut"
        return True

    def _written(self, method, key, query, headers, body) -> bytes:
        upload = query.get("uploadId", "")
        if method == "POST" and "uploads" in query:
            upload = f"upload-{len(self.parts)}"
            self.parts[upload] = {}
            return _told(200, f"<R><UploadId>{upload}</UploadId></R>".encode(), "application/xml")
        if method == "DELETE":
            if upload:
                self.parts.pop(upload, None)
            else:
                self.objects.pop(key, None)
                self.keys = sorted(self.objects)
            return b"HTTP/1.1 204 Said\r\nContent-Length: 0\r\n\r\n"
        if method == "PUT" and upload:
            self.parts[upload][int(query["partNumber"])] = body
            return _stored(_etag(body))
        there = self.etags.get(key) if key in self.objects else None
        if headers.get("if-none-match") == "*" and there is not None:
            return _failed(412, "PreconditionFailed", method, "If-None-Match")
        wanted = headers.get("if-match", "").strip('"')
        if wanted and there is None:
            return _failed(404, "NoSuchKey", method)
        if wanted and wanted != there:
            return _failed(412, "PreconditionFailed", method, "If-Match")
        if upload:
            parts = self.parts.pop(upload)
            body = b"".join(parts[number] for number in sorted(parts))
        self.objects[key], self.etags[key] = body, _etag(body)
        self.keys = sorted(self.objects)
        if not upload:
            return _stored(self.etags[key])
        etag = f"<R><ETag>&quot;{self.etags[key]}&quot;</ETag></R>".encode()
        return _told(200, etag, "application/xml")

    def _control(self, key: str, body: bytes) -> bytes:
        if key == "faults":
            self.faults = json.loads(body)
        elif key == "delete":
            self.objects.pop(body.decode(), None)
        elif key.startswith("put/"):
            name = key.removeprefix("put/")
            self.objects[name], self.etags[name] = body, _etag(body)
        elif key == "reset":
            self.objects, self.etags, self.faults, self.parts = {}, {}, {}, {}
        elif key == "clear":
            self.answered, self.asked, self.most = {}, {}, 0
        elif key.startswith("get/"):
            return self.objects[key.removeprefix("get/")]
        self.keys = sorted(self.objects)
        told = {"answered": self.answered, "asked": self.asked, "most": self.most}
        return json.dumps(told | {"keys": self.keys, "parts": len(self.parts)}).encode()

    def _page(self, query: dict[str, str]) -> bytes:
        after = query.get("continuation-token") or query.get("start-after") or ""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        rows, folders, last, more = [], set(), "", False
        for key in self.keys:
            if key <= after or not key.startswith(prefix):
                continue
            if len(rows) + len(folders) == int(query.get("max-keys", PAGE)):
                more = True
                break
            last = key
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            name = quote(key) if query.get("encoding-type") == "url" else escape(key)
            rows.append(
                f"<Contents><Key>{name}</Key><LastModified>2024-05-01T00:00:00.000Z"
                f"</LastModified><ETag>&quot;{self.etags[key]}&quot;</ETag>"
                f"<Size>{len(self.objects[key])}</Size></Contents>"
            )
        common = [
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>"
            for one in sorted(folders)
        ]
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        url = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>{BUCKET}</Name>{url}'
            f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{''.join(rows)}{''.join(common)}</ListBucketResult>"
        ).encode()

    def _object(self, method: str, key: str, wanted: str | None, *, cut: bool) -> bytes:
        data, status, more = self.objects[key], 200, ""
        whole = len(data)
        if wanted and wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or whole), whole - 1)
            if start >= whole:
                return _failed(416, "InvalidRange", method)
            data, status = data[start : end + 1], 206
            more = f"Content-Range: bytes {start}-{end}/{whole}\r\n"
        head = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: image/jpeg\r\nAccept-Ranges: bytes\r\n"
            f'ETag: "{self.etags[key]}"\r\nLast-Modified: Wed, 01 May 2024 00:00:00 GMT\r\n'
            f"{more}Content-Length: {len(data)}\r\n\r\n"
        ).encode()
        return head + (b"" if method == "HEAD" else data[: len(data) // 2] if cut else data)


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _told(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _stored(etag: str) -> bytes:
    return f'HTTP/1.1 200 Said\r\nETag: "{etag}"\r\nContent-Length: 0\r\n\r\n'.encode()


def _failed(status: int, code: str, method: str, condition: str = "") -> bytes:
    more = f"<Condition>{condition}</Condition>" if condition else ""
    said = f"<Code>{code}</Code><Message>{code} was asked for</Message>{more}"
    body = f"<Error>{said}</Error>".encode()
    told = _told(status, body, "application/xml")
    return told.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else told


class Server:
    """The server, as a test sees it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def environment(self) -> dict[str, str]:
        """What libraries have to find in the environment, to ask this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def fail(self, **faults: list[str]) -> None:
        """Let the next answers about a key (or about any, `any`) fail: 503, reset, cut, hang.

        Of what is written, `lost` loses the answer alone.
        """
        self.fail_keys({("*" if key == "any" else key): list(how) for key, how in faults.items()})

    def fail_keys(self, faults: dict[str, list[str]]) -> None:
        self._ask("faults", json.dumps(faults).encode())

    def put(self, key: str, data: bytes) -> None:
        self._ask(f"put/{quote(key)}", data)

    def delete(self, key: str) -> None:
        self._ask("delete", key.encode())

    def answered(self) -> dict[str, int]:
        """How many answers there were about each key since the last `clear`."""
        return self._ask("answered")["answered"]

    def asked(self) -> dict[str, int]:
        """The same by method and key: ``PUT pets.h5``."""
        return self._ask("answered")["asked"]

    def names(self) -> list[str]:
        """What there is."""
        return self._ask("answered")["keys"]

    def parts(self) -> int:
        """How many uploads in parts were begun and neither ended nor given up."""
        return self._ask("answered")["parts"]

    def get(self, key: str) -> bytes:
        """An object."""
        return self._sent(f"get/{quote(key)}", b"")

    def most(self) -> int:
        """The most answers that were waited for at a time."""
        return self._ask("answered")["most"]

    def clear(self) -> None:
        self._ask("clear")

    def reset(self) -> None:
        """Let there be no objects and no faults."""
        self._ask("reset")

    def _ask(self, what: str, body: bytes = b"") -> dict:
        return json.loads(self._sent(what, body))

    def _sent(self, what: str, body: bytes) -> bytes:
        request = urllib.request.Request(f"{self.url}/_control/{what}", body, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return answer.read()


@contextlib.contextmanager
def serving(root: Path | None = None, *, latency: float = 0.0, made: int = 0) -> Iterator[Server]:
    """Serve the files below a folder, and made ones, as the bucket `photos`."""
    command = [sys.executable, "-I", __file__, str(root or ""), str(latency), str(made)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]})
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def open_once(monkeypatch, kept: dict) -> None:
    """Have file systems of a server opened once, and `kept`."""
    from headstart.features.durable.remote import system

    opened = system.opened

    def once(url, refused, *, patient):
        if not url.startswith("s3://"):
            return opened(url, refused, patient=patient)
        how = patient, os.environ.get("AWS_ENDPOINT_URL")
        if how not in kept:
            kept[how] = opened(url, refused, patient=patient)
        fs, _, protocols = kept[how]
        fs.invalidate_cache()
        return fs, fs._strip_protocol(url), protocols

    monkeypatch.setattr(system, "opened", once)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("latency", type=float)
    parser.add_argument("made", type=int)
    given = parser.parse_args()
    server = _Server(Path(given.root) if given.root else None, given.latency, given.made)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 22)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
