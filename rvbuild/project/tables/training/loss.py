"""The loss of a training: a name, a weighted sum of names, or a reference to the user's code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, Tag

from rvbuild.errors import nearest
from rvbuild.project.tables.references import named, names_schema
from rvbuild.project.tasks import SPECS
from rvbuild.project.tasks.losses import LOSSES
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, Context, Finding, by_type, json_problem, no_effect, wrong

_NAMES = tuple(LOSSES)


def _term(name: str) -> str:
    if REFERENCE.fullmatch(name):
        return wrong(f"{show(name)} is code of yours, which cannot be part of a sum; sum up in it")
    if name not in LOSSES:
        hint = nearest(name, _NAMES) or f"; known: {', '.join(_NAMES)}"
        return wrong(f"unknown loss {show(name)}{hint}")
    return name


def _not_empty(value: dict[str, float]) -> dict[str, float]:
    return value or wrong("expected at least one loss with its weight, found an empty table")


Loss: TypeAlias = Annotated[
    Annotated[str, named(_NAMES, "loss", "package.module:factory"), names_schema(_NAMES), Tag("<named>")]
    | Annotated[
        dict[Annotated[str, AfterValidator(_term)], Annotated[float, Field(gt=0)]],
        AfterValidator(_not_empty),
        Tag("<weights>"),
    ],
    by_type({str: "<named>", dict: "<weights>"}, "a loss, or a table { loss = weight }"),
]
"""A loss, or the weight of each of several."""


def check_loss(
    loss: str | dict[str, float], args: Mapping[str, Any], has_class_weights: bool, context: Context
) -> Iterator[Finding]:
    """Find losses that are not of the task, and arguments that they do not take.

    Parameters
    ----------
    loss, args
        `train.loss` and `train.loss_args`.
    has_class_weights
        Whether classes have weights.
    context
        Of the table.
    """
    if isinstance(loss, dict):
        for name in loss:
            yield from _check_task(name, ("loss", name), context)
        yield from _check_args_of_sum(loss, args)
    elif loss not in LOSSES:
        if has_class_weights:
            message = f"loss = {show(loss)} must weigh classes itself; give it the weights in loss_args"
            yield Finding(("class_weights",), message, (("loss",),))
        yield from json_problem(args, ("loss_args",))
    elif findings := list(_check_task(loss, ("loss",), context)):
        yield from findings
    elif args and not LOSSES[loss].arguments:
        yield no_effect("loss_args", f"with loss = {show(loss)}, which takes no arguments", "loss")
    else:
        for name, problem in LOSSES[loss].problems(args):
            yield Finding(("loss_args", name), problem, (("loss",),))


def _check_task(name: str, key: tuple[str, ...], context: Context) -> Iterator[Finding]:
    names = SPECS[context.task].losses
    if name not in names:
        message = f"{show(name)} compares regions of pixels; for {context.task}: {', '.join(names)}"
        yield Finding(key, f'{message}, or "package.module:factory"')


def _check_args_of_sum(loss: Mapping[str, float], args: Mapping[str, Any]) -> Iterator[Finding]:
    """Find arguments of a sum, which has a table for each loss, that are wrong."""
    for name, own in args.items():
        key, rests_on = ("loss_args", name), (("loss",),)
        if name not in loss:
            hint = nearest(name, loss) or f"; it has {', '.join(loss)}"
            yield Finding(key, f"the sum has no such loss{hint}", rests_on)
        elif not isinstance(own, dict):
            yield Finding(key, f"expected a table of arguments of {show(name)}, found {show(own)}", rests_on)
        else:
            for argument, problem in LOSSES[name].problems(own):
                yield Finding((*key, argument), problem, rests_on)


def loss_settings(loss: str | dict[str, float], args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `loss_args` without defaults."""
    if isinstance(loss, dict):
        own = {name: LOSSES[name].not_default(values) for name, values in args.items()}
        return {name: values for name, values in own.items() if values}
    return LOSSES[loss].not_default(args) if loss in LOSSES else dict(args)
