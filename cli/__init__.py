"""The command line: parse, call the library, print; every error becomes one line.

This folder is imported as ``headstart.cli``. Each command imports what it needs, so that help,
which needs nothing but click, comes at once.
"""

from .main import main, run

__all__ = ["main", "run"]
