"""The declaration of a task for the other packages: names and facts in one place.

The implementation of a task is in `rvbuild.tasks`; its checks of a project's tables are in `rvbuild.project.applied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskSpec:
    """A task.

    Attributes
    ----------
    name : str
        As a project names it.
    module : str
        Dotted path of the implementation, a `rvbuild.tasks.protocol.Task`.
    gives : str
        The prediction, in a few words.
    about : str
        The subject of its keys, in the plural.
    models : tuple of str
        The models that have a name; the first is the default.
    headline : str
        The first of `metrics` in words: what is said first of an evaluation.
    metrics : tuple of str
        The metrics that can select the best epoch; the first is the default.
    raw : tuple of str
        The outputs of infer that predict reads: RAW of the task's module.
    losses : tuple of str
        The losses that have a name; the first is the default. None if models bring their own.
    scratch : tuple of str
        The models among them that have no pretrained weights.
    evaluated : tuple of str
        The outputs that eval reads; those of infer if empty.
    keys : mapping
        The keys of each kind of table that belong to this task alone.
    unused : mapping
        For each kind of table, the keys that have no effect in this task, each with the reason.
    results : tuple of str
        The files that a directory of its predictions may hold, but for those that are named after classes.
    scores : tuple of str
        The axes of what a training backend predicts, after that of the chips: K outputs, H and W of a chip; none if
        only networks of torch can do the task.
    models_have_losses : bool
        Whether models take the targets while they train, and return their losses.
    one_class_is_enough : bool
        Whether a project may have a single class: an object differs from its surroundings.
    """

    name: str
    module: str
    gives: str
    about: str
    models: tuple[str, ...]
    headline: str
    metrics: tuple[str, ...]
    raw: tuple[str, ...]
    losses: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    evaluated: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    models_have_losses: bool = False
    one_class_is_enough: bool = False

    def predictions(self) -> tuple[str, tuple[str, ...]]:
        """Return the stage whose outputs eval reads, and their names."""
        return ("predict", self.evaluated) if self.evaluated else ("infer", self.raw)
