"""Heads as files: plain scikit-learn in a dictionary, and no code run that was not trusted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any, Final

import joblib
import platformdirs

from ..features import durable
from ..features.errors import HeadError

FORMAT: Final = "headstart-head"
FORMAT_VERSION: Final = 1
SUFFIX: Final = ".joblib"

_PICKLE_START: Final = b"\x80"  # first byte of every pickle since protocol 2


def write(path: Path, pipeline: Any, metadata: dict[str, Any]) -> None:
    """Write ``{"pipeline": ..., "metadata": ...}`` and remember the file as written here.

    Raises
    ------
    HeadError
        If the name does not end in ``.joblib`` or its folder is missing.
    OSError
        If it cannot be written; what stood there is untouched.
    """
    check_name(path)
    content = {
        "pipeline": pipeline,
        "metadata": {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata},
    }
    with durable.replacing(path) as temporary:
        joblib.dump(content, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    _remember(digest)


def check_name(path: Path) -> None:
    """Refuse a name that a head cannot be saved under, before hours are spent on the head.

    Raises
    ------
    HeadstartError
        Saying which names do.
    """
    if path.suffix != SUFFIX:
        raise HeadError(f"{path}: a head is saved as a {SUFFIX} file; name it NAME{SUFFIX}")
    durable.require_target(path)


def read(path: Path, *, trust: bool) -> tuple[Any, dict[str, Any]]:
    """Read what `write` wrote.

    Parameters
    ----------
    path : Path
        The file.
    trust : bool
        Load a file that this machine did not write. A ``.joblib`` file is a pickle: loading it
        runs whatever code its author put in.

    Returns
    -------
    pipeline, metadata

    Raises
    ------
    HeadError
        If it is missing, no head, damaged, not trusted, or made by another scikit-learn.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadError(f"{path}: this head cannot be read: {error.strerror}") from error
    if not data.startswith(_PICKLE_START):
        raise HeadError(f"{path}: not a head; `headstart train FILE.h5 -o NAME.joblib` makes one")
    digest = hashlib.sha256(data).hexdigest()
    if not trust and digest not in _remembered():
        raise HeadError(
            f"{path}: this machine did not write it, and loading a {SUFFIX} file runs the code in "
            f"it; if you trust its author, add --trust (SHA-256 {digest})"
        )
    content = _unpickled(path, data, trust=trust)
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HeadError(f"{path}: a pickle, but not a headstart head")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise HeadError(
            f"{path}: head format version {metadata.get('format_version')}, this headstart reads "
            f"version {FORMAT_VERSION}; train it again from its feature file"
        )
    return content["pipeline"], metadata


def _unpickled(path: Path, data: bytes, *, trust: bool) -> Any:
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        # The bytes that were hashed are the bytes that are loaded.
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore" if trust else "error", category=InconsistentVersionWarning
            )
            return joblib.load(io.BytesIO(data))
    except InconsistentVersionWarning as error:
        raise HeadError(
            f"{path}: saved by scikit-learn {error.original_sklearn_version}, here is "
            f"{error.current_sklearn_version}, which may predict differently; train it again, "
            f"install that version, or load it all the same with --trust"
        ) from error
    except Exception as error:
        # Damaged pickles raise nearly any exception there is.
        raise HeadError(f"{path}: damaged, it cannot be loaded: {error}") from error


def _list_of_ours() -> Path:
    home = os.environ.get("HEADSTART_STATE")
    return (Path(home) if home else platformdirs.user_state_path("headstart")) / "heads-written"


def _remembered() -> set[str]:
    try:
        return set(_list_of_ours().read_text("ascii").split())
    except (OSError, UnicodeDecodeError):
        return set()


def _remember(digest: str) -> None:
    # Without a writable home the head is saved all the same; loading it will ask for trust.
    with contextlib.suppress(OSError):
        ours = _list_of_ours()
        ours.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ours.open("a", encoding="ascii") as file:
            file.write(digest + "\n")
