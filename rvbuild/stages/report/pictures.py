"""The names of the pictures of a scene in the report. Rules need them, too, so nothing heavy is imported here."""

from __future__ import annotations

QUICKLOOK = "quicklook.jpg"

MOST_PLACES = 20
"""Maximum number of the worst places of a scene, and of all scenes together."""


def place_picture(number: int) -> str:
    """Return the name of the picture of a place, by its position among the places of its scene."""
    return f"place_{number:02d}.jpg"
