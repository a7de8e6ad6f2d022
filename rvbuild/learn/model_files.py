"""The names of the files that a trained model consists of, and who may make it; no torch here."""

from __future__ import annotations

from pathlib import Path

from rvbuild.errors import ModelError
from rvbuild.settings.train import Arguments, TrainedSettings

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def require_named(path: Path, model: str, args: Arguments, trained: TrainedSettings | None) -> None:
    """Require that a description names a built-in model, or just the factory that the project names.

    A description may come from a store that others can write to: it must not choose which function is called.

    Parameters
    ----------
    path
        The `model.json`.
    model, args
        From the description.
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
    if f'"{model}"' == named:
        difference = f'"{model}" created the model with arguments other than train.model_args'
    else:
        difference = f'the model was created by "{model}", but the project names {named}'
    raise ModelError(
        f"{path}: {difference}. The result of train does not come from this project: `rvbuild train -B` builds it again"
    )
