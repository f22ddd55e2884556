"""What takes longer than a label: done in a process of its own, and told in a sentence."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ...features import durable
from ...features.child import ChildDied, call
from ...features.errors import HeadstartError, WrongUsage, first_line
from .table import bring, train_head

_NICE: Final = 10
"""By how much a process gives way to the page."""


class Jobs:
    """One job at a time, beside the page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = ""
        self._ended: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """What is running, by name, and how the last one ended."""
        with self._lock:
            return {"running": self._running, **self._ended}

    def begin(self, name: str, work: Callable[[], str]) -> None:
        """Do it beside; what it returns, or the line of its error, is told by `state`.

        Raises
        ------
        WrongUsage
            If another one is running.
        """
        with self._lock:
            if self._running:
                raise WrongUsage(f"{self._running} is still running; wait until it has ended")
            self._running, self._ended = name, {}
        threading.Thread(target=self._do, args=(name, work), daemon=True, name=name).start()

    def _do(self, name: str, work: Callable[[], str]) -> None:
        failed = True
        try:
            said = work()
            failed = False
        except HeadstartError as error:
            said = str(error)
        except ChildDied as error:
            said = f"the process {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the page says so and goes on
            said = f"{type(error).__name__}: {first_line(error)}"
        with self._lock:
            self._running = ""
            self._ended = {"ended": name, "said": said, "failed": failed}


def apart(function: Callable[..., str], *arguments: Any, beside: Path) -> str:
    """Call a function in a process of its own; what it says comes by a file that lies `beside`.

    It takes memory and time that the page keeps for itself, and loads libraries that it never will.
    """
    with durable.folder_beside(beside) as folder:
        said = folder / "said.json"
        call(_say, function, arguments, said)
        told: str = json.loads(said.read_text(encoding="utf-8"))
        return told


def _say(function: Callable[..., str], arguments: tuple[Any, ...], out: Path) -> None:
    if hasattr(os, "nice"):
        os.nice(_NICE)
    out.write_text(json.dumps(function(*arguments)), encoding="utf-8")


def bring_apart(path: Path, source: str, labels: dict[bytes, str]) -> str:
    """Bring labels into a feature file, apart; see `table.bring`."""
    return apart(bring, path, source, labels, beside=path)


def train_apart(path: Path, out: Path) -> str:
    """Train a head on a feature file, apart; see `table.train_head`."""
    return apart(train_head, path, out, beside=out)
