"""Why a label is suspected, in words with figures."""

from __future__ import annotations

import math

from rvbuild.review.finding.objects import Item, Place


def of_label(kind: str, name: str, item: Item, proposed_class: str | None, elsewhere: bool) -> str:
    """Return why a label is suspected.

    Parameters
    ----------
    kind
        The kind of error.
    name
        Of the class of the label.
    item
        The label.
    proposed_class
        The class that would be right.
    elsewhere
        Whether there is an object without a label near by.
    """
    seen = item.evidence
    inside, around = _percent(seen.inside), _percent(seen.around)
    if kind == "duplicate":
        return f"Another label overlaps it by {_share(item.overlap)} (intersection over union)"
    here = f"The probability of {name} is {inside} inside and {around} around"
    if kind == "class":
        return f"Inside, the probability of {proposed_class} is {_percent(seen.other)} and that of {name} {inside}"
    if kind == "spurious":
        return f"{here}: nothing stands out"
    if elsewhere:
        return f"{here}; near by, an object without a label stands out more"
    if seen.better_size > seen.better_place:
        return f"{here}; with sides {_factor(seen.factor)} times as long, it would fit better"
    return f"{here}; {_way(*seen.shift)}, it would fit better"


def of_place(name: str, place: Place) -> str:
    """Return why an object seems to lack a label."""
    seen = place.evidence
    return (
        f"The probability of {name} is {_percent(seen.inside)} here and {_percent(seen.around)} around, without a label"
    )


def _percent(log_odds: float) -> str:
    if not math.isfinite(log_odds):
        return "unknown"
    share = 1 / (1 + math.exp(-log_odds))
    return "under 1 %" if share < 0.005 else "over 99 %" if share > 0.995 else _share(share)


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _factor(factor: float) -> str:
    return f"{factor:.2g}"


def _way(x: float, y: float) -> str:
    """Return a way in pixels, in words."""
    parts = [f"{abs(x):.0f} px {'right' if x > 0 else 'left'}"] if round(x) else []
    parts += [f"{abs(y):.0f} px {'down' if y > 0 else 'up'}"] if round(y) else []
    return " and ".join(parts) if parts else "a little away"
