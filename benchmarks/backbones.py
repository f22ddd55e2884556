"""The backbones that introductions name: what they take and give, and how fast they are.

    python benchmarks/backbones.py [--images 96] [--repeats 3] [--json FILE]

Each with random weights at its default size: the length of a vector, the normalisation of its
authors (inside the graph, as a function of ``keras.applications``), and images per second relative
to Xception, both in turn on the same random pixels through `headstart.extract`'s engine, median of
the rounds (lowest to highest).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from extraction import machine, options, spread
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding

NAMES = (
    "Xception",
    "InceptionV3",
    "VGG16",
    "VGG19",
    "ResNet50",
    "ResNet50V2",
    "DenseNet121",
    "MobileNetV2",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
)


def table(result: dict[str, Any]) -> str:
    """Markdown, a line for each backbone."""
    lines = [
        "| backbone | pixels | numbers in a vector | normalisation | speed, Xception = 1 |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    for one in result["backbones"]:
        cells = [
            one["name"],
            str(one["size"]),
            f"{one['dimension']:,}",
            f"`{one['normalisation']}`",
        ]
        lines.append("| " + " | ".join([*cells, spread(one["relative"])]) + " |")
    return "\n".join(lines)


def rate(embedding: Embedding, count: int) -> float:
    """Images per second through the engine."""
    size = embedding.request.size
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3)).astype(np.uint8)
    embedding.embed(images)
    started = time.perf_counter()
    calls = [embedding.submit([image]) for image in (images[k % 8] for k in range(count))]
    for call in calls:
        call.result()
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=96)
    asked = options(parser, table)
    found = []
    first = Embedding(Request.checked(backbone=NAMES[0], weights="random"))
    for name in NAMES:
        embedding = Embedding(Request.checked(backbone=name, weights="random"))
        sides = (first, embedding)
        rates = [[rate(side, asked.images) for side in sides] for _ in range(asked.repeats)]
        provenance = embedding.provenance
        found.append(
            {
                "name": name,
                "size": provenance.size,
                "dimension": provenance.dimension,
                "normalisation": provenance.normalisation.removeprefix("keras.applications."),
                "images per second": [round(own, 2) for _, own in rates],
                "relative": [round(own / theirs, 3) for theirs, own in rates],
            }
        )
        print(table({"backbones": found[-1:]}).splitlines()[-1], flush=True)
    result = {**machine(), "backbones": found}
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
