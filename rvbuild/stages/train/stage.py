"""The train stage: chips in, a model with its log and curves out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild import tasks
from rvbuild.errors import DataError, classes_that
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.loader import BatchMaker, Loader
from rvbuild.learn.chips.sampling import chances
from rvbuild.learn.curves import draw_curves
from rvbuild.learn.device import reproducible, select_device
from rvbuild.learn.hooks import TargetOps
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.models.expected import expected
from rvbuild.learn.normalize import Normalizer, from_stats, standardized
from rvbuild.learn.training import Data, Training
from rvbuild.learn.trajectory import resume_ignores
from rvbuild.progress import Progress
from rvbuild.stages.train.chips import class_names, imagery_of, training_chips, validation_chips
from rvbuild.stages.train.start import Start, build_from, open_start, require_figures


def run(
    inputs: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Any],
    outputs: Path,
    progress: Progress,
    resume: Path | None = None,
) -> None:
    """Train a model.

    Parameters
    ----------
    inputs
        `chips/train/<id>` and `chips/validation/<id>`: a scene's chips, `index.json` and shards. `pixels/train/<id>`
        and so on: the image of a scene whose chips have none. `stats`: a `stats.json`. `weights`: a file or a
        bundle to start from, if one is given. `code`: the user's Python files.
    settings
        `task`, `classes`, `null_id`, `chip_px`, `train`, `seed`; `normalize` if the images have a transformer that
        needs statistics; `pixels`, what opens the image of a scene whose chips have none, by `train/<id>`.
    outputs
        Receives `model.safetensors`, `model.json`, `log.jsonl` and `curves.svg`; with `train.checkpoints`, also
        `epoch-001.safetensors` and so on, the model as it would be if the training had ended there.
    progress
        Receives epochs, chips and scores.
    resume
        A directory for checkpoints: a training that was killed continues there. It must belong to these inputs, and to
        these settings but for what `rvbuild.learn.trajectory.resume_ignores` names.

    Raises
    ------
    DataError
        There are no training chips or labels, or the chips of scenes do not match.
    ModelError
        The model, the loss, an augmentation or the device cannot be used, or the training diverges.
    """
    train, seed = settings["train"], int(settings["seed"])
    task = tasks.get(settings["task"])
    ops = TargetOps(task.unpack, task.orient, task.collate)
    imagery = imagery_of(inputs, settings)
    chips = training_chips(inputs, settings, ops, imagery, progress)
    splits = {"train": chips}
    validation = validation_chips(inputs, ops, imagery)
    if validation.count:
        splits["validation"] = validation
    elif train["select"] == "best" or train["patience"]:
        option = 'select = "best"' if train["select"] == "best" else "patience"
        raise DataError(
            f"train.{option} needs validation chips, but there are none; check scenes.validation and the chip settings"
        )
    start = open_start(inputs["weights"][0]) if train["pretrained"] == "bundle" else None
    info = _describe(inputs, settings, chips, start)
    for split, some in splits.items():
        if never := some.never_shown(info.output_ids):
            what = "not learnt" if split == "train" else "not in the scores of epochs"
            progress.note(f"no {split} chip shows {classes_that(never, f'is {what}', f'are {what}')}")
    augmenter = Augmenter(train["augment"], info.normalize, chips.dtype, chips.bands, ops)
    device = select_device(train["device"], "train.device")
    with reproducible(seed, device, train.get("threads")), closing(chips), closing(validation):
        if start is not None:
            model = build_from(start, info, progress.note)
        else:
            model = models.build(
                info.task,
                info.model,
                bands=info.bands,
                outputs=len(info.outputs),
                args=info.model_args,
                pretrained=_pretrained(inputs, train),
                note=progress.note,
            )
        loader = Loader(BatchMaker(splits, ops, augmenter, seed), int(train["workers"]), ahead=not augmenter.own_code)
        training = Training(
            model,
            Data(loader, chips.count, validation.count, _chances(settings, chips)),
            task.objective(train, info.outputs, info.output_ids, chips.class_counts),
            Normalizer(info),
            train,
            seed=seed,
            device=device,
            progress=progress,
        )
        keep = (resume or outputs) if train.get("checkpoints") else None
        trained = training.run(resume, _identity(settings, chips, validation), keep)
    save_model(outputs, trained.weights, info)
    if resume is not None:
        for name in trained.epochs:
            shutil.copyfile(resume / name, outputs / name)
    log = "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in trained.lines)
    (outputs / "log.jsonl").write_text(log, encoding="utf-8")
    (outputs / "curves.svg").write_text(draw_curves(trained.lines, trained.kept_epoch), encoding="utf-8")


def _chances(settings: Mapping[str, Any], chips: Chips) -> np.ndarray | None:
    """Return the probability of each training chip to be drawn; None if each comes once in an epoch."""
    sampling = settings["train"].get("sampling", "all")
    if sampling == "all":
        return None
    if len(chips.chip_class_counts) != chips.count:
        raise DataError(
            "train.sampling needs class counts of each chip, which the chip index does not have; build the chips again"
        )
    return chances(chips.chip_class_counts, chips.classes, int(settings["null_id"]), sampling)


def _describe(
    inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], chips: Chips, start: Start | None = None
) -> ModelInfo:
    """Return the content of `model.json`, without user code."""
    train, classes, null_id = settings["train"], settings["classes"], int(settings["null_id"])
    names = class_names(settings, chips)
    return ModelInfo(
        task=settings["task"],
        model=train["model"],
        model_args=dict(train["model_args"]),
        bands=chips.bands,
        dtype=chips.dtype,
        outputs=[name for number, name in enumerate(names) if number != null_id],
        classes=[dict(entry) for entry in classes],
        null_id=null_id,
        chip_px=int(settings["chip_px"]),
        normalize=_normalization(inputs, settings, chips, start),
    )


def _normalization(
    inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], chips: Chips, start: Start | None
) -> dict[str, Any]:
    """Return the `normalize` entry of the model."""
    train, how = settings["train"], settings.get("normalize")
    asked = train.get("normalize", "auto")
    if asked == "pretrained" and start is not None:
        return start.normalization(chips.bands, chips.dtype)
    mean, std = _figures(asked, train["model"])
    stats = {}
    if chips.dtype != "uint8" or how is not None or 0 < len(mean) < chips.bands:
        if not inputs.get("stats"):
            raise DataError(
                f"imagery of type {chips.dtype} needs the statistics of the analyze stage, but there are none"
            )
        stats = json.loads(inputs["stats"][0].read_text(encoding="utf-8"))
    found = from_stats(stats, chips.dtype, chips.bands, float(train["max_stds"]), how)
    if asked == "auto":
        return found
    if asked != "pretrained":
        require_figures(mean, chips.bands)
    return standardized(found, mean, std, stats, chips.bands)


def _figures(asked: str | Mapping[str, Any], model: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and the standard deviation of each band that `train.normalize` sets; none for `auto`."""
    if asked == "auto":
        return (), ()
    if isinstance(asked, str):
        return expected(model)
    return asked["mean"], asked["std"]


def _pretrained(inputs: Mapping[str, Sequence[Path]], train: Mapping[str, Any]) -> bool | Path:
    return inputs["weights"][0] if inputs.get("weights") else bool(train["pretrained"])


def _identity(settings: Mapping[str, Any], chips: Chips, validation: Chips) -> str:
    """Return the properties that a checkpoint must share with this training, in case directories are mixed up."""
    ignored = resume_ignores(settings["train"])
    # The place of the pixels does not matter: chips hold their digests.
    path = {key: value for key, value in settings.items() if key != "pixels"}
    path = {**path, "train": {key: value for key, value in settings["train"].items() if key not in ignored}}
    counts = [
        chips.scene_counts,
        chips.class_counts.tolist(),
        validation.scene_counts,
        validation.class_counts.tolist(),
    ]
    return json.dumps([path, counts], sort_keys=True, ensure_ascii=False)
