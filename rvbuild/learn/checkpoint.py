"""A trained model on disk: the weights in `model.safetensors`, their description in `model.json`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.device import place, select_device
from rvbuild.learn.fold import fold_batchnorm
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, ModelInfo, read_info, require_named, write_info
from rvbuild.learn.models.pretrained.weights import load_state
from rvbuild.settings.train import TrainedSettings


def save_model(folder: Path, state: Mapping[str, torch.Tensor], info: ModelInfo) -> None:
    """Write `model.safetensors` and `model.json` into `folder`; equal weights give equal bytes."""
    # Clones, because tied weights share memory, which safetensors refuses.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    write_info(folder / DESCRIPTION, info)


def load_model(
    weights: Path,
    description: Path,
    device: str = "auto",
    *,
    trained: TrainedSettings | None = None,
    run_embedded_code: bool = False,
) -> tuple[nn.Module, ModelInfo]:
    """Load a trained model, ready to predict.

    Parameters
    ----------
    weights, description
        The `model.safetensors` and `model.json` of one training.
    device
        `"auto"`, `"cpu"` or `"cuda"`.
    trained
        `{"model", "model_args"}` of the project: a user's factory is only called if it is this one.
    run_embedded_code
        A model of the user's own is normally made by importing its module from the workspace. With True, the source
        texts inside `model.json` are executed instead, and any factory is called: only for files from a trusted origin.

    Returns
    -------
    tuple[nn.Module, ModelInfo]
        The model in eval mode, on the device, channels last, its batch normalisations folded unless it is the user's
        own; and its description.

    Raises
    ------
    ModelError
        A file is damaged, the weights do not fit the model, or the model is made by another factory than the project
        names, or by one that cannot be imported.
    """
    info = read_info(description)
    if not run_embedded_code:
        require_named(description, info.model, info.model_args, trained)
    chosen = select_device(device)
    try:
        state = safetensors.torch.load_file(weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights}: cannot be read as safetensors: {error}") from error
    if info.model_args and ":" not in info.model:
        _require_size(weights, state, info)
    # A factory of the user's own may keep what it makes of random values.
    filled_later = contextlib.nullcontext() if ":" in info.model else _Unfilled()
    with filled_later:
        model = build(info, info.code if run_embedded_code else None)
    try:
        load_state(model, state)
    except RuntimeError as error:
        raise ModelError(f'{weights}: the weights do not fit the model "{info.model}": {error}') from error
    model.eval()
    if ":" not in info.model:
        fold_batchnorm(model)
    return place(model, chosen), info


def build(info: ModelInfo, code: Mapping[str, str] | None = None) -> nn.Module:
    """Make the model of a description, with random weights; with `code`, of the modules that it embeds."""
    return models.build(
        info.task,
        info.model,
        bands=info.bands,
        outputs=len(info.outputs),
        args=info.model_args,
        code=code,
        chip_px=info.chip_px,
    )


class _Unfilled(TorchFunctionMode):
    """Leaves out the random values of parameters, which are loaded next: they take longer than all else."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, but for one that fills a parameter."""
        kwargs = kwargs or {}
        if func in _RANDOM or getattr(func, "__module__", "") == nn.init.__name__:
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


_RANDOM = (torch.Tensor.uniform_, torch.Tensor.normal_)


def _require_size(weights: Path, state: Mapping[str, torch.Tensor], info: ModelInfo) -> None:
    """Raise a ModelError if a model with arguments is larger than its weights, before it takes memory.

    A file of strangers could ask for any amount.
    """
    with torch.device("meta"):
        needed = sum(value.numel() for value in build(info).state_dict().values())
    stored = sum(value.numel() for value in state.values())
    if needed > stored:
        raise ModelError(
            f'{weights}: the weights do not fit the model "{info.model}" with {info.model_args}: they have {stored:,} '
            f"values, the model has {needed:,}"
        )
