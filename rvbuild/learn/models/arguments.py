"""Checks of `train.model_args` that the families share."""

from __future__ import annotations

from rvbuild.errors import ModelError, nearest
from rvbuild.project.networks.encoders import encoder_problem
from rvbuild.settings.train import Arguments


def check_names(model: str, args: Arguments, valid: tuple[str, ...]) -> None:
    """Raise a ModelError if `args` has a key that is not in `valid`."""
    for key in args:
        if key not in valid:
            takes = f"it takes {', '.join(valid)}" if valid else "it takes no arguments"
            raise ModelError(f'train.model_args: model "{model}" has no argument "{key}"{nearest(key, valid)}; {takes}')


def split_encoder(model: str, args: Arguments, valid: tuple[str, ...]) -> tuple[str, Arguments]:
    """Return the name of the encoder, and the other arguments, which must be in `valid`.

    Raises
    ------
    ModelError
        The encoder is unknown, or an argument is.
    """
    encoder = str(args["encoder"])
    others = {key: value for key, value in args.items() if key != "encoder"}
    check_names(model, others, valid)
    if problem := encoder_problem(encoder):
        raise ModelError(f"train.encoder: {problem}")
    return encoder, others


def whole_number(model: str, args: Arguments, key: str, default: int, least: int, most: int) -> int:
    """Return `args[key]`, a whole number between `least` and `most`, or else the default."""
    value = args.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ModelError(
            f'train.model_args.{key}: model "{model}" expects a whole number from {least} to {most}, found {value!r}'
        )
    return value
