"""Entry point: arguments in, exit code out; 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import gc
import logging
import os
import sys
import warnings
from typing import NoReturn

import click


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line, by default that of the process, and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # --debug works wherever it stands, so that one can add it to the end of a failed command.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # file names that are not text
    lines = _Lines()
    logging.getLogger("headstart").addHandler(lines)
    try:
        with warnings.catch_warnings():
            if not debug:
                # Warnings are for those who call the libraries: us, not the user.
                warnings.simplefilter("ignore")
                os.environ.setdefault("PYTHONWARNINGS", "ignore")  # in worker processes
            from .commands import headstart

            code = headstart.main(arguments, prog_name="headstart", standalone_mode=False)
        print(end="", flush=True)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        code = _report(error)
    finally:
        logging.getLogger("headstart").removeHandler(lines)
    sys.exit(code if isinstance(code, int) else 0)


def run() -> NoReturn:
    """Be the command `headstart`: `main` on the arguments of the process."""
    try:
        main()
    finally:
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


def _report(error: BaseException) -> int:
    """Say in one line what went wrong, and return the exit code."""
    from ..features import HeadstartError, WrongUsage

    _let_go_of_output()
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        said = str(error.__cause__ or error)  # click wraps the interrupt
        _say("interrupted" + (f"; {said}" if said else ""))
        return 130
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "headstart"
        _say(f"{error.format_message()} See `{command} --help`.")
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return 1  # the reader of our output has closed it
    if isinstance(error, HeadstartError | click.ClickException):
        _say(str(error))
        return 2 if isinstance(error, WrongUsage) else 1
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _say(f"{place}{error.strerror}")
    else:
        _say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _let_go_of_output() -> None:
    """If standard output is closed, keep Python from failing on it again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    print("headstart: " + " ".join(message.split("\n")), file=sys.stderr)
