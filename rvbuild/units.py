"""Formatting of ground areas."""

from __future__ import annotations


def area_text(area: float | None) -> str:
    """Format an area for humans.

    >>> area_text(2_500_000.0), area_text(40_000.0), area_text(None)
    ('2.5 km²', '4 ha', '')
    """
    if area is None:
        return ""
    return f"{area / 1e6:.3g} km²" if area >= 1e6 else f"{area / 1e4:.3g} ha"
