"""Heads as files: plain scikit-learn in a dictionary, and no code run that was not trusted."""

import errno
import hashlib
import io
import logging
import os
import stat
import warnings
from pathlib import Path
from typing import Any, Final

import joblib
import platformdirs

from ..features import durable
from ..features.errors import HeadError, first_line
from .heads import archive, makeup
from .heads.metadata import FIELDS

FORMAT: Final = "headstart-head"
FORMAT_VERSION: Final = 7
JOBLIB: Final = ".joblib"
SKOPS: Final = ".skops"
SUFFIXES: Final = (JOBLIB, SKOPS)

_STARTS: Final = {JOBLIB: b"\x80", SKOPS: b"PK"}  # a pickle since protocol 2; a zip archive

_MOST_BYTES: Final = 4 << 30
"""Of a file that is read without being trusted. No head of ours comes near: the largest, `svm-rbf`,
holds at most all vectors that it was trained on, whose kernel fitted into memory."""

_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger("headstart")


def write(path: Path, pipeline: Any, metadata: dict[str, Any]) -> None:
    """Write ``{"pipeline": ..., "metadata": ...}`` and remember the file as written here."""
    check_name(path)
    content = {
        "pipeline": pipeline,
        "metadata": {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata},
    }
    file = io.BytesIO()
    try:
        if _suffix(path) == JOBLIB:
            joblib.dump(content, file)
        else:
            import skops.io

            skops.io.dump(content, file)
            # It writes functions, and more, that it cannot read.
            _load_skops(file.getvalue(), trusted=True)
    except Exception as error:
        # Estimators of other libraries may raise anything when they are taken apart.
        raise HeadError(
            f"{path}: this classifier cannot be saved as {_suffix(path)} ({first_line(error)}); "
            f"save it as {JOBLIB if _suffix(path) == SKOPS else SKOPS}, or train another"
        ) from error
    data = file.getvalue()
    # First, so that a kill between the two never leaves a head that asks for trust; an entry
    # without a file harms nobody.
    unlisted = _remember(hashlib.sha256(data).hexdigest())
    with durable.written(path) as temporary:
        temporary.write_bytes(data)
    if unlisted:
        _log.warning(
            "%s: loading it will need --trust, since the list of the heads that this machine wrote "
            "cannot be kept (%s); HEADSTART_STATE may name another folder for that list",
            path,
            unlisted,
        )
    elif len(data) > _MOST_BYTES:
        _log.warning(
            "%s: loading it will need --trust, since it has %.1f GB", path, len(data) / 1e9
        )


def check_name(path: Path) -> None:
    """Refuse a name that a head cannot be saved under, before hours are spent on the head."""
    if _suffix(path) not in SUFFIXES:
        raise HeadError(
            f"{path}: a head is saved as {' or '.join('NAME' + suffix for suffix in SUFFIXES)}; "
            f"name it so"
        )
    durable.require_target(path)


def read(path: Path, *, trust: bool) -> tuple[Any, dict[str, Any]]:
    """Read the pipeline and the metadata that `write` wrote; `trust` as for `load_head`."""
    data = _bytes(path, trust=trust)
    suffix = _suffix(path)
    if suffix not in SUFFIXES or not data.startswith(_STARTS[suffix]):
        raise HeadError(f"{path}: not a head; `headstart train FILE.h5 -o NAME.joblib` makes one")
    digest = hashlib.sha256(data).hexdigest()
    listed, but = _listed(digest)
    trusted = trust or listed
    if suffix == JOBLIB and not trusted:
        raise HeadError(
            f"{path}: this machine did not write it{but}, and loading a {JOBLIB} file "
            f"runs the code in it; if you trust its author, add --trust (SHA-256 {digest})"
        )
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore" if trust else "error", category=InconsistentVersionWarning
            )
            # The bytes that were hashed are those that are loaded.
            if suffix == JOBLIB:
                content = joblib.load(io.BytesIO(data))
            else:
                content = _load_skops(data, trusted=trusted)
    except archive.Foreign as error:
        raise _foreign(path, error, but) from error
    except archive.Surplus as error:
        if _is_exactly(error.version, FORMAT_VERSION):
            raise damaged(path, error, trusted=trusted) from error
        raise _other_version(path, error.version) from error
    except InconsistentVersionWarning as error:
        raise HeadError(
            f"{path}: saved by scikit-learn {error.original_sklearn_version}, here is "
            f"{error.current_sklearn_version}, which may predict differently; train it again, "
            f"install that version, or load it all the same with --trust"
        ) from error
    except Exception as error:
        # Damaged pickles and archives raise nearly any exception there is.
        raise damaged(path, error, trusted=trusted) from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if type(metadata) is not dict or not _is_exactly(metadata.get("format"), FORMAT):
        raise HeadError(f"{path}: it can be loaded, but is not a headstart head")
    if not _is_exactly(metadata.get("format_version"), FORMAT_VERSION):
        raise _other_version(path, metadata.get("format_version"))
    pipeline = content.get("pipeline")
    if not trusted:
        try:
            makeup.require_ours(pipeline)
        except archive.Foreign as error:
            raise _foreign(path, error, but) from error
        except Exception as error:
            # Attributes that are missing, or of any other kind than expected.
            raise damaged(path, error, trusted=False) from error
    return pipeline, metadata


def damaged(
    path: str | os.PathLike[str], why: Exception | str, *, trusted: bool = True
) -> HeadError:
    """The error to raise when a file cannot be loaded, or what it holds cannot be right.

    `trusted` says that trust would change nothing.
    """
    remedy = "" if trusted else "; or, if you trust its author, add --trust"
    return HeadError(
        f"{os.fspath(path)}: damaged or foreign: {first_line(why)}. Copy it again from where it "
        f"was made, or train it again{remedy}"
    )


def _foreign(path: Path, what: archive.Foreign, but: str) -> HeadError:
    return HeadError(
        f"{path}: this machine did not write it{but}, and it holds parts that no head that "
        f"headstart makes has: {first_line(what)}; if you trust its author, add --trust"
    )


def _other_version(path: Path, version: Any) -> HeadError:
    return HeadError(
        f"{path}: head format version {version!r:.20}, this headstart reads version "
        f"{FORMAT_VERSION}; `headstart train FILE.h5 -o {path.name}` makes it again"
    )


def _is_exactly(value: object, expected: object) -> bool:
    return type(value) is type(expected) and value == expected


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _bytes(path: Path, *, trust: bool) -> bytes:
    """What is in a file; pipes and devices may never end, and files may be too large to hold."""
    try:
        with open(_open_regular(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MOST_BYTES and not trust:
                raise HeadError(
                    f"{path}: {size / 1e9:.1f} GB, more than {_MOST_BYTES / 1e9:.1f} GB are read "
                    f"only from those whom you trust: add --trust"
                )
            return file.read(size)
    except OSError as error:
        raise HeadError(f"{path}: this head cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise HeadError(f"{path}: {size / 1e9:.1f} GB do not fit into memory") from error


def _open_regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file; whatever else is there is refused without waiting for it."""
    try:
        descriptor = os.open(path, flags | _AT_ONCE, 0o600)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENXIO):  # folders, and pipes to be written
            raise
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def _load_skops(data: bytes, *, trusted: bool) -> Any:
    import skops.io

    if not trusted:
        archive.require_ours(data, FIELDS)
        return skops.io.loads(data, trusted=sorted(archive.TYPES))
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


# The list of the heads that this machine wrote: a file of SHA-256, one a line. Who can write to it
# can have code run, so it counts only while nobody else can.


def _list_of_ours() -> Path:
    home = os.environ.get("HEADSTART_STATE")
    path = (Path(home) if home else platformdirs.user_state_path("headstart")) / "heads-written"
    if not home and not path.is_absolute():
        raise OSError(f"no home is known to keep {path} in")  # "~", with which no file begins
    return path


def _require_private(path: Path, status: os.stat_result) -> None:
    """Refuse what others may write; Windows has other means to keep them out."""
    if os.name == "nt":
        return
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & _OTHERS:
        raise PermissionError(f"others can write to {path} (`chmod go-w` keeps them out)")


def _open_list(flags: int) -> tuple[Path, int]:
    """The path of the list, and a descriptor of it that nobody else can have filled."""
    path = _list_of_ours()
    if flags & os.O_CREAT:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = _open_regular(path, flags)
    try:
        _require_private(path.parent, path.parent.stat())
        _require_private(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return path, descriptor


def _listed(digest: str) -> tuple[bool, str]:
    """Whether this machine wrote the head of a digest, and why the list does not tell, if so."""
    try:
        _, descriptor = _open_list(os.O_RDONLY)
    except FileNotFoundError:
        return False, ""
    except _NO_LIST as error:
        return False, (
            f", or the list of those that it wrote is of no use ({_reason(error)}; "
            f"HEADSTART_STATE may name another folder for it)"
        )
    with open(descriptor, "rb") as file:
        # A line that is no digest, cut or overwritten, harms no other.
        return digest.encode() in file.read().split(b"\n"), ""


def _remember(digest: str) -> str:
    """Put a head into the list; why that is not possible, if so."""
    entry = f"\n{digest}\n".encode()  # on a line of its own, whatever stands before
    try:
        path, descriptor = _open_list(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            # In one piece, so that processes that write at once do not mix theirs.
            if os.write(descriptor, entry) < len(entry):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except _NO_LIST as error:
        return _reason(error)
    return ""


_NO_LIST: Final = (OSError, RuntimeError, KeyError)  # the latter where no user has a home


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename or '')}: {error.strerror}"
    return first_line(error)
