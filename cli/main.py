"""Entry point: arguments in, exit code out; 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import gc
import logging
import os
import signal
import sys
import traceback
import warnings
from types import TracebackType
from typing import NoReturn

import click

from .interrupts import INTERRUPTED, listen
from .streams import guarded, occupy


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line, by default that of the process, and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # --debug works wherever it stands, so that one can add it to the end of a failed command.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    lines = _Lines()
    logging.getLogger("headstart").addHandler(lines)
    try:
        with guarded() as (out, _):
            code = _run(arguments, debug=debug)
            out.flush()
            if out.lost is not None and not isinstance(out.lost, BrokenPipeError):
                code = _report_lost(out.lost, arguments, code)
    finally:
        logging.getLogger("headstart").removeHandler(lines)
    sys.exit(code)


def run() -> NoReturn:
    """Be the command `headstart`: `main` on the arguments of the process."""
    sys.excepthook = _traceback
    occupy()
    listen()
    try:
        main()
    finally:
        # What is left takes no time, unless threads are waited for: then a further Ctrl-C may end
        # it without a word.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        # At exit Python searches all objects of all libraries for garbage: 0.1 to 0.3 s, a tenth of
        # what predicting a few images takes. Everything else that it does at exit stays: workers
        # stop, temporary files go, streams are flushed.
        gc.freeze()


class _Lines(logging.Handler):
    """Prints what the library logs, one line each, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(sys.stderr):
            _say(record.getMessage())


def _run(arguments: list[str], *, debug: bool) -> int:
    """Run a command; the exit code."""
    try:
        with warnings.catch_warnings():
            if not debug:
                # Warnings are for those who call the libraries: us, not the user.
                warnings.simplefilter("ignore")
                os.environ.setdefault("PYTHONWARNINGS", "ignore")  # in worker processes
            from .commands import headstart

            code = headstart.main(arguments, prog_name="headstart", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: BaseException) -> int:
    """Say in one line what went wrong, and return the exit code."""
    from ..features import HeadstartError, WrongUsage

    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        said = str(error.__cause__ or error)  # click wraps the interrupt
        _say("interrupted" + (f"; {said}" if said else ""))
        return INTERRUPTED
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "headstart"
        _say(f"{_joined(error.format_message())} See `{command} --help`.")
        return error.exit_code
    if isinstance(error, HeadstartError | click.ClickException):
        _say(str(error))
        return 2 if isinstance(error, WrongUsage) else 1
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _say(f"{place}{error.strerror}")
    else:
        what = _joined(str(error))
        _say(f"internal error: {type(error).__name__}: {what} (--debug shows where)")
    return 1


def _report_lost(lost: OSError, arguments: list[str], code: int) -> int:
    """Say that standard output did not take all, and return the exit code.

    A command that writes a file has done its work all the same.
    """
    from .commands import headstart

    command = headstart.commands.get(next(iter(arguments), ""))
    writes = command is not None and any(option.name == "out" for option in command.params)
    done = "; the work itself is done" if writes and code == 0 else ""
    _say(f"standard output cannot be written: {lost.strerror or lost}{done}")
    return code if writes else code or 1


def _say(message: str) -> None:
    from ..features.errors import say

    say(f"headstart: {message}")


def _joined(text: str) -> str:
    return " ".join(text.splitlines())


def _traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what `--debug` shows; names in it reach no terminal as they are, either."""
    from ..features.errors import say

    for lines in traceback.format_exception(kind, error, trace):
        for line in lines.splitlines():
            say(line)
