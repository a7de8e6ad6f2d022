"""The start of a training from a bundle: its weights, by name and shape, and its normalisation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from rvbuild.errors import DataError, ModelError
from rvbuild.learn import models
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, ModelInfo, read_info
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.pretrained.weights import State, load_state
from rvbuild.project.networks import TIMM
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.settings.train import Arguments
from rvbuild.stages.bundle.check import check_normalize
from rvbuild.stages.bundle.write import MEMBERS
from rvbuild.stages.bundle.zip import extract_zip

_SHOWN = 6


@dataclass(frozen=True)
class Start:
    """A bundle to start from."""

    path: Path
    weights: State
    info: ModelInfo

    def normalization(self, bands: int, dtype: str) -> NormalizeSettings:
        """Return how the bundle normalises images, for imagery of as many bands and of the same dtype.

        Raises
        ------
        DataError
            The imagery is of another kind.
        """
        if (self.info.bands, self.info.dtype) != (bands, dtype):
            raise DataError(
                f'train.normalize: "pretrained" normalises like {self.path}, which was trained on {self.info.bands} '
                f"bands of {self.info.dtype}; the training chips have {bands} bands of {dtype}. Remove the key, or "
                "choose the bands with `channels`"
            )
        return self.info.normalize


def open_start(path: Path) -> Start:
    """Read a bundle to start from; nothing in it is executed.

    Raises
    ------
    DataError
        The file is not a bundle, or is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="rvbuild-start-") as folder:
        extract_zip(path, Path(folder), MEMBERS)
        try:
            weights = safetensors.torch.load_file(Path(folder) / WEIGHTS)
            info = read_info(Path(folder) / DESCRIPTION)
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(f"{path}: {WEIGHTS}: cannot be read as safetensors: {error}") from error
        except ModelError as error:
            raise DataError(f"{path}: {error}") from error
        if info.backend:
            raise DataError(
                f"{path}: holds a model of the training backend {info.model}, which is no network to start from"
            )
        check_normalize(info.normalize, info.bands, f"{path}: {DESCRIPTION}")
        return Start(path, weights, info)


def build_from(start: Start, info: ModelInfo, note: Callable[[str], None]) -> nn.Module:
    """Return the model that `info` describes, with every tensor of the bundle that has its name and shape.

    A built-in model of torchvision or rvbuild is made for the bundle's number of bands first, so that its first
    convolution is taken, and adapted to the imagery then. What is not taken starts from random weights. `note` is told
    what is which.

    Raises
    ------
    ModelError
        The bundle has no tensor of this model.
    """
    model, text = take_weights(
        start, info.task, info.model, info.bands, len(info.outputs), info.model_args, info.chip_px
    )
    note(text)
    if start.info.outputs != info.outputs:
        # If only their number is equal, the last layer has also been taken.
        note(f"its outputs were {', '.join(start.info.outputs)}; here they are {', '.join(info.outputs)}")
    if start.info.bands != info.bands and not made_for_bands(info.model, info.model_args):
        note(f"{first_conv(model)[0]} is adapted from {start.info.bands} to {info.bands} bands")
        adapt_bands(model, info.bands, trained=True)
    if start.info.normalize != info.normalize:
        note('it normalised images differently; train.normalize = "pretrained" normalises in the same way')
    return model


def made_for_bands(model: str, args: Arguments) -> bool:
    """Tell whether a model is made for a number of bands from the start: more than its first convolution may differ."""
    return ":" in model or model.startswith(TIMM) or "encoder" in args or "ensemble" in args


def require_figures(mean: Sequence[float], bands: int) -> None:
    """Require figures of `train.normalize` for as many bands as the chips have.

    Raises
    ------
    DataError
        They are of another number.
    """
    if len(mean) != bands:
        raise DataError(f"train.normalize: expected values for the {bands} bands of the chips, found {len(mean)}")


def take_weights(
    start: Start, task: str, name: str, bands: int, outputs: int, args: Arguments, chip_px: int
) -> tuple[nn.Module, str]:
    """Return a model with the weights of a bundle that fit it, and which these are.

    A built-in model of torchvision or rvbuild is created for the number of bands of the bundle.

    Parameters
    ----------
    start
        The bundle.
    task, name, bands, outputs, args, chip_px
        As for `rvbuild.learn.models.build`.

    Raises
    ------
    ModelError
        The model cannot be created, or the bundle has no matching tensor.
    """
    bands = bands if made_for_bands(name, args) else start.info.bands
    model = models.build(task, name, bands=bands, outputs=outputs, args=args, chip_px=chip_px)
    # Counters of batches mean nothing in another training.
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    taken = {key: value for key, value in start.weights.items() if key in state and value.shape == state[key].shape}
    if not taken:
        raise ModelError(
            f"train.pretrained: {start.path} holds the weights of {_called(start.info.model, start.info.model_args)}, "
            f"none of which has the name and the shape of one of {_called(name, args)}; choose that model, or other "
            "weights"
        )
    load_state(model, taken, strict=False)
    new = [key for key in state if key not in taken]
    text = f"{len(taken)} of {len(state)} tensors are taken from {start.path.name}"
    return model, f"{text}; new, from random weights: {_first(new)}" if new else text


def _called(model: str, args: Arguments) -> str:
    """Return a model as a project file describes it."""
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in args.items())
    return f'"{model}" {{ {shown} }}' if shown else f'"{model}"'


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
