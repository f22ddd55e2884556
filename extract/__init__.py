"""Images -> features: the frozen pass. Only this folder loads TensorFlow, when it is needed.

This folder is imported as ``headstart.extract``.
"""

from .pipeline import Summary, extract
from .sources import scan

__all__ = ["Summary", "extract", "scan"]
