"""From the name of a loss to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, cast

from rvbuild.errors import ModelError, RvbuildError, nearest
from rvbuild.language.user_code import load_object
from rvbuild.learn.losses.points import Loss
from rvbuild.learn.losses.total import Total
from rvbuild.project.tasks.losses import LOSSES
from rvbuild.settings.train import Arguments


def make_loss(name: str | Mapping[str, float], args: Arguments, weights: Sequence[float] | None) -> Loss:
    """Return the loss that `train.loss` names.

    Parameters
    ----------
    name
        One of `rvbuild.project.tasks.losses.LOSSES`, or `"package.module:factory"`: called with `args`, it returns a
        `Loss`, for example `"torch.nn:CrossEntropyLoss"` with `{"label_smoothing": 0.1}`. Or the weights of several
        of `LOSSES`.
    args
        `train.loss_args`; the defaults of a loss with a name are filled in. Of several, by the name of each.
    weights
        Class weights, for losses with a name only.

    Raises
    ------
    ModelError
        If there is no such loss, or it cannot be made of the arguments.
    """
    if not isinstance(name, str):
        unknown = next((term for term in name if term not in LOSSES), None)
        if unknown is not None:
            raise ModelError(f'train.loss: there is no loss "{unknown}"{nearest(unknown, LOSSES)}')
        own = cast("Mapping[str, Any]", args)
        # In one order, so that sums do not depend on that of the project file.
        terms = [term for term in LOSSES if term in name]
        return Total({term: (name[term], make_loss(term, own.get(term, {}), weights)) for term in terms})
    if name in LOSSES:
        spec = LOSSES[name]
        for argument, problem in spec.problems(args):
            raise ModelError(f"train.loss_args.{argument}: {problem}")
        module, _, factory_name = spec.factory.partition(":")
        make: Callable[..., Loss] = getattr(import_module(module), factory_name)
        return make(weights, **spec.with_defaults(args))
    if ":" not in name:
        raise ModelError(
            f'train.loss: there is no loss "{name}"{nearest(name, LOSSES)}; expected one of {", ".join(LOSSES)}, or a '
            f'factory as "package.module:factory"'
        )
    if weights is not None:
        raise ModelError(
            f'train.class_weights works with losses that have a name only; give "{name}" its weights in train.loss_args'
        )
    factory = load_object(name, "train.loss")
    try:
        made = factory(**args)
    except RvbuildError:
        raise
    except Exception as error:
        raise ModelError(
            f'train.loss: "{name}" called with {dict(args)} failed: {type(error).__name__}: {error}'
        ) from error
    if not callable(made):
        raise ModelError(
            f'train.loss: "{name}" returned {type(made).__name__}; expected a callable (logits, target) -> scalar'
        )
    loss: Loss = made
    return loss
