"""A run on a cluster, to be killed in the middle.

python cluster_run.py CONFTEST PHOTOS OUT.h5 EXECUTOR LOG
"""

from __future__ import annotations

import sys
from pathlib import Path

import sweep
from headstart.extract.pipeline import run


class Counted:
    """An engine that takes its time and writes down what it embeds."""

    batch = 4
    calls = 1

    def __init__(self, engine, log):
        self.engine, self.log, self.which = engine, log, 0

    def embed(self, images):
        import os
        import time

        self.which = self.which or time.monotonic_ns()
        time.sleep(len(images) * 0.05)
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()} {self.which} {len(images)}\n")
        return self.engine.embed(images)


def counted(stub, log):
    """The stand-in with such an engine."""
    stub.engine = Counted(stub.engine, log)
    return stub


if __name__ == "__main__":
    helpers = sweep.load_helpers(sys.argv[1])
    helpers.cloudpickle.register_pickle_by_value(helpers)
    helpers.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    photos, out, executor, log = sys.argv[2:]
    stub = counted(helpers.StubEmbedding(), log)
    run(stub, Path(photos), Path(out), executor=executor, unit_images=4)
