"""The models that a project can name, and whether a `[train]` table names one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rvbuild.errors import nearest
from rvbuild.project.networks import TIMM, timm
from rvbuild.project.networks.encoders import encoder_problem, has_weights
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, Finding

MODELS = {spec.name: spec.models for spec in SPECS.values()}
"""The named models by task; the first is the default."""

DECODERS = {spec.name: tuple(spec.decoders) for spec in SPECS.values()}
"""The named models that take an encoder, by task; some are also models without one."""

ALL_MODELS = tuple(name for names in MODELS.values() for name in names)

NEED_ENCODER = tuple(name for names in DECODERS.values() for name in names if name not in ALL_MODELS)
"""The named models that need an encoder."""

SCRATCH_MODELS = tuple(name for spec in SPECS.values() for name in spec.scratch)
"""The named models that have no pretrained weights."""

_SHOWN_MODELS = 8

_OWN_KEYS = ("encoder", "ensemble")
"""Keys of `[train]` that become arguments of a model."""

_EXAMPLE = 'encoder = "timm/convnext_tiny"'


def has_pretrained(model: str, encoder: str | None) -> bool:
    """Tell whether there are pretrained weights of a model; names must be known."""
    if encoder is not None or model.startswith(TIMM):
        return has_weights(encoder or model)
    return model in ALL_MODELS and model not in SCRATCH_MODELS


def check_names(model: str, encoder: str | None, args: Mapping[str, object], task: str) -> Iterator[Finding]:
    """Find names of models and encoders that do not exist, and arguments that decoders do not take.

    Parameters
    ----------
    model, encoder, args
        Of `[train]`: the model or the default of the task, the encoder and `model_args`.
    task
        The project's.
    """
    for key in _OWN_KEYS:
        if key in args:
            yield Finding(("model_args", key), f"is a key of its own: set train.{key}")
    args = {key: value for key, value in args.items() if key not in _OWN_KEYS}
    if encoder is not None:
        yield from _check_encoded(model, encoder, args, task)
        return
    if model.startswith(TIMM):
        yield from _check_timm(model, args, task)
    elif model in NEED_ENCODER and model in DECODERS[task]:
        yield Finding(("model",), f"{show(model)} needs an encoder, for example {_EXAMPLE}")
    elif model not in MODELS[task] and not REFERENCE.fullmatch(model):
        yield Finding(("model",), _unknown_model(model, task))


def _check_encoded(model: str, encoder: str, args: Mapping[str, object], task: str) -> Iterator[Finding]:
    names = DECODERS[task]
    if not names:
        tasks = " and ".join(name for name, decoders in DECODERS.items() if decoders)
        yield Finding(("encoder",), f"does not apply to {task}; encoders belong to {tasks}")
        return
    if REFERENCE.fullmatch(model):
        yield Finding(("encoder",), f"has no effect with your own model {show(model)}; give it in model_args")
        return
    if model not in names:
        hint = _decoder_hint(model, names)
        what = f"{show(model)} takes no encoder" if model in ALL_MODELS else f"unknown model {show(model)}"
        yield Finding(("model",), what + (hint or f"; with an encoder: {', '.join(names)}"))
    else:
        valid = SPECS[task].decoders[model]
        for key in args:
            if key not in valid:
                text = nearest(key, valid) or f"; it takes {', '.join(valid)}"
                yield Finding(("model_args", key), f"{show(model)} with an encoder has no such argument{text}")
    if problem := encoder_problem(encoder):
        yield Finding(("encoder",), problem)


def _decoder_hint(model: str, names: tuple[str, ...]) -> str:
    """Return the model that is most like another and takes an encoder, in words, or nothing."""
    heads = [name for name in names if model.startswith(f"{name}_")]
    if heads:
        return f"; did you mean {show(heads[0])}?"
    return nearest(model, names) if model not in ALL_MODELS else ""


def _check_timm(model: str, args: Mapping[str, object], task: str) -> Iterator[Finding]:
    if task != "chip_classification":
        names = DECODERS[task]
        way = f"; set model = {show(names[0])}, for example, and encoder = {show(model)}" if names else ""
        yield Finding(("model",), f"{show(model)} is a model of chip_classification{way}")
    elif problem := timm.problem(model, encoder=False):
        yield Finding(("model",), problem)
    for key in args:
        yield Finding(("model_args", key), f"{show(model)} takes no arguments", (("model",),))


def _unknown_model(model: str, task: str) -> str:
    """Return the message about a model that the task does not have."""
    names = tuple(dict.fromkeys((*MODELS[task], *DECODERS[task])))
    tasks = [name for name, models in MODELS.items() if model in models or model in DECODERS[name]]
    if tasks:
        return f"{show(model)} is a model of {tasks[0]}; for {task}: {_listed(names)}"
    hint = nearest(model, names)
    return f"unknown model {show(model)}{hint}" if hint else f"unknown model {show(model)}; known: {_listed(names)}"


def _listed(names: tuple[str, ...]) -> str:
    """Return the names of models as text; the whole list of classifiers is too long for a message."""
    shown = names if len(names) <= _SHOWN_MODELS else (*names[: _SHOWN_MODELS - 1], "…", names[-1])
    return f'{", ".join(shown)}, or "package.module:factory"'
