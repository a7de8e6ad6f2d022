"""What a training starts from, if that is a bundle: its weights, by name and shape, and how it normalises images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from rvbuild.errors import DataError, ModelError
from rvbuild.learn import models
from rvbuild.learn.checkpoint import ModelInfo, read_info
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.weights import State
from rvbuild.stages.bundle import MEMBERS
from rvbuild.stages.bundle_settings import check_normalize
from rvbuild.stages.bundle_zip import extract_zip

_SHOWN = 6


@dataclass(frozen=True)
class Start:
    """A bundle to start from."""

    path: Path
    weights: State
    info: ModelInfo

    def normalization(self, bands: int, dtype: str) -> dict[str, Any]:
        """Return how the bundle normalises images, for imagery of as many bands and of the same dtype.

        Raises
        ------
        DataError
            The imagery is of another kind.
        """
        if (self.info.bands, self.info.dtype) != (bands, dtype):
            raise DataError(
                f'train.normalize: "pretrained" normalises as {self.path} does, which was trained on {self.info.bands} '
                f"bands of {self.info.dtype}; the training chips have {bands} bands of {dtype}. Remove the key, or "
                "choose the bands with `channels`"
            )
        return dict(self.info.normalize)


def open_start(path: Path) -> Start:
    """Read a bundle to start from; nothing in it is executed.

    Raises
    ------
    DataError
        The file is no bundle, or damaged.
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
        check_normalize(info.normalize, info.bands, f"{path}: {DESCRIPTION}")
        return Start(path, weights, info)


def build_from(start: Start, info: ModelInfo, note: Callable[[str], None]) -> nn.Module:
    """Return the model that `info` describes, with every tensor of the bundle that has its name and shape.

    A built-in model is made for the bundle's number of bands first, so that its first convolution is taken, and adapted
    to the imagery then. What is not taken starts from random weights. `note` is told what is which.

    Raises
    ------
    ModelError
        The bundle has no tensor of this model.
    """
    own = ":" in info.model
    bands = info.bands if own else start.info.bands
    model = models.build(info.task, info.model, bands=bands, outputs=len(info.outputs), args=info.model_args)
    # Counters of batches mean nothing elsewhere.
    state = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    taken = {n: v for n, v in start.weights.items() if n in state and v.shape == state[n].shape}
    if not taken:
        raise ModelError(
            f'train.pretrained: {start.path} holds the weights of "{start.info.model}" {start.info.model_args or ""}, '
            f'none of which has the name and the shape of one of "{info.model}" {info.model_args or ""}; choose that '
            "model, or other weights"
        )
    model.load_state_dict(taken, strict=False)
    new = [name for name in state if name not in taken]
    text = f"{len(taken)} of {len(state)} tensors are taken from {start.path.name}"
    note(f"{text}; new, from random weights: {_some(new)}" if new else text)
    if start.info.outputs != info.outputs:
        # Where only their number is the same, the last layer has been taken, too.
        note(f"its outputs were {', '.join(start.info.outputs)}; here they are {', '.join(info.outputs)}")
    if bands != info.bands:
        note(f"{first_conv(model)[0]} is adapted from {bands} to {info.bands} bands")
        adapt_bands(model, info.bands, trained=True)
    if start.info.normalize != info.normalize:
        note('it normalised images otherwise; train.normalize = "pretrained" does it as it did')
    return model


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
