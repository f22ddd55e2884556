"""Errors that headstart raises on purpose; each message is one line a user can act on."""

from __future__ import annotations


class HeadstartError(Exception):
    """Anything a user can mend: catch this one to catch them all."""


class WrongUsage(HeadstartError):
    """An option has a value that it cannot have."""


class SourceError(HeadstartError):
    """The images to read cannot be listed: a wrong folder, an empty one, a bad manifest."""


class BackboneError(HeadstartError):
    """The weights of a backbone cannot be had, or do not do."""


class FeatureFileError(HeadstartError):
    """A feature file cannot be read, trusted or written."""


class ProvenanceMismatch(HeadstartError):
    """Two things were made by different backbones, weights or preprocessing."""


class TrainingError(HeadstartError):
    """A head cannot be trained or scored on these rows."""


class HeadError(HeadstartError):
    """A head file cannot be read, trusted or used."""


class MissingExtra(HeadstartError):
    """A part of headstart needs a library that is not installed; the message has the command."""


def install_command(extra: str) -> str:
    """What to type to get an extra of this package; pip finds it in what is installed."""
    return f'python3 -m pip install "headstart[{extra}]"'
