"""A run of a second or two over small images, to be killed in the middle.

python slow_run.py CONFTEST PHOTOS OUT.h5 WORKERS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import sweep
from headstart.extract.pipeline import run


def slowed(embed):
    """An engine's way of embedding, taking its time."""

    def embed_slowly(images):
        time.sleep(len(images) * 0.02)
        return embed(images)

    return embed_slowly


if __name__ == "__main__":
    helpers = sweep.load_helpers(sys.argv[1])
    helpers.cloudpickle.register_pickle_by_value(helpers)
    stub = helpers.StubEmbedding()
    stub.engine.embed = slowed(stub.engine.embed)
    run(stub, Path(sys.argv[2]), Path(sys.argv[3]), workers=int(sys.argv[4]), unit_images=8)
