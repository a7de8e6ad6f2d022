"""Settings that do not affect the trajectory of a training. Pure: planning imports this module, so no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDLESS_SCHEDULES = ("constant", "step")
"""The schedules whose learning rate at an epoch does not depend on how many epochs there will be."""


def resume_ignores(train: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the train settings that do not affect what happens at each epoch.

    A checkpoint may be continued under any values of these: they only say how chips are read, when training ends, and
    which of its epochs is kept.

    Parameters
    ----------
    train
        The train settings.

    Examples
    --------
    >>> resume_ignores({"schedule": "constant"})
    ('workers', 'select', 'patience', 'epochs')
    >>> resume_ignores({"schedule": "one_cycle"})
    ('workers', 'select', 'patience')
    """
    ignored = ("workers", "select", "patience")
    return (*ignored, "epochs") if train["schedule"] in ENDLESS_SCHEDULES else ignored
