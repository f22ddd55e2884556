"""Images -> features: the frozen pass. Only this folder loads TensorFlow, when it is needed.

This folder is imported as ``headstart.extract``.
"""

from .pipeline import extract
from .sources import scan

__all__ = ["extract", "scan"]
