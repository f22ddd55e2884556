"""Heads as files: plain scikit-learn in a dictionary, and no code run that was not trusted."""

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
from ..features.errors import HeadError, first_line

FORMAT: Final = "headstart-head"
FORMAT_VERSION: Final = 3
JOBLIB: Final = ".joblib"
SKOPS: Final = ".skops"
SUFFIXES: Final = (JOBLIB, SKOPS)

_STARTS: Final = {JOBLIB: b"\x80", SKOPS: b"PK"}  # a pickle since protocol 2; a zip archive

# Types in headstart's own heads that skops does not trust by itself: holders of numbers, and one
# function of scikit-learn. Everything else is up to the user.
_TRUSTED: Final = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.metrics.pairwise.rbf_kernel",
    }
)


def write(path: Path, pipeline: Any, metadata: dict[str, Any]) -> None:
    """Write ``{"pipeline": ..., "metadata": ...}`` and remember the file as written here."""
    check_name(path)
    content = {
        "pipeline": pipeline,
        "metadata": {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata},
    }
    data = io.BytesIO()
    if path.suffix == JOBLIB:
        joblib.dump(content, data)
    else:
        import skops.io

        try:
            skops.io.dump(content, data)
        except Exception as error:
            # Estimators of other libraries may raise anything when they are taken apart.
            raise HeadError(
                f"{path}: skops cannot save this classifier ({first_line(error)}); save it as "
                f"{JOBLIB}"
            ) from error
    with durable.replacing(path) as temporary:
        temporary.write_bytes(data.getbuffer())
    _remember(hashlib.sha256(data.getbuffer()).hexdigest())


def check_name(path: Path) -> None:
    """Refuse a name that a head cannot be saved under, before hours are spent on the head."""
    if path.suffix not in SUFFIXES:
        raise HeadError(
            f"{path}: a head is saved as {' or '.join('NAME' + suffix for suffix in SUFFIXES)}; "
            f"name it so"
        )
    durable.require_target(path)


def read(path: Path, *, trust: bool) -> tuple[Any, dict[str, Any]]:
    """Read the pipeline and the metadata that `write` wrote; `trust` as for `load_head`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadError(f"{path}: this head cannot be read: {error.strerror}") from error
    if path.suffix not in SUFFIXES or not data.startswith(_STARTS[path.suffix]):
        raise HeadError(f"{path}: not a head; `headstart train FILE.h5 -o NAME.joblib` makes one")
    ours = hashlib.sha256(data).hexdigest() in _remembered()
    load = {JOBLIB: _load_joblib, SKOPS: _load_skops}[path.suffix]
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore" if trust else "error", category=InconsistentVersionWarning
            )
            content = load(path, data, trust or ours)
    except HeadError:
        raise
    except InconsistentVersionWarning as error:
        raise HeadError(
            f"{path}: saved by scikit-learn {error.original_sklearn_version}, here is "
            f"{error.current_sklearn_version}, which may predict differently; train it again, "
            f"install that version, or load it all the same with --trust"
        ) from error
    except Exception as error:
        # Damaged pickles and archives raise nearly any exception there is.
        raise HeadError(f"{path}: damaged, it cannot be loaded: {first_line(error)}") from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HeadError(f"{path}: it can be loaded, but is not a headstart head")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise HeadError(
            f"{path}: head format version {version}, this headstart reads version "
            f"{FORMAT_VERSION}; `headstart train FILE.h5 -o {path.name}` makes it again"
        )
    return content.get("pipeline"), metadata


def _load_joblib(path: Path, data: bytes, trusted: bool) -> Any:
    if not trusted:
        raise HeadError(
            f"{path}: this machine did not write it, and loading a {JOBLIB} file runs the code in "
            f"it; if you trust its author, add --trust (SHA-256 {hashlib.sha256(data).hexdigest()})"
        )
    return joblib.load(io.BytesIO(data))  # the bytes that were hashed are those that are loaded


def _load_skops(path: Path, data: bytes, trusted: bool) -> Any:
    import skops.io

    foreign = sorted(set(skops.io.get_untrusted_types(data=data)) - _TRUSTED)
    if foreign and not trusted:
        raise HeadError(
            f"{path}: this machine did not write it, and it holds types that no head that "
            f"headstart makes has: {', '.join(foreign)}; if you trust its author, add --trust"
        )
    return skops.io.loads(data, trusted=[*_TRUSTED, *foreign])


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
