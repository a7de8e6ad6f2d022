"""The mean of the weights of several models of one network, as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from rvbuild import tasks
from rvbuild.errors import ModelError
from rvbuild.learn.batchnorm import measured
from rvbuild.learn.checkpoint import build, save_model
from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.loader import BatchMaker, Loader, plain_requests
from rvbuild.learn.device import place, reproducible, select_device
from rvbuild.learn.hooks import TargetOps
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, read_info
from rvbuild.learn.models.pretrained.weights import load_state
from rvbuild.learn.normalize import Normalizer
from rvbuild.learn.passes.base import MEASURED_CHIPS
from rvbuild.progress import Progress
from rvbuild.stages.train.chips import imagery_of, training_chips
from rvbuild.stages.train.settings import TrainStageSettings
from rvbuild.stages.train.stage import describe

State = Mapping[str, torch.Tensor]


def run(inputs: Mapping[str, Sequence[Path]], settings: TrainStageSettings, outputs: Path, progress: Progress) -> None:
    """Average models, and measure the statistics of batch normalisation anew.

    Parameters
    ----------
    inputs
        `model/<fold>`: `model.safetensors` and `model.json` of each model. `chips/train/<id>`, `stats` and the others
        as in the train stage: all chips that the models have learned from.
    settings
        Those of the train stage; `epochs` and the like have no effect.
    outputs
        Receives `model.safetensors`, `model.json`, and an empty `log.jsonl`.
    progress
        Receives chips.

    Raises
    ------
    ModelError
        The models are not of one network.
    """
    roles = sorted(role for role in inputs if role.startswith("model/"))
    files = [{path.name: path for path in inputs[role]} for role in roles]
    described = [read_info(of_fold[DESCRIPTION]) for of_fold in files]
    state = mean_state([safetensors.torch.load_file(of_fold[WEIGHTS]) for of_fold in files])
    task, train = tasks.get(settings["task"]), settings["train"]
    ops = TargetOps(task.unpack, task.orient, task.collate)
    chips = training_chips(inputs, settings, ops, imagery_of(inputs, settings.get("pixels", {})), progress)
    info = describe(inputs, settings, chips)
    for other in described:
        if (other.model, other.model_args, other.outputs, other.bands) != (
            info.model,
            info.model_args,
            info.outputs,
            info.bands,
        ):
            raise ModelError("the models of the folds are of different networks; build the folds again")
    device = select_device(train["device"], "train.device")
    augmenter = Augmenter([], info.normalize, chips.dtype, chips.bands, ops)
    with reproducible(settings["seed"], device, train.get("threads")), closing(chips):
        model = build(info)
        load_state(model, state)
        place(model, device)
        loader, normalizer = Loader(BatchMaker({"train": chips}, ops, augmenter, settings["seed"]), 0), Normalizer(info)
        chosen = np.sort(np.random.default_rng([settings["seed"], 0]).permutation(chips.count)[:MEASURED_CHIPS])
        requests = plain_requests("train", chosen.tolist(), train["batch_size"])
        progress.start("measure batch normalisation", len(chosen), "chips")

        def forward_all() -> None:
            with closing(loader.batches(requests)) as batches:
                for batch in batches:
                    model(normalizer(batch.images, batch.valid, device))
                    progress.advance(len(batch.images))

        with measured(model, forward_all):
            save_model(outputs, model.state_dict(), info)
    (outputs / "log.jsonl").write_bytes(b"")  # it has no epochs of its own


def mean_state(states: Sequence[State]) -> dict[str, torch.Tensor]:
    """Return the mean of the weights of several models.

    Numbers with a fraction are averaged in float64 and rounded once. Whole numbers, such as the batches that a batch
    normalisation has seen, have no mean: the largest is taken, and truth values where any is true.

    Raises
    ------
    ModelError
        The models have different tensors.
    """
    first = states[0]
    for state in states[1:]:
        if {name: value.shape for name, value in state.items()} != {name: v.shape for name, v in first.items()}:
            raise ModelError("models of different networks have no mean; expected the same names and shapes of weights")
    mean: dict[str, torch.Tensor] = {}
    for name, value in first.items():
        every = torch.stack([state[name] for state in states])
        if value.is_floating_point():
            mean[name] = every.to(torch.float64).mean(dim=0).to(value.dtype)
        else:
            mean[name] = every.amax(dim=0)
    return mean
