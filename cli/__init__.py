"""The command line: parse, call the library, and turn every error into one line.

This folder is imported as ``headstart.cli``. Importing it loads click and nothing else of weight:
each command imports what it needs, so that help comes at once.
"""

from .main import main, run

__all__ = ["main", "run"]
