"""The files that a trained model consists of: their names, the description, and who may make it; no torch here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from rvbuild.errors import ModelError
from rvbuild.settings.classes import ClassName
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.settings.train import Arguments, TrainedSettings

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"

ONNX = "model.onnx"
"""The file of an exported network."""

ONNX_WEIGHTS = "model.onnx.data"
"""The file of its weights, beside it, if they are too large for the network's own."""

RAW_VALUES = cast("NormalizeSettings", {})
"""The `normalize` of the model of a training backend, which is given raw values."""


@dataclass(frozen=True)
class ModelInfo:
    """The content of `model.json`: everything that prediction needs besides the weights."""

    task: str
    """Name of the task, for example `"semantic_segmentation"`."""
    model: str
    """Name of the model, or `"package.module:factory"` of a model or of a training backend."""
    model_args: Arguments
    bands: int
    """Bands of the imagery, in the order of `channels`."""
    dtype: str
    """dtype of the imagery it was trained on, for example `"uint8"`."""
    outputs: list[str]
    """Class names in the order of the model's outputs: all classes but null."""
    classes: list[ClassName]
    """`[{"id": 0, "name": "car"}, ...]`, null included."""
    null_id: int
    chip_px: int
    normalize: NormalizeSettings
    """See `rvbuild.learn.normalize.Normalizer`."""
    code: dict[str, str] | None = None
    """Source code of the user's modules (by dotted name) that create the model, in a bundle; otherwise None."""
    backend: bool = False
    """Whether `model` is a training backend, and `model_args` are its arguments; `normalize` is empty then."""

    @property
    def output_ids(self) -> list[int]:
        """The class id of each output."""
        ids = {item["name"]: item["id"] for item in self.classes}
        return [ids[name] for name in self.outputs]


def read_info(path: Path) -> ModelInfo:
    """Read a `model.json`.

    Raises
    ------
    ModelError
        The file is not JSON, an entry is missing, unknown, or of the wrong type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}") from error
    kinds: dict[str, type | tuple[type, ...]] = {
        "task": str,
        "model": str,
        "model_args": dict,
        "bands": int,
        "dtype": str,
        "outputs": list,
        "classes": list,
        "null_id": int,
        "chip_px": int,
        "normalize": dict,
        "code": (dict, type(None)),
    }
    if not isinstance(content, dict) or set(content) - {"backend"} != set(kinds):
        found = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
        raise ModelError(f"{path}: expected the entries {', '.join(sorted(kinds))}; found {found}")
    for name, kind in kinds.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise ModelError(f"{path}: {name}: expected {kind}, found {content[name]!r:.200}")
    if not 0 < content["bands"] < 1 << 16:
        raise ModelError(f"{path}: bands: expected a number from 1 to 65535, found {content['bands']!r:.200}")
    if not all(isinstance(text, str) for text in (content["code"] or {}).values()):
        raise ModelError(f"{path}: code: expected source code by module name")
    if content.get("backend", False) not in (False, True) or (content.get("backend") and ":" not in content["model"]):
        raise ModelError(f'{path}: backend: expected true, and the backend\'s "package.module:factory" as the model')
    info = ModelInfo(**content)
    names = [
        entry.get("name") for entry in info.classes if isinstance(entry, dict) and isinstance(entry.get("id"), int)
    ]
    if len(names) != len(info.classes) or not all(name in names for name in info.outputs):
        raise ModelError(f"{path}: every output must be one of the classes; outputs {info.outputs}, classes {names}")
    return info


def write_info(path: Path, info: ModelInfo) -> None:
    """Write a `model.json`."""
    content = {key: value for key, value in asdict(info).items() if key != "backend" or value}
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


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
