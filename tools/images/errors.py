"""What can go wrong while images are built; each message says what to do."""

from __future__ import annotations

from segue.errors import SegueError


class ImageError(SegueError):
    """An image cannot be built, or its archive cannot be read."""


class NoEngine(ImageError):
    """Nothing on this machine can build an image."""


class NoBase(ImageError):
    """The base can neither be pulled nor made here."""


class BuildFailed(ImageError):
    """The engine ran the recipe and failed; the message has its last lines and the file with all of them."""
