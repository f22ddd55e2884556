"""Serve an exported classifier over HTTP, without headstart and TensorFlow.

    python3 -m pip install onnxruntime numpy pillow
    python3 serve_onnx.py pets.onnx --port 8000
    curl --data-binary @cat.jpg http://127.0.0.1:8000

Labels, image size and fit come from the file itself. GET answers with what is served, POST of an
image file with its label, confidence and the probability of every class. It listens on this machine
only; put a web server that knows TLS and passwords in front of it before others can reach it.
"""

import argparse
import io
import json
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
LARGEST = 32 * 2**20
"""Bytes of an image file."""


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
            if self.size >= 150:  # large JPEGs are decoded at a fraction of their size
                image.draft(None, (4 * self.size, 4 * self.size))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # 16 bits to 8, which Pillow itself would clip
                image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype("u1"))
            if image.mode in ("I", "F"):
                raise ValueError("32-bit pixels have no agreed white")
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


class Handler(BaseHTTPRequestHandler):
    """One request; a subclass has the classifier."""

    classifier: Classifier
    protocol_version = "HTTP/1.1"  # curl asks by it whether a large image is welcome

    def do_GET(self) -> None:
        self.answer(200, self.classifier.about)

    def do_POST(self) -> None:
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            return self.answer(411, {"error": "send an image file with its Content-Length"})
        if not 0 < length <= LARGEST:
            return self.answer(413, {"error": f"{length} bytes; between 1 and {LARGEST} are taken"})
        try:
            pixels = self.classifier.pixels(self.rfile.read(length))
        except UnidentifiedImageError:
            return self.answer(415, {"error": f"none of {', '.join(FORMATS)}"})
        except Exception as error:  # noqa: BLE001 - Pillow has many kinds for damaged images
            return self.answer(400, {"error": f"damaged image: {error}"})
        return self.answer(200, self.classifier.classify(pixels))

    def answer(self, status: int, content: dict) -> None:
        """Send JSON; after an error the rest of the request is not read."""
        self.close_connection = status != 200
        body = json.dumps(content, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL.onnx", help="as headstart export wrote it")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    asked = parser.parse_args()
    classifier = Classifier(asked.model)
    handler = type("ClassifierHandler", (Handler,), {"classifier": classifier})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches Ctrl-C off
    with ThreadingHTTPServer(("127.0.0.1", asked.port), handler) as server:
        where = f"http://127.0.0.1:{server.server_port}"
        print(f"{asked.model}: {', '.join(classifier.labels)}; listening on {where}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
