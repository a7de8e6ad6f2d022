"""The chips of a training, from the inputs of its stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.scene_images import Imagery
from rvbuild.learn.hooks import TargetOps
from rvbuild.progress import Progress
from rvbuild.settings.chip import ShownBoxes
from rvbuild.settings.classes import ClassName
from rvbuild.stages.train.settings import BackendStageSettings, Pixels, TrainStageSettings
from rvbuild.tasks.protocol import Task


def augmented_ops(task: Task, null_id: int, boxes: ShownBoxes | None) -> TargetOps:
    """Return what is done to the targets of a task in a training; see `Augmentable.window` of `rvbuild.tasks`."""
    window = partial(task.window, null_id=null_id, shown=boxes)
    return TargetOps(task.unpack, task.orient, task.collate, window, task.paste)


def training_chips(
    inputs: Mapping[str, Sequence[Path]],
    settings: TrainStageSettings | BackendStageSettings,
    ops: TargetOps,
    imagery: Mapping[str, Imagery],
    progress: Progress,
) -> Chips:
    """Return the training chips, no more than `train.max_chips`.

    Raises
    ------
    DataError
        There are none.
    """
    chips = Chips(scenes_of(inputs, "train"), ops, imagery)
    if not chips.count:
        scenes = ", ".join(chips.scene_counts) or "no scene at all"
        raise DataError(
            f"there are no training chips: {scenes} yielded none; check scenes.train and the settings that drop chips: "
            f"chip.size_px, chip.within_aoi, chip.max_nodata, chip.keep"
        )
    most = settings["train"].get("max_chips") or chips.count
    if most < chips.count:
        progress.note(f"{most:,} of {chips.count:,} training chips are used")
        chips.choose(most, settings["seed"])
    return chips


def validation_chips(inputs: Mapping[str, Sequence[Path]], ops: TargetOps, imagery: Mapping[str, Imagery]) -> Chips:
    """Return the validation chips, perhaps none; they must fit the training chips.

    Raises
    ------
    DataError
        They do not fit.
    """
    validation = Chips(scenes_of(inputs, "validation"), ops, imagery)
    if validation.count:
        Chips({**scenes_of(inputs, "train"), **scenes_of(inputs, "validation")}, ops, imagery)
    return validation


def class_names(classes: Sequence[ClassName], chips: Chips) -> list[str]:
    """Return the names of the project's classes by id, which must be those of the chips.

    Raises
    ------
    DataError
        They differ.
    """
    names = [item["name"] for item in classes]
    if chips.classes != names:
        raise DataError(
            f"the chips were made for the classes {chips.classes}, the project has {names}; build the chips again"
        )
    return names


def scenes_of(inputs: Mapping[str, Sequence[Path]], split: str) -> dict[str, Sequence[Path]]:
    """Return the files of the chips of each scene of a split, by role."""
    return {role: files for role, files in inputs.items() if role.startswith(f"chips/{split}/")}


def imagery_of(inputs: Mapping[str, Sequence[Path]], pixels: Pixels) -> dict[str, Imagery]:
    """Return the imagery of the scenes whose chips have no images, by the role of their chips."""
    return {f"chips/{scene}": Imagery(inputs[f"pixels/{scene}"], settings) for scene, settings in pixels.items()}
