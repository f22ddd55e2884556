"""Images that a process dies of; worker processes import this."""

from __future__ import annotations

import os

from headstart.extract.sources.image import ImageReference


class Deadly(ImageReference):
    """An image that no process survives."""

    def read(self):
        os._exit(9)
