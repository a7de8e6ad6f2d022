"""Which epoch of a training is kept, and when a training ends early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, no_effect

METRICS = {spec.name: spec.metrics for spec in SPECS.values()}
"""The metrics that can select the best epoch, by task; the first is the default."""


@dataclass(frozen=True)
class Selection:
    """The keys of `[train]` about the choice of an epoch."""

    select: Literal["last", "best"]
    metric: str | None
    patience: int
    validation: bool
    epochs: int

    def check(self, context: Context, is_set: Callable[[str], bool]) -> Iterator[Finding]:
        """Find metrics of other tasks, and what looks at scores that there are not."""
        metrics = METRICS[context.task]
        if self.metric is not None and self.metric not in metrics:
            choice = " or ".join(show(name) for name in metrics)
            yield Finding(("select_metric",), f"expected {choice} for {context.task}, found {show(self.metric)}")
        if not context.has_validation:
            if self.select == "best":
                yield Finding(
                    ("select",), '"best" needs validation scenes to choose by; add some, or set select = "last"'
                )
            if self.patience:
                yield Finding(
                    ("patience",), "early stopping needs validation scenes to watch; add some, or set patience = 0"
                )
        elif not self.validation:
            for key in ("select", "patience"):
                if is_set(key) and getattr(self, key) not in ("last", 0):
                    message = (
                        f"{show(getattr(self, key))} looks at the scores of epochs, and validation = false scores none"
                    )
                    yield Finding((key,), message, (("validation",),))
        if is_set("select_metric") and self.select == "last" and not self.patience:
            yield no_effect("select_metric", 'with select = "last" and patience = 0', "select", "patience")
        if self.patience >= self.epochs:
            yield Finding(
                ("patience",),
                f"{self.patience} can never be used up: training has {self.epochs} epochs",
                (("epochs",),),
            )
