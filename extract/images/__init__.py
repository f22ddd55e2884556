"""Bytes of an image file -> pixels; and the synthetic images that come with the package."""
