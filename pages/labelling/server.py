"""A site -> answers over HTTP, on this machine alone."""

import contextlib
import errno
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from ...features.errors import HeadstartError, MissingExtra, install_command
from .guard import Guard
from .site import SIDES, Answer, Site, as_json

_AT_A_TIME: Final = {"small": 2, "large": 1, "rest": 16}
"""Answers that are made side by side: neither labels nor the image that is looked at wait for the
thumbnails of a grid."""
_CLOSING_S: Final = 2
"""In which answers that are on their way may end, after Ctrl-C."""
_KEPT: Final = "private, max-age=86400, immutable"


def require_web() -> None:
    """Refuse to begin where there is nothing to serve with."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"the labelling page: starlette or uvicorn is not installed; get them with "
            f"{install_command('pages')}"
        ) from error


def application(site: Site, port: int, token: str) -> Guard:
    """The ASGI application: the routes of the page, behind a guard."""
    import anyio
    from anyio import CapacityLimiter
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    limiters: dict[str, CapacityLimiter] = {}

    def answer(found: Answer) -> Response:
        headers = {"cache-control": _KEPT} if found.cached else None
        return Response(found.body, found.status, headers, found.media_type)

    async def beside(work: Callable[..., Answer], *arguments: Any, kind: str = "rest") -> Any:
        """Call it in a thread; what is of one kind waits for each other, and for nothing else."""
        limiter = limiters.get(kind) or limiters.setdefault(kind, CapacityLimiter(_AT_A_TIME[kind]))
        return answer(await anyio.to_thread.run_sync(work, *arguments, limiter=limiter))

    async def page(_: Request) -> Response:
        return answer(site.files["label.html"])

    async def static(request: Request) -> Response:
        found = site.files.get(request.path_params["name"])
        return answer(found or as_json({"error": "no such file"}, 404))

    async def image(request: Request) -> Any:
        asked = request.query_params.get("side", "")
        side = int(asked) if re.fullmatch("[0-9]{1,4}", asked) else SIDES[0]
        number, digest = request.path_params["image"], request.query_params.get("of", "")
        kind = "small" if side == SIDES[0] else "large"
        return await beside(site.image, number, side, digest, kind=kind)

    async def read(request: Request) -> Any:
        name = request.path_params["name"]
        if name not in site.reads:
            return answer(as_json({"error": "no such address"}, 404))
        return await beside(site.read, name)

    async def write(request: Request) -> Any:
        name = request.path_params["name"]
        if name not in site.writes:
            return answer(as_json({"error": "no such address"}, 404))
        return await beside(site.write_to, name, await request.body())

    routes = [
        Route("/", page),
        Route("/static/{name}", static),
        Route("/image/{image:int}", image),
        Route("/api/{name}", read, methods=["GET"]),
        Route("/api/{name}", write, methods=["POST"]),
    ]
    app: Any = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, port, token)


class Server:
    """Serves a site until it is stopped.

    Parameters
    ----------
    site : Site
        What is served.
    port : int
        Of this machine; 0 for any that is free.

    Attributes
    ----------
    address : str
        What to open in a browser; it has the token in it.

    Raises
    ------
    HeadstartError
        If the port is not free.
    """

    def __init__(self, listening: socket.socket, site: Site) -> None:
        import uvicorn

        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        self.address = f"http://127.0.0.1:{port}/?token={token}"
        self._listening = listening
        config = uvicorn.Config(
            application(site, port, token),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_CLOSING_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self._failed: BaseException | None = None

    def _serve(self) -> None:
        # A thread of its own has an event loop of its own, beside that of a notebook.
        try:
            self._server.run([self._listening])
        except BaseException as error:  # noqa: BLE001 - told by `wait`
            self._failed = error

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended."""
        while self._thread.is_alive():
            self._thread.join(0.5)  # without a limit, Ctrl-C would wait too on some systems
        if self._failed is not None:
            raise HeadstartError(f"the server failed: {self._failed}") from self._failed

    def stop(self) -> None:
        """End it, after the answers that are on their way."""
        self._server.should_exit = True
        with contextlib.suppress(RuntimeError):  # it never started
            self._thread.join(2 * _CLOSING_S)


def listen(port: int) -> socket.socket:
    """A socket on this machine alone.

    Raises
    ------
    HeadstartError
        If the port is taken, or not for everybody.
    """
    # asyncio sends at once only by a socket that says that it is TCP; else the body of every answer
    # would wait 40 ms for its head to be acknowledged.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # there it would let two programs have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        number = getattr(error, "errno", None)
        why = "is taken by another program" if number == errno.EADDRINUSE else f"{error}"
        raise HeadstartError(
            f"port {port}: {why}; choose another by --port, or leave it out for any that is free"
        ) from error
    return listening
