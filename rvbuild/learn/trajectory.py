"""Settings that do not affect the trajectory of a training. Pure: planning imports this module, so no torch here."""

from __future__ import annotations

ENDLESS_SCHEDULES = ("constant", "step")
"""The schedules whose learning rate at an epoch does not depend on how many epochs there will be."""


def resume_ignores(schedule: str) -> tuple[str, ...]:
    """Return the keys of the train settings that do not affect what happens at each epoch.

    A checkpoint may be continued under any values of these: they only say how chips are read, when training ends, and
    which of its epochs is kept.

    Parameters
    ----------
    schedule
        Of the train settings.

    Examples
    --------
    >>> resume_ignores("constant")
    ('workers', 'select', 'patience', 'epochs')
    >>> resume_ignores("one_cycle")
    ('workers', 'select', 'patience')
    """
    ignored = ("workers", "select", "patience")
    return (*ignored, "epochs") if schedule in ENDLESS_SCHEDULES else ignored
