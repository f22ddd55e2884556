"""Errors that headstart raises on purpose; each message is one line a user can act on."""

import difflib
from collections.abc import Iterable


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


def install_command(extra: str) -> str:
    """The command that installs an extra of this package; pip finds it in what is installed."""
    return f'python3 -m pip install "headstart[{extra}]"'


def first_line(error: BaseException | str) -> str:
    """The first line of what an error of another library says, without its final full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most like `name`, whatever its case."""
    folded = {choice.casefold(): choice for choice in choices}
    return folded[difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0)[0]]
