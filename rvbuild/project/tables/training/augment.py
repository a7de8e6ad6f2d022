"""The augmentations of a training: names, or references to the user's code, and their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from rvbuild.errors import nearest
from rvbuild.project.tables.references import named, names_schema
from rvbuild.project.tasks import SPECS
from rvbuild.project.tasks.augmentations import AUGMENTATIONS, MIXING, NAMES
from rvbuild.project.tasks.losses import LOSSES
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, duplicates, json_problem

Augmentation: TypeAlias = Annotated[str, named(NAMES, "augmentation", "package.module:function"), names_schema(NAMES)]


def check_augment(
    augment: Sequence[str],
    args: Mapping[str, Mapping[str, Any]],
    loss: str | Mapping[str, float],
    batch_size: int,
    context: Context,
) -> Iterator[Finding]:
    """Find augmentations that the task or the loss does not allow, and arguments that they do not take.

    Parameters
    ----------
    augment, args, loss, batch_size
        The keys of `[train]`; `args` is `augment_args`.
    context
        Of the table.
    """
    yield from duplicates(tuple(augment), "augment")
    for number, name in enumerate(augment):
        if name in MIXING:
            yield from _check_mixing(name, ("augment", number), loss, batch_size, context)
    for name, own in args.items():
        key = ("augment_args", name)
        if name not in augment:
            hint = nearest(name, augment) or (f"; it has {', '.join(augment)}" if augment else "")
            yield Finding(key, f"augment has no {show(name)}{hint}", (("augment",),))
        elif name in AUGMENTATIONS:
            for argument, problem in AUGMENTATIONS[name].problems(own):
                yield Finding((*key, argument), problem, (("augment",),))
        else:
            yield from json_problem(own, key)


def _check_mixing(
    name: str, key: tuple[str | int, ...], loss: str | Mapping[str, float], batch_size: int, context: Context
) -> Iterator[Finding]:
    spec = SPECS[context.task]
    if name not in spec.augmentations:
        message = f"{show(name)} mixes the labels of chips, and {spec.about} cannot be mixed"
        yield Finding(key, f"{message}; for {context.task}: {', '.join(spec.augmentations)}")
        return
    if batch_size < 2:
        message = f"{show(name)} mixes the chips of a batch, and batch_size = {batch_size}"
        yield Finding(key, message, (("batch_size",),))
    if spec.gives_pixels and name == "cutmix":
        return  # pasted labels are labels
    soft = [other for other, of in LOSSES.items() if not of.of_regions]
    wrong = [other for other in ([loss] if isinstance(loss, str) else loss) if other not in soft]
    if wrong:
        message = f"{show(name)} gives chips two labels with weights, which loss = {show(wrong[0])} cannot take"
        yield Finding(key, f"{message}; these can: {', '.join(soft)}", (("loss",),))


def augment_settings(args: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of `augment_args` without defaults."""
    own = {
        name: AUGMENTATIONS[name].not_default(values) if name in AUGMENTATIONS else dict(values)
        for name, values in args.items()
    }
    return {name: values for name, values in own.items() if values}
