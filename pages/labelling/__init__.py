"""A page on which images get their labels: served on this machine, kept at once, learned from.

``headstart label FILE.h5`` opens it.
"""

import contextlib
import os
import sys
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ...features.errors import HeadstartError, SourceError, count
from ...features.store import FeatureStore
from ..pictures import Missing, Shown, Texts, shown
from .journal import Journal
from .labels import checked_classes
from .server import Server, listen, require_web
from .session import Session
from .site import Site
from .table import require_table

_LOOKED_FOR: Final = 20
"""Images of which one at least must be where it was."""


def label(
    store: FeatureStore,
    *,
    images: str | os.PathLike[str] | None = None,
    classes: Iterable[str] | str | None = None,
    out: str | os.PathLike[str] = "labels.csv",
    port: int = 0,
    browser: bool = True,
    told: Callable[[str], None] = print,
) -> Path:
    """Serve a page on which the images of a feature file get their labels, until it is interrupted.

    The page shows first what a head that learns along is least certain of. Labels are kept, at
    once, in a journal beside `out`, by the digests of the images: the same command goes on where
    the last one stopped, however that ended. At the end they are written to `out`, a manifest that
    ``headstart extract`` takes without embedding anything again.

    Parameters
    ----------
    store : FeatureStore
        The features of the images, labelled or not.
    images : str or path-like, optional
        The source where the images are now; by default the one that the file was made from.
    classes : iterable of str, or str with commas, optional
        Classes that may be given, in the order of their keys; the page can add more.
    out : str or path-like, default="labels.csv"
        Where the labels are written; the journal is beside it, with the ending ``.jsonl``.
    port : int, default=0
        At which the page is, on this machine alone; 0 for any that is free.
    browser : bool, default=True
        Open the page; its address is told in any case.
    told : callable, optional
        Called with each line that there is to say.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    MissingExtra
        If starlette or uvicorn is not installed.
    SourceError
        If the images are not where they were.
    HeadstartError
        If `out` cannot be written or is something else; if its journal is open in another server;
        if the port is taken.
    WrongUsage
        If nothing could be called as one of the classes.
    """
    require_web()
    named = checked_classes(classes)
    path = Path(out)
    where = None if images is None else os.fspath(images)
    pictures = shown(store, where)
    journal_path = require_table(path, store, pictures.source)
    _require_images(store, pictures)
    listening = listen(port)
    journal = None
    try:
        journal = Journal(journal_path)
        session = Session(store, journal, named)
    except BaseException:
        listening.close()
        if journal is not None:
            journal.close()
        raise
    site = Site(session, pictures, path, where)
    server = Server(listening, site)
    try:
        _tell(session, told)
        server.start()
        session.found.start()
        told(f"open {server.address}")
        if browser and not _opened(server.address):
            told("no browser opens from here: open that address in one on this machine")
        told("Ctrl-C ends it")
        server.wait()
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        server.stop()
        _end(site, told)
    return path


def _tell(session: Session, told: Callable[[str], None]) -> None:
    state, noun = session.state(), session.store.provenance.noun
    labelled = state["images"] - state["unlabelled"]
    told(
        f"{session.store.name}: {count(state['images'], noun)}, {labelled:,} with a label; "
        f"labels are kept in {session.journal.path}"
    )
    if not state["unlabelled"]:
        told(
            f"note: every {noun} has a label; the queue `suspects` has those whose label looks "
            f"wrong"
        )


def _end(site: Site, told: Callable[[str], None]) -> None:
    session = site.session
    try:
        # A list of before would bring back what was undone since.
        if session.labels.changed or site.out.exists():
            told(str(site.write()["said"]))
    except HeadstartError as error:
        told(str(error))
    finally:
        session.stop()
        told(f"stopped; the labels are in {session.journal.path}, and the same command goes on")
        with contextlib.suppress(KeyboardInterrupt):  # who presses it again does not wait
            session.found.wait_until_over()


def _require_images(store: FeatureStore, pictures: Shown) -> None:
    """See that some image is where it should be: without any there is nothing to look at."""
    if isinstance(pictures, Texts):
        return
    step = max(1, len(store) // _LOOKED_FOR)
    reason = ""
    for row in range(0, len(store), step):
        try:
            pictures.read(row)
        except Missing as error:
            reason = reason or f"{store.paths[row]} is {error}"
        else:
            return
    if reason:
        raise SourceError(
            f"{store.name}: none of its images is found in {pictures.source or 'its source'} "
            f"({reason}); say where they are now by --images (in Python images=...)"
        )


def _opened(address: str) -> bool:
    """Whether a browser opens with the page; one in this very terminal would take it over."""
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    ):
        return False
    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return False
