"""Units made by the workers of a cluster: of Dask, of Ray, or of any executor."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor
from importlib.util import find_spec
from typing import Any, cast

from ....features.errors import MissingExtra, WrongUsage, install_command
from .crew import Cluster

Given = Executor | str | Any
"""Who is to make units: see `headstart.extract.extract`. (Any: a client of Dask.)"""

_LIBRARIES = {"dask": "distributed", "ray": "ray"}


def require_usable(given: Given | None, workers: int = 1) -> None:
    """Refuse, before anything is done, what is no executor, or cannot be one here.

    Raises
    ------
    WrongUsage
        If it is neither an executor nor the name of one, or there are `workers` beside it.
    MissingExtra
        If its library is not installed.
    """
    if given is None:
        return
    if workers != 1:
        raise WrongUsage(
            f"workers {workers}: they are of this machine, and there is an executor beside them; "
            f"leave one of the two out"
        )
    if not isinstance(given, str):
        if not callable(getattr(given, "submit", None)):
            raise WrongUsage(
                f"executor: an object with the method submit(), or a text such as "
                f"'dask:tcp://HOST:8786' is expected; received {type(given).__name__}"
            )
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker of a local cluster that starts, and runs the script that started the cluster
        # because it has no `__main__` guard. The process that started it says so, in one line.
        raise SystemExit(1)
    engine, _, address = given.partition(":")
    if engine not in _LIBRARIES or not address:
        raise WrongUsage(
            f"executor {given!r}: use 'dask:tcp://HOST:PORT', 'dask:local', 'ray:auto' or "
            f"'ray:ADDRESS'"
        )
    if find_spec(_LIBRARIES[engine]) is None:
        raise MissingExtra(
            f"--{engine} {address}: {engine} is not installed: {install_command(engine)}"
        )


@contextlib.contextmanager
def crew(given: Given) -> Iterator[Cluster]:
    """Its workers, for as long as they are needed."""
    # What is imported for one of them the others have no use for.
    engine, _, address = given.partition(":") if isinstance(given, str) else ("", "", "")
    if engine == "ray":
        from . import ray

        opened = ray.crew(address)
    elif engine == "dask":
        from . import dask

        opened = dask.crew_at(address)
    elif type(given).__module__.partition(".")[0] == "distributed":
        from . import dask

        opened = dask.crew_of(given)
    else:
        from . import given as any_other

        opened = any_other.crew(cast("Executor", given))
    with opened as found:
        yield found
