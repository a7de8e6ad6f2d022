"""The names of the files that a trained model consists of, and who may make it; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvbuild.errors import ModelError

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def require_named(path: Path, model: str, args: Mapping[str, Any], trained: Mapping[str, Any] | None) -> None:
    """Require that a description names a built-in model, or just the factory that the project names.

    A description may come from a store that others write to: it never chooses what is called.

    Parameters
    ----------
    path
        The `model.json`.
    model, args
        What it says.
    trained
        `{"model", "model_args"}` of the project.

    Raises
    ------
    ModelError
        It names another factory, or other arguments for it.
    """
    if ":" not in model or (trained is not None and (model, dict(args)) == (trained["model"], trained["model_args"])):
        return
    named = "none" if trained is None or ":" not in trained["model"] else f'"{trained["model"]}"'
    what = "is called with other arguments than train.model_args" if f'"{model}"' == named else "is not called"
    raise ModelError(
        f'{path}: the model is made by "{model}", and the project names {named}: it {what}. The result of train was '
        "not made by this project: `rvbuild train -B` makes it anew"
    )
