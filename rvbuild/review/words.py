"""Kinds of suspects in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rvbuild.errors import counted
from rvbuild.review.suspect import KINDS, Kind, Suspect

NAMES: Mapping[Kind, str] = {
    "class": "wrong class",
    "spurious": "no object there",
    "missing": "missing label",
    "outline": "wrong outline",
    "duplicate": "duplicate",
}

COLORS: Mapping[Kind, str] = {
    "class": "#e69f00",
    "spurious": "#d55e00",
    "missing": "#56b4e9",
    "outline": "#cc79a7",
    "duplicate": "#f0e442",
}
"""Colours that people with any colour vision can tell apart (Okabe and Ito)."""


def proposal(suspect: Suspect) -> str:
    """Return what would be right, in words."""
    words = {
        "class": f"{suspect.label_class} → {suspect.proposed_class}",
        "spurious": f"remove {suspect.label_class}",
        "missing": f"add {suspect.proposed_class}",
        "outline": f"redraw {suspect.label_class}",
        "duplicate": f"remove {suspect.label_class}",
    }
    changed = suspect.kind == "outline" and suspect.proposed_class not in (None, suspect.label_class)
    return words[suspect.kind] + (f" as {suspect.proposed_class}" if changed else "")


def summary(suspects: Iterable[Suspect]) -> str:
    """Return how many suspects there are, and of which kinds.

    >>> summary([])
    'no suspects'
    """
    counts = Counter(suspect.kind for suspect in suspects)
    if not counts:
        return "no suspects"
    kinds = ", ".join(f"{counts[kind]} {NAMES[kind]}" for kind in KINDS if counts[kind])
    return f"{counted(counts.total(), 'suspect')}: {kinds}"
