"""Serve an exported classifier over HTTP, without headstart and TensorFlow.

    python3 -m pip install onnxruntime numpy pillow starlette uvicorn
    python3 serve_onnx.py pets.onnx --port 8000
    curl --data-binary @cat.jpg http://127.0.0.1:8000

Labels, image size and fit come from the file itself. GET answers with what is served, POST of an
image file with its label, confidence and the probability of every class. It listens on this machine
only; put a web server that knows TLS and passwords in front of it before others can reach it.
"""

import argparse
import asyncio
import contextlib
import io
import json
import re
import socket
import sys
from typing import ClassVar

import numpy as np
import onnxruntime
import uvicorn
from PIL import Image, ImageOps, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
LARGEST = 32 * 2**20
"""Bytes of an image file."""
MOST = 8 * LARGEST
"""Bytes of all image files that are held at a time."""
CONNECTIONS = 150
"""At a time; systems that give a process few files give it 256."""
SCAN = re.compile(rb"\xff\xda\0[\x06\x08\x0a\x0c\x0e]")
"""The start of a scan of a JPEG, which can be made to go over its pixels thousands of times."""


class Classifier:
    """An exported model."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.about = {
            name: json.loads(text)
            for name, text in self.session.get_modelmeta().custom_metadata_map.items()
        }
        self.labels = self.about["labels"]
        self.size = self.about["input"]["size"]
        self.fit = self.about["input"]["fit"]

    def classify(self, pixels: np.ndarray) -> dict:
        """Label, confidence and all probabilities of one image."""
        (outputs,) = self.session.run(["probabilities"], {"images": pixels[None]})
        probabilities = outputs[0]
        best = int(probabilities.argmax())
        return {
            "label": self.labels[best],
            "confidence": float(probabilities[best]),
            "probabilities": dict(zip(self.labels, map(float, probabilities), strict=True)),
        }

    def pixels(self, data: bytes) -> np.ndarray:
        """(size, size, 3) uint8 RGB, made as headstart made those that the model was trained on."""
        square, bilinear = (self.size, self.size), Image.Resampling.BILINEAR
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            scans = sum(1 for _ in SCAN.finditer(data))
            if scans * image.width * image.height > 4e9:  # ten seconds
                raise HTTPException(400, "too many scans")
            if self.size >= 150:  # large JPEGs are decoded at a fraction of their size
                image.draft(None, (4 * self.size, 4 * self.size))
            image.load()
            if (image.format, image.mode) == ("BMP", "RGBA") and not image.getbbox(alpha_only=True):
                image.putalpha(255)  # most programs leave it 0
            with contextlib.suppress(Exception):  # odd metadata spoils no pixels
                ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I;16"):  # 16 bits to 8, which Pillow itself would clip
                image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype("u1"))
            if image.mode in ("I", "F"):
                raise HTTPException(400, "32-bit pixels have no agreed white")
            if image.has_transparency_data:  # over white
                above = image.convert("RGBA")
                image = Image.new("RGBA", above.size, "white")
                image.alpha_composite(above)
            image = image.convert("RGB")
        if self.fit == "crop":
            return np.asarray(ImageOps.fit(image, square, bilinear))
        if self.fit == "pad":
            return np.asarray(ImageOps.pad(image, square, bilinear, color=(128, 128, 128)))
        return np.asarray(image.resize(square, bilinear))


class Service:
    """The answers to requests; a refusal is an HTTPException."""

    def __init__(self, classifier: Classifier, seconds: float) -> None:
        self.classifier, self.seconds = classifier, seconds
        self.held = 0
        # A large image takes up to three gigabytes, and classifying takes all cores as it is.
        self.one_at_a_time = asyncio.Lock()

    async def reply(self, request: Request) -> Response:
        if "transfer-encoding" in request.headers:
            raise HTTPException(411, "send an image file with its Content-Length alone")
        if request.method != "POST":
            return answer(200, self.classifier.about)
        length = int(request.headers.get("content-length", -1))  # h11 lets nothing but digits pass
        if length < 0:
            raise HTTPException(411, "send an image file with its Content-Length")
        if not 0 < length <= LARGEST:
            raise HTTPException(413, f"{length} bytes; between 1 and {LARGEST} are taken")
        data = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                async for chunk in request.stream():
                    data += chunk
                    self.held += len(chunk)
                    if self.held > MOST:
                        raise HTTPException(503, "busy; ask again later")
            async with self.one_at_a_time:
                if await request.is_disconnected():
                    raise ClientDisconnect
                return answer(200, await asyncio.to_thread(self.classify, data))
        except TimeoutError:
            raise HTTPException(408, f"not received in {self.seconds:g} seconds") from None
        except ClientDisconnect:
            return answer(400, {"error": "cut off"})  # which nobody hears
        finally:
            self.held -= len(data)

    def classify(self, data: bytearray) -> dict:
        try:
            pixels = self.classifier.pixels(data)
        except HTTPException:
            raise
        except UnidentifiedImageError:
            raise HTTPException(415, f"none of {', '.join(FORMATS)}") from None
        except (Image.DecompressionBombError, MemoryError) as error:
            raise HTTPException(413, f"too many pixels: {error}") from None
        except Exception as error:  # noqa: BLE001 - Pillow has many kinds for damaged images
            raise HTTPException(400, f"damaged image: {error}") from None
        return self.classifier.classify(pixels)


def answer(status: int, content: dict) -> Response:
    """JSON in ASCII: labels are names of folders, which need not be UTF-8."""
    return Response(json.dumps(content, indent=2) + "\n", status, media_type="application/json")


async def refuse(_: Request, error: HTTPException) -> Response:
    return answer(error.status_code, {"error": error.detail})


class OneRequest(H11Protocol):
    """A connection: one request, in good time. Nothing after it is read as another."""

    seconds: float
    held: ClassVar[dict] = {}  # by age

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.held[self] = transport
        if len(self.held) > CONNECTIONS:
            self.held.pop(next(iter(self.held))).abort()  # has had the most time
        # So long for the request, for which uvicorn would wait for ever, and for the answer.
        self.deadline = self.loop.call_later(2 * self.seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self.held.pop(self, None)
        self.deadline.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:
        """Whether one who has nothing more to send still waits for an answer."""
        return self.cycle is not None and not self.cycle.more_body

    def shutdown(self) -> None:
        """On Ctrl-C: answers are waited for, requests are not."""
        super().shutdown()
        if not self.eof_received():
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # this is the answer; Service has nobody to give one
        super().send_400_response(msg)


def plain(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL.onnx", help="as headstart export wrote it")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--name", action="append", default=["127.0.0.1", "localhost", "[::1]"],
                        help="that requests have as their Host, where a server in front passes on "
                             "its own; can be repeated")  # fmt: skip
    parser.add_argument("--timeout", type=float, default=30, help="seconds to receive an image in")
    asked = parser.parse_args()
    classifier = Classifier(asked.model)
    app = Starlette(
        routes=[Route("/", Service(classifier, asked.timeout).reply, methods=["GET", "POST"])],
        # A stranger's page in a browser here can reach 127.0.0.1 under a name of its own.
        middleware=[Middleware(TrustedHostMiddleware, asked.name, www_redirect=False)],
        exception_handlers={HTTPException: refuse},
    )
    OneRequest.seconds = asked.timeout
    config = uvicorn.Config(
        app, http=OneRequest, ws="none", loop="asyncio", lifespan="off", log_level="error",
        headers=[("Connection", "close")], proxy_headers=False, backlog=64,
    )  # fmt: skip
    sys.stdout.reconfigure(errors="backslashreplace")
    with socket.create_server(("127.0.0.1", asked.port)) as listening:
        where = f"http://127.0.0.1:{listening.getsockname()[1]}"
        named = plain(f"{asked.model}: {', '.join(classifier.labels)}")
        print(f"{named}; listening on {where}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])
    print("stopped")


if __name__ == "__main__":
    main()
