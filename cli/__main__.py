"""``python -m headstart.cli`` does what the command ``headstart`` does."""

from . import run

run()
