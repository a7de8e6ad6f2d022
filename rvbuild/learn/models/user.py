"""Users' own models: `package.module:factory`, called with `(in_channels, num_classes, **model_args)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from rvbuild.errors import ModelError, RvbuildError
from rvbuild.language.user_code import load_object
from rvbuild.learn.models.pretrained.weights import load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.settings.train import Arguments

ENCODERS = ("encoder", "backbone")
"""What the encoder of a model may be called."""


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
    code: Mapping[str, str] | None = None,
) -> nn.Module:
    """Create a model with a user's factory; see `rvbuild.learn.models.build`.

    `pretrained = true` is ignored here: the factory takes all it needs from `model_args`.
    """
    factory = load_object(name, "train.model", code)
    try:
        model = factory(bands, outputs, **args)
    except RvbuildError:
        raise
    except Exception as error:
        given = ", ".join([str(bands), str(outputs), *(f"{key}={value!r}" for key, value in args.items())])
        raise ModelError(
            f'train.model: "{name}" called with ({given}) failed: {type(error).__name__}: {error}'
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f'train.model: "{name}" returned {type(model).__name__}; expected a torch.nn.Module')
    if isinstance(pretrained, Path):
        load_local(model, read_weights(pretrained), pretrained, note)
    return model


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: what the model has under this name, or as a backbone.

    Raises
    ------
    ModelError
        It has neither.
    """
    part = find_encoder(model)
    if part is not None:
        return of_module(part)
    raise ModelError(
        f"train.freeze, encoder_lr and layer_decay need to know the encoder of your model: {type(model).__name__} has "
        f"no module named {' or '.join(ENCODERS)}"
    )


def find_encoder(model: nn.Module) -> nn.Module | None:
    """Return what a model has under one of the names of encoders; None if there is no such module."""
    parts = (getattr(model, name, None) for name in ENCODERS)
    return next((part for part in parts if isinstance(part, nn.Module)), None)
