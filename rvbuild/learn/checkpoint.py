"""A trained model on disk: the weights in `model.safetensors`, their description in `model.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.device import place, select_device
from rvbuild.learn.fold import fold_batchnorm
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, require_named
from rvbuild.settings.classes import ClassName
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.settings.train import Arguments, TrainedSettings


@dataclass(frozen=True)
class ModelInfo:
    """The content of `model.json`: everything that prediction needs besides the weights."""

    task: str
    """Name of the task, for example `"semantic_segmentation"`."""
    model: str
    """Name of the model, or `"package.module:factory"`."""
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

    @property
    def output_ids(self) -> list[int]:
        """The class id of each output."""
        ids = {entry["name"]: entry["id"] for entry in self.classes}
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
    if not isinstance(content, dict) or set(content) != set(kinds):
        found = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
        raise ModelError(f"{path}: expected the entries {', '.join(sorted(kinds))}; found {found}")
    for name, kind in kinds.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise ModelError(f"{path}: {name}: expected {kind}, found {content[name]!r:.200}")
    if not 0 < content["bands"] < 1 << 16:
        raise ModelError(f"{path}: bands: expected a number from 1 to 65535, found {content['bands']!r:.200}")
    if not all(isinstance(text, str) for text in (content["code"] or {}).values()):
        raise ModelError(f"{path}: code: expected source code by module name")
    info = ModelInfo(**content)
    names = [
        entry.get("name") for entry in info.classes if isinstance(entry, dict) and isinstance(entry.get("id"), int)
    ]
    if len(names) != len(info.classes) or not all(name in names for name in info.outputs):
        raise ModelError(f"{path}: every output must be one of the classes; outputs {info.outputs}, classes {names}")
    return info


def write_info(path: Path, info: ModelInfo) -> None:
    """Write a `model.json`."""
    text = json.dumps(asdict(info), sort_keys=True, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


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
    model = _build(info, info.code if run_embedded_code else None)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f'{weights}: the weights do not fit the model "{info.model}": {error}') from error
    model.eval()
    if ":" not in info.model:
        fold_batchnorm(model)
    return place(model, chosen), info


def _build(info: ModelInfo, code: Mapping[str, str] | None = None) -> nn.Module:
    return models.build(
        info.task, info.model, bands=info.bands, outputs=len(info.outputs), args=info.model_args, code=code
    )


def _require_size(weights: Path, state: Mapping[str, torch.Tensor], info: ModelInfo) -> None:
    """Raise a ModelError if a model with arguments is larger than its weights, before it takes memory.

    A file of strangers could ask for any amount.
    """
    with torch.device("meta"):
        wanted = sum(value.numel() for value in _build(info).state_dict().values())
    found = sum(value.numel() for value in state.values())
    if wanted > found:
        raise ModelError(
            f'{weights}: the weights do not fit the model "{info.model}" with {info.model_args}: they have {found:,} '
            f"values, the model has {wanted:,}"
        )
