"""A request -> the page, if it comes from the browser that was let in; else a refusal, unread.

As Jupyter and TensorBoard do it: a token in the address that was printed becomes a cookie that no
script and no other site can send; Host and Origin are exact, so that neither a name that leads here
nor another page in the same browser gets anywhere.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST: Final = 1 << 20
"""Bytes of a request: the numbers of 100,000 images."""
HEADER: Final = b"x-headstart"
"""That writes have: no form can send it, and no page elsewhere without being asked first."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
"""That every answer has."""

_AGAIN: Final = (
    b'<!doctype html><meta charset="utf-8"><title>headstart</title><a href="/">Begin to label</a>\n'
)


class _Refused(Exception):
    """Why a request is refused, and the status of the answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Guard:
    """An ASGI application in front of another one.

    Parameters
    ----------
    app : ASGI application
        The page.
    port : int
        At which it listens, on this machine alone.
    token : str
        That lets a browser in.
    """

    def __init__(self, app: App, port: int, token: str) -> None:
        self._app, self._token = app, token
        self._cookie = f"headstart-{port}"
        """Browsers send a cookie to all ports of a machine."""
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._address = f"http://127.0.0.1:{port}/"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            host = self._host(scope)
            if await self._let_in(scope, guarded):
                return
            self._require_let_in(scope)
            if scope["method"] == "POST":
                receive = _given(await _body(self._length(scope, host), receive))
        except _Refused as refused:
            await _answer(guarded, refused.status, str(refused).encode() + b"\n", CLOSE)
            return
        await self._app(scope, receive, guarded)

    def _host(self, scope: Message) -> str:
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise _Refused(405, "GET and POST are answered")
        host = _only(scope, b"host")
        if host not in self._hosts:
            raise _Refused(403, f"this page is at {self._address} alone")
        return host

    async def _let_in(self, scope: Message, send: Send) -> bool:
        """Whether the address had the token in it: then the answer is a cookie, and where to go."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return False
        tokens = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if not tokens or len(tokens) > 1 or not self._is_token(tokens[0]):
            return False
        cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"set-cookie", cookie.encode()), (b"content-type", b"text/html; charset=utf-8")]
        if _values(scope, b"sec-fetch-site") in ([], ["none"], ["same-origin"]):
            await _answer(send, 303, b"", (*headers, (b"location", b"/")))
        else:
            # Somebody followed a link, as in a notebook: to where another site sends a browser no
            # such cookie goes along. From a page of our own it does.
            await _answer(send, 200, _AGAIN, (*headers, (b"refresh", b"0; url=/")))
        return True

    def _require_let_in(self, scope: Message) -> None:
        cookies = "; ".join(_values(scope, b"cookie"))
        sent = [one.strip().partition("=") for one in cookies.split(";")]
        if not any(name == self._cookie and self._is_token(value) for name, _, value in sent):
            raise _Refused(403, "open the address that headstart printed: it has the token in it")
        if scope["path"] != "/" and _values(scope, b"sec-fetch-site") not in (
            [],
            ["none"],
            ["same-origin"],
        ):
            raise _Refused(403, "this is answered to the page alone")

    def _length(self, scope: Message, host: str) -> int:
        """The length of what is written, if it is the page that writes."""
        if _only(scope, b"origin") != f"http://{host}":
            raise _Refused(403, "this is answered to the page alone (Origin)")
        if _only(scope, HEADER) != "1":
            raise _Refused(403, f"this is answered to the page alone ({HEADER.decode()})")
        if (_only(scope, b"content-type") or "").partition(";")[0].strip() != "application/json":
            raise _Refused(415, "application/json is expected")
        length = _only(scope, b"content-length") or ""
        if _values(scope, b"transfer-encoding") or not (length.isascii() and length.isdigit()):
            raise _Refused(411, "a Content-Length is expected")
        if len(length) > 12 or int(length) > LARGEST:
            raise _Refused(413, f"{length[:20]} bytes; at most {LARGEST:,} are taken")
        return int(length)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())


CLOSE: Final = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"connection", b"close"),  # whatever else is sent is not read
)


async def _body(length: int, receive: Receive) -> bytes:
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, "cut off")
        data += message.get("body", b"")
        if len(data) > length:
            raise _Refused(413, "more than its Content-Length")
        if not message.get("more_body"):
            return bytes(data)


def _given(data: bytes) -> Receive:
    """What receives a body that is there already."""
    rest = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Message:
        return rest.pop() if rest else {"type": "http.disconnect"}

    return receive


def _values(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _only(scope: Message, name: bytes) -> str | None:
    values = _values(scope, name)
    return values[0] if len(values) == 1 else None


async def _answer(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
