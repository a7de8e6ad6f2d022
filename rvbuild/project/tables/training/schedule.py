"""The learning rate of a training over its epochs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, Strict

from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Finding, no_effect, wrong
from rvbuild.settings.train import Schedule


def _increasing(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(b <= a for a, b in itertools.pairwise(value)):
        return wrong(f"expected epochs in increasing order, found {show(value)}")
    return value


Steps: TypeAlias = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False), AfterValidator(_increasing)]
"""Epochs in increasing order."""


def check_schedule(
    schedule: Schedule, step_epochs: tuple[int, ...], warmup_epochs: float, epochs: int, is_set: Callable[[str], bool]
) -> Iterator[Finding]:
    """Find epochs that have no effect, or come after the end.

    Parameters
    ----------
    schedule, step_epochs, warmup_epochs, epochs
        The keys of `[train]`.
    is_set
        Tells whether the user has set a key.
    """
    if schedule != "step":
        if is_set("step_epochs"):
            yield no_effect(
                "step_epochs", f'with schedule = {show(schedule)}; set schedule = "step", or remove it', "schedule"
            )
    elif not step_epochs:
        yield Finding(
            ("step_epochs",),
            'schedule = "step" needs the epochs of the steps, for example step_epochs = [6, 9]',
            (("schedule",),),
        )
    elif step_epochs[-1] >= epochs:
        yield Finding(
            ("step_epochs",),
            f"{step_epochs[-1]} is not before the end: training has {epochs} epochs",
            (("epochs",),),
        )
    if warmup_epochs >= epochs:
        yield Finding(
            ("warmup_epochs",),
            f"{warmup_epochs:g} is not before the end: training has {epochs} epochs",
            (("epochs",),),
        )
