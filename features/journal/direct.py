"""An output as the workers of a cluster use it, be it at a URL: there they have no mirror.

A unit of theirs is made in memory and written to the URL alone. So nothing is left on a machine
that nobody looks after, and no two runs meet in a folder of it.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

from ..durable.remote import copies
from ..durable.remote.server import Told
from . import places, units
from .lock import exclusive
from .outputs import Output


@dataclasses.dataclass(frozen=True)
class Direct(Output):
    """A file at a URL that others make, as a process uses it which makes units of it."""

    began_with: Told | None = None
    """What was there when the run began: all that a worker may take to be known."""

    @property
    def path(self) -> Path:
        """The copy of what has been sealed there."""
        return copies.place(self.name)

    def require_place(self) -> None:
        """The same, and a cache for that copy."""
        super().require_place()
        copies.home(self.name)

    def take_sealed(self) -> bool:
        """Have that copy here, if it is still what the run began with; whether it is.

        Without it nothing is known, and what the file holds is embedded again where it is met.
        """
        if self.began_with is None or self.server.told() != self.began_with:
            return False
        # One process of a machine fetches it for all. (The name stands for nothing but the lock.)
        with exclusive(self.path.with_name("fetching"), wait=True):
            found = copies.fetched(self.server)
        return found is not None and found[1] == self.began_with

    def publish(self, *unit: Any) -> str:
        """Publish a unit of these (see `units.publish`) at the URL; its name."""
        name, data = units.packed(*unit)
        places.put(self.server, name, self.path.with_name(name), data)
        return name


def given_out(output: Output) -> Output:
    """The output of a run that has begun, as workers use it on any machine.

    At a URL the graph that they embed by is there before them.
    """
    if not output.far:
        return Output(os.path.abspath(output.name))
    output.push()
    return Direct(output.name, True, began_with=output.then)
