"""The declaration of a task: its names and properties in one place.

The implementation of a task is in `rvbuild.tasks`; its checks of a project's tables are in `rvbuild.project.applied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TaskSpec:
    """A task.

    Attributes
    ----------
    name : str
        The name in project files.
    module : str
        Dotted path of the implementation, a `rvbuild.tasks.protocol.Task`.
    gives : str
        The prediction, in a few words.
    about : str
        The subject of its keys, in the plural.
    models : tuple of str
        The named models; the first is the default.
    decoders : mapping
        The named models that take an encoder, with their arguments.
    headline : str
        The first of `metrics` in words: what is said first of an evaluation.
    metrics : tuple of str
        The metrics that can select the best epoch; the first is the default.
    summary, of_classes : tuple of str
        The metrics of evaluations: of all classes together, and of each class.
    raw : tuple of str
        The outputs of infer that predict reads: RAW of the task's module.
    losses : tuple of str
        The named losses; the first is the default. Empty if models have their own losses.
    augmentations : tuple of str
        The named augmentations.
    scratch : tuple of str
        The named models without pretrained weights.
    evaluated : tuple of str
        The outputs of predict that eval reads; if empty, eval reads those of infer.
    keys : mapping
        The keys of each kind of table that only this task has.
    unused : mapping
        For each kind of table, the keys that have no effect in this task, each with the reason.
    score_raster : str
        The output of infer with the scores of pixels, on request; empty if infer writes none.
    reviewed : str
        The output of infer whose scores a review takes; empty if it takes none.
    results : tuple of str
            The files that a directory of its predictions may contain, except those named after classes.
    scores : tuple of str
        The axes of the scores that a training backend predicts, after the axis of the chips: K outputs, H and W of a
        chip. Empty if the task needs a network of torch.
        models_have_losses : bool
        Whether models receive the targets during training and return their losses.
    one_class_is_enough : bool
        Whether a project may have a single class: an object differs from its surroundings.
    hub : str
        The name of the task on the Hugging Face hub.
    gives_pixels : bool
        Whether its prediction is a raster of classes.
    drafted : tuple of str
        The outputs of draft that are evaluated as predictions; empty if drafts of the task are not evaluated.
    """

    name: str
    module: str
    gives: str
    about: str
    models: tuple[str, ...]
    headline: str
    metrics: tuple[str, ...]
    summary: tuple[str, ...]
    of_classes: tuple[str, ...]
    raw: tuple[str, ...]
    hub: str
    losses: tuple[str, ...] = ()
    augmentations: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    decoders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluated: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    score_raster: str = ""
    reviewed: str = ""
    results: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    models_have_losses: bool = False
    one_class_is_enough: bool = False
    gives_pixels: bool = False
    drafted: tuple[str, ...] = ()

    def headlines(self, evaluation: Mapping[str, Any], splits: Mapping[str, str]) -> dict[str, float | None]:
        """Return the first of `metrics` by split, that of the test scenes first; None where nothing is labelled.

        Parameters
        ----------
        evaluation
            The content of `eval.json`.
        splits
            The split of each scene.
        """
        by_split = {split: part["summary"] for split, part in evaluation.get("splits", {}).items()}
        if not by_split:
            of_all = evaluation["summary"]["overall"]
            by_split = {splits[scene]: of_all for scene in evaluation["per_scene"] if scene in splits}
        return {split: summary[self.metrics[0]] for split, summary in by_split.items()}

    def predictions(self) -> tuple[str, tuple[str, ...]]:
        """Return the stage whose outputs eval reads, and their names."""
        return ("predict", self.evaluated) if self.evaluated else ("infer", self.raw)
