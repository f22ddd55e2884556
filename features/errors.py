"""Errors that headstart raises on purpose; each message is one line a user can act on.

And how such a line is said: names of files and labels are anybody's, and streams may be gone.
"""

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_ACTING: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udc9f]"
)
"""What a terminal acts on instead of showing it: control characters but for the tab, line breaks,
what turns the direction of writing round, and bytes of file names that are control characters."""

_NO_TEXT: Final = re.compile("[\ud800-\udfff]")
"""Bytes of file names that are no text, and halves of characters of UTF-16."""

PACKAGES: Final = {
    "dask": ("distributed>=2024.8",),
    "heif": ("pillow-heif>=1.8",),
    "hf": ("datasets>=3.0",),
    "int8": ("nncf>=2.19", "openvino>=2025.4"),
    "keras": ("keras>=3.8", "tensorflow>=2.18"),
    "onnx": ("onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"),
    "openvino": ("openvino>=2025.4",),
    "pages": ("jinja2>=3.1", "starlette>=1.9", "uvicorn>=0.34"),
    "parquet": ("pyarrow>=16.1",),
    "plots": ("matplotlib>=3.8",),
    "ray": ("ray>=2.40",),
    "remote": (
        *("aiobotocore>=2.16", "aiohttp>=3.10.11", "fsspec>=2025.9", "gcsfs>=2025.9"),
        "s3fs>=2025.9",
    ),
    "tfds": (
        *("tensorflow-datasets>=4.9.7", "tensorflow-metadata>=1.16"),
        "importlib_resources>=6.0",
    ),
}
"""What each extra installs, as pyproject.toml has it, for a checkout that pip knows nothing of.

``keras`` is no extra: it is what every installation has.
"""


class HeadstartError(Exception):
    """Anything a user can fix: catch this one to catch them all."""


class WrongUsage(HeadstartError):
    """An option has a value that is not allowed."""


class SourceError(HeadstartError):
    """The images to read cannot be listed: a wrong folder, an empty one, a bad manifest."""


class BackboneError(HeadstartError):
    """The weights of a backbone are not available, or do not fit it."""


class FeatureFileError(HeadstartError):
    """A feature file cannot be read, trusted or written."""


class ProvenanceMismatch(HeadstartError):
    """Two things were made by different backbones, weights or preprocessing."""


class TrainingError(HeadstartError):
    """A head cannot be trained or scored on these rows."""


class HeadError(HeadstartError):
    """A head file cannot be read, trusted or used."""


class MissingExtra(HeadstartError):
    """A library is needed that is not installed; the message has the command to install it."""


@contextlib.contextmanager
def called(path: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Have errors name a file as the user does: `name`, not the `path` where we have it."""
    try:
        yield
    except HeadstartError as error:
        if name:
            error.args = (str(error).replace(os.fspath(path), name), *error.args[1:])
        raise


def install_command(extra: str) -> str:
    """The command that installs what an extra does, and that by the extra.

    The first is right wherever headstart came from. By the extra it is the same where pip has
    installed headstart; elsewhere pip would take a package of that name from its index.
    """
    return (
        f"python3 -m pip install {_quoted(PACKAGES[extra])}; the same where pip installed "
        f'headstart: python3 -m pip install "headstart[{extra}]"'
    )


def reinstall_command(*libraries: str) -> str:
    """The command that mends libraries which are installed and broken."""
    bounds = {one.split(">=")[0]: one for needed in PACKAGES.values() for one in needed}
    return f"python3 -m pip install --force-reinstall {_quoted(bounds[name] for name in libraries)}"


def _quoted(needed: Iterable[str]) -> str:
    return " ".join(f'"{one}"' for one in needed)


def first_line(error: BaseException | str) -> str:
    """The first line of what an error of another library says, without its final full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def printable(text: str) -> str:
    """The text as one line that no terminal acts on: control characters are escaped."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def encodable(text: str) -> str:
    r"""As `printable`, and what is no text is escaped too (``\xe9``): a page can hold it."""
    return printable(_NO_TEXT.sub(_escaped, text))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number < 0xDD00 else f"\\u{number:04x}"


def say(text: str) -> None:
    """Print one line on standard error; where that is gone, full or odd, there is none to tell."""
    if sys.stderr is None:  # print() would take standard output instead
        return
    line = printable(text)
    try:
        try:
            print(line, file=sys.stderr, flush=True)
        except UnicodeEncodeError:
            print(line.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most like `name`, whatever its case."""
    folded = {choice.casefold(): choice for choice in choices}
    return folded[difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0)[0]]


def count(number: int, thing: str) -> str:
    """``1 image``, ``1,234 images``, ``2 classes``."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"


def because(notes: Sequence[str]) -> str:
    """What took the rows that are missing, for the end of a message."""
    return f" ({'; '.join(notes)})" if notes else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
