"""Standard output and error as they may be: absent, closed, full, without a letter that we need."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class Stream(io.TextIOBase):
    """Stands before a standard stream; what that cannot take is escaped, or let go.

    Attributes
    ----------
    lost : OSError or None
        Why the stream takes nothing any more, if it has failed.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        # File names that are not text come out as they are.
        self._ask("reconfigure", errors="surrogateescape")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return getattr(self._stream, "errors", None) or "strict"

    def write(self, text: str) -> int:
        """Write text, with escapes for what the stream cannot show."""
        try:
            self._ask("write", text)
        except UnicodeEncodeError:
            shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            self._ask("write", shown)
        return len(text)

    def flush(self) -> None:
        """Hand on what waits to be written."""
        self._ask("flush")

    def isatty(self) -> bool:
        """Whether somebody reads along."""
        return bool(self._ask("isatty"))

    def fileno(self) -> int:
        """The stream's number; some have none."""
        number = self._ask("fileno")
        if number is None:
            raise io.UnsupportedOperation("fileno")
        return int(number)

    def let_go(self) -> None:
        """Keep Python from failing once more, at exit, on what the stream did not take."""
        with contextlib.suppress(OSError, ValueError):
            if self.lost is not None and self._stream in (sys.__stdout__, sys.__stderr__):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the stream returns; None where there is none, or it fails."""
        if self.lost is not None:
            return None
        try:
            return getattr(self._stream, method)(*arguments, **options)
        except UnicodeEncodeError:
            raise
        except io.UnsupportedOperation:
            return None
        except OSError as error:
            self.lost = error
        except (AttributeError, ValueError):  # it is None, or odd, or closed
            return None
        return None


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Stream, Stream]]:
    """Put a `Stream` before standard output and before standard error."""
    occupy()
    out, err = Stream(sys.stdout), Stream(sys.stderr)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield out, err
    finally:
        out.let_go()
        err.let_go()


def occupy() -> None:
    """Have the numbers of standard streams that are closed taken by what nobody reads."""
    # The first file that is opened gets the number of a closed standard stream, and then whatever
    # a library prints: TensorFlow's messages would be written into a feature file.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets this very number: the lowest that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # workers have it too
