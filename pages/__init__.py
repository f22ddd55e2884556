"""Plots of scores, as PNG files."""
