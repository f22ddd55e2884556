"""What one would rather look at than read: plots of scores as PNG files, and a report as a page."""

from .report import Reported, report

__all__ = ["Reported", "report"]
