"""Entry point: arguments in, exit code out; 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from .commands import headstart


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # --debug works wherever it stands, so that one can add it to the end of a failed command.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # file names that are not text
    try:
        code = headstart.main(arguments, prog_name="headstart", standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:
        if debug:
            raise
        code = _report(error)
    except KeyboardInterrupt:
        if debug:
            raise
        code = _interrupted()
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    from ..features.errors import HeadstartError

    if isinstance(error, click.exceptions.Abort):
        return _interrupted()
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "headstart"
        _say(f"{error.format_message()} See `{command} --help`.")
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # Whoever reads our output has had enough. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, HeadstartError | click.ClickException):
        _say(str(error))
    elif isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _say(f"{place}{error.strerror}")
    else:
        _say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _interrupted() -> int:
    _say("interrupted; what is finished is kept, and the same command goes on from there")
    return 130


def _say(message: str) -> None:
    print("headstart: " + " ".join(message.split("\n")), file=sys.stderr)
