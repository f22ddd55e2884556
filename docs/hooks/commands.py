"""A page of all commands, from what `--help` prints of each."""

from __future__ import annotations

import html
import inspect
import re
import sys
from typing import TYPE_CHECKING

import click
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "reference/commands.md"
BLOCK = re.compile(r"^\x08\n((?:.+\n?)+)", re.MULTILINE)
"""Lines that click does not wrap."""


@event_priority(100)  # before repository.py looks for what the navigation names
def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the page."""
    sys.path[:0] = config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"]
    from headstart.cli.commands import headstart  # which loads nothing of weight

    content = "\n".join(_written(headstart))
    files.append(File.generated(config, PAGE, content=content))
    return files


def _written(group: click.Group) -> Iterator[str]:
    """The lines of the page."""
    whole = click.Context(group, info_name="headstart", **group.context_settings)
    yield "# The commands\n"
    yield _prose(group)
    for name, command in group.commands.items():
        context = click.Context(command, info_name=name, parent=whole)
        yield f"\n## headstart {name}\n"
        yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
        yield _prose(command)
        for parameter in command.get_params(context):
            how, what = parameter.get_help_record(context) or ("", "")
            if what:
                yield f"- `{how}`: {_plain(what)}"


def _prose(command: click.Command) -> str:
    """What a command says of itself."""
    text = inspect.cleandoc(command.help or "")
    return BLOCK.sub(lambda block: f"```text\n{block[1].rstrip()}\n```\n", _plain(text)) + "\n"


def _plain(text: str) -> str:
    """A text in which Markdown finds no emphasis and no HTML but in code."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([*_\[])", r"\\\1", html.escape(piece, False)) for piece in pieces[::2]]
    return "".join(pieces)
