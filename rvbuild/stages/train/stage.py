"""The train stage: chips in, a model with its log and curves out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash
from torch import nn

from rvbuild import tasks
from rvbuild.cores import part_of_work, thread_count
from rvbuild.errors import DataError, classes_that
from rvbuild.geo.raster.stats import ImageFigures
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.loader import BatchMaker, Loader
from rvbuild.learn.chips.mixing import Mixer
from rvbuild.learn.chips.sampling import chances
from rvbuild.learn.curves import draw_curves
from rvbuild.learn.device import reproducible, select_device
from rvbuild.learn.logs.epochs import EpochLog, Sink
from rvbuild.learn.logs.files import as_text
from rvbuild.learn.logs.open import open_sinks
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.models.expected import expected
from rvbuild.learn.models.pretrained.weights import weights_path
from rvbuild.learn.normalize import Normalizer, from_stats, standardized
from rvbuild.learn.passes.base import Data
from rvbuild.learn.passes.sharded import Sharded
from rvbuild.learn.passes.whole import Whole
from rvbuild.learn.shards.group import Alone, Group, connected
from rvbuild.learn.shards.meeting import There
from rvbuild.learn.shards.processes import Work, cards_of, run_together
from rvbuild.learn.steps.encoder import Encoder
from rvbuild.learn.training import Training
from rvbuild.learn.trajectory import resume_ignores
from rvbuild.progress import Progress
from rvbuild.project.tasks.augmentations import MIXING
from rvbuild.settings.normalize import NormalizeSettings, StandardSettings
from rvbuild.settings.train import TrainSettings, of_encoder
from rvbuild.stages.train.chips import augmented_ops, class_names, imagery_of, training_chips, validation_chips
from rvbuild.stages.train.settings import TrainStageSettings
from rvbuild.stages.train.start import Start, build_from, open_start, require_figures


def run(
    inputs: Mapping[str, Sequence[Path]],
    settings: TrainStageSettings,
    outputs: Path,
    progress: Progress,
    resume: Path | None = None,
    live: Path | None = None,
) -> None:
    """Train a model.

    Parameters
    ----------
    inputs
        `chips/train/<id>` and `chips/validation/<id>`: a scene's chips, `index.json` and shards. `pixels/train/<id>`
        and so on: the image of a scene whose chips have none. `stats`: a `stats.json`. `weights`: a file or a
        bundle to start from, if one is given. `code`: the user's Python files.
    settings
        See `TrainStageSettings`.
    outputs
        Receives `model.safetensors`, `model.json`, `log.jsonl` and `curves.svg`; with `train.checkpoints`, also
        `epoch-001.safetensors` and so on, the model as it would be if the training had ended there.
    progress
        Receives epochs, chips and scores.
    resume
        A directory for checkpoints: a training that was killed continues there. It must belong to these inputs, and to
        these settings but for what `rvbuild.learn.trajectory.resume_ignores` names.
    live
        The file that grows by a line of the log when an epoch ends; what `train.log` names is written beside it.

    Raises
    ------
    DataError
        There are no training chips or labels, or the chips of scenes do not match.
    ModelError
        The model, the loss, an augmentation or the device cannot be used, or the training diverges.
    """
    train = settings["train"]
    shards, processes = train.get("shards", 1), train.get("processes", 1)
    if (part := part_of_work()) is not None and part.processes > 1:
        device, meeting = select_device(train["device"], "train.device"), There(part.host, part.port)
        with connected(shards, part.rank, part.processes, meeting, device) as group:
            train_part(inputs, settings, outputs, group, progress, resume, live)
        return
    if processes == 1 or part is not None:
        train_part(inputs, settings, outputs, Alone(shards), progress, resume, live)
        return
    kwargs = {"inputs": inputs, "settings": settings, "outputs": outputs, "resume": resume, "live": live}
    cards = cards_of(processes, train["device"])
    function = f"{train_part.__module__}:{train_part.__qualname__}"
    run_together(Work(function, kwargs, shards, processes, train["device"], cards), progress)


def train_part(
    inputs: Mapping[str, Sequence[Path]],
    settings: TrainStageSettings,
    outputs: Path,
    group: Group,
    progress: Progress,
    resume: Path | None = None,
    live: Path | None = None,
) -> None:
    """Train a model as one of a group of processes, of which the first writes the files; see `run`."""
    train, seed = settings["train"], settings["seed"]
    task = tasks.get(settings["task"])
    ops = augmented_ops(task, settings["null_id"], settings.get("boxes"))
    imagery = imagery_of(inputs, settings.get("pixels", {}))
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
    info = describe(inputs, settings, chips, start)
    for split, chips_of_split in splits.items():
        if missing := chips_of_split.never_shown(info.output_ids):
            effect = "not learnt" if split == "train" else "not in the scores of epochs"
            progress.note(f"no {split} chip shows {classes_that(missing, f'is {effect}', f'are {effect}')}")
    names, args = train["augment"], train.get("augment_args", {})
    augmenter = Augmenter(names, info.normalize, chips.dtype, chips.bands, ops, args)
    mixer = Mixer(names, args, ops) if set(names) & set(MIXING) else None
    device = select_device(train["device"], "train.device")
    shards = train.get("shards", 1)
    threads = train.get("threads") or max(1, thread_count() // shards)
    with reproducible(seed, device, threads), closing(chips), closing(validation):
        if start is not None:
            model = build_from(start, info, progress.note)
        else:
            with group.in_turn():  # the first one downloads weights
                model = models.build(
                    info.task,
                    info.model,
                    bands=info.bands,
                    outputs=len(info.outputs),
                    args=info.model_args,
                    pretrained=_pretrained(inputs, train),
                    note=progress.note,
                    chip_px=info.chip_px,
                )
        loader = Loader(BatchMaker(splits, ops, augmenter, seed, mixer), train["workers"], ahead=not augmenter.own_code)
        objective = task.objective(train, info.outputs, info.output_ids, chips.class_counts)
        data = Data(loader, chips.count, validation.count, _chances(settings, chips))
        make = Whole if shards == 1 else partial(Sharded, group=group)
        passes = make(
            model,
            data,
            objective,
            Normalizer(info),
            train,
            seed=seed,
            device=device,
            progress=progress,
            encoder=_encoder(info, train, model),
        )
        keep = (resume or outputs) if train.get("checkpoints") else None
        identity = _identity(settings, chips, validation)
        with EpochLog(_sinks(live if group.first else None, train, identity), progress.note) as log:
            trained = Training(passes).run(resume, identity, keep, log)
    if not group.first:
        return
    save_model(outputs, trained.weights, info)
    if resume is not None:
        for name in trained.epochs:
            shutil.copyfile(resume / name, outputs / name)
    (outputs / "log.jsonl").write_text(as_text(trained.lines), encoding="utf-8")
    (outputs / "curves.svg").write_text(draw_curves(trained.lines, trained.kept_epoch), encoding="utf-8")


def _encoder(info: ModelInfo, train: TrainSettings, model: nn.Module) -> Encoder | None:
    """Return the encoder of the model if the settings treat it in a way of its own."""
    if not of_encoder(train):
        return None
    return models.encoder_of(info.task, info.model, info.model_args, model)


def _sinks(live: Path | None, train: TrainSettings, identity: str) -> list[Sink]:
    """Return where the epochs are written as they end."""
    if live is None:
        return []
    training = xxhash.xxh3_64_hexdigest(identity.encode())
    shown = {name: value for name, value in train.items() if name != "log"}
    return open_sinks(live, train.get("log", ()), live.parent.parent.name, training, shown)


def _chances(settings: TrainStageSettings, chips: Chips) -> np.ndarray | None:
    """Return the probability of each training chip to be drawn; None if each comes once in an epoch."""
    sampling = settings["train"].get("sampling", "all")
    if sampling == "all":
        return None
    if len(chips.chip_class_counts) != chips.count:
        raise DataError(
            "train.sampling needs class counts of each chip, which the chip index does not have; build the chips again"
        )
    return chances(chips.chip_class_counts, chips.classes, settings["null_id"], sampling)


def describe(
    inputs: Mapping[str, Sequence[Path]], settings: TrainStageSettings, chips: Chips, start: Start | None = None
) -> ModelInfo:
    """Return the content of `model.json`, without user code."""
    train, classes, null_id = settings["train"], settings["classes"], settings["null_id"]
    names = class_names(classes, chips)
    return ModelInfo(
        task=settings["task"],
        model=train["model"],
        model_args=dict(train["model_args"]),
        bands=chips.bands,
        dtype=chips.dtype,
        outputs=[name for number, name in enumerate(names) if number != null_id],
        classes=classes,
        null_id=null_id,
        chip_px=settings["chip_px"],
        normalize=_normalization(inputs, settings, chips, start),
    )


def _normalization(
    inputs: Mapping[str, Sequence[Path]], settings: TrainStageSettings, chips: Chips, start: Start | None
) -> NormalizeSettings:
    """Return the `normalize` entry of the model."""
    train, step = settings["train"], settings.get("normalize")
    wanted = train.get("normalize", "auto")
    if wanted == "pretrained" and start is not None:
        return start.normalization(chips.bands, chips.dtype)
    mean, std = _figures(wanted, train)
    stats: ImageFigures = {"bands": [], "dtype": chips.dtype}
    if chips.dtype != "uint8" or step is not None or 0 < len(mean) < chips.bands:
        if not inputs.get("stats"):
            raise DataError(
                f"imagery of type {chips.dtype} needs the statistics of the analyze stage, but there are none"
            )
        stats = json.loads(inputs["stats"][0].read_text(encoding="utf-8"))
    normalize = from_stats(stats, chips.dtype, chips.bands, train["max_stds"], step)
    if wanted == "auto":
        return normalize
    if wanted != "pretrained":
        require_figures(mean, chips.bands)
    return standardized(normalize, mean, std, stats, chips.bands)


def _figures(
    wanted: Literal["auto", "pretrained"] | StandardSettings, train: TrainSettings
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and the standard deviation of each band that `train.normalize` sets; none for `auto`."""
    if wanted == "auto":
        return (), ()
    if wanted == "pretrained":
        return expected(train["model"], train["model_args"])
    return wanted["mean"], wanted["std"]


def _pretrained(inputs: Mapping[str, Sequence[Path]], train: TrainSettings) -> bool | Path:
    if not inputs.get("weights"):
        return bool(train["pretrained"])
    return weights_path(inputs["weights"][0], train.get("weights_member"))


def _identity(settings: TrainStageSettings, chips: Chips, validation: Chips) -> str:
    """Return the properties that a checkpoint must share with this training, in case directories are mixed up."""
    ignored = resume_ignores(settings["train"]["schedule"])
    # The place of the pixels does not matter: chips hold their digests.
    trajectory: dict[str, object] = {key: value for key, value in settings.items() if key != "pixels"}
    trajectory["train"] = {
        key: value for key, value in settings["train"].items() if key not in (*ignored, "log", "processes")
    }
    counts = [
        chips.scene_counts,
        chips.class_counts.tolist(),
        validation.scene_counts,
        validation.class_counts.tolist(),
    ]
    return json.dumps([trajectory, counts], sort_keys=True, ensure_ascii=False)
