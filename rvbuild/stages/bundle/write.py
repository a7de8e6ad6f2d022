"""The bundle stage: a trained model with all that predicting with it needs, in one zip.

Members: `model.safetensors`, `model.json`, `stats.json`, `project.json` (the settings of prediction), `manifest.json`
(size and digest of each other member), and `code/….py` if the model is made or pixels are transformed by the user's own
Python: the modules that `model.json` and `project.json` embed, as files that a person can read before allowing them to
run.

With `bundle.onnx` also `model.onnx`, the network with its normalisation for other programs, and `model.onnx.data` if
its weights are too large for one file; `selftest.safetensors`, an image with the classes that a prediction must give;
`model.stac.json`, a STAC item; and `README.md`, a model card.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import ModelError
from rvbuild.language.user_code import sources
from rvbuild.learn.model_files import DESCRIPTION, ONNX, ONNX_WEIGHTS, WEIGHTS, require_named
from rvbuild.progress import Progress
from rvbuild.settings.image import ImageSettings
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.bundle.card import card
from rvbuild.stages.bundle.settings import BundleStageSettings
from rvbuild.stages.bundle.stac import stac_item
from rvbuild.stages.bundle.zip import write_zip

BUNDLE = "bundle.zip"
PROJECT = "project.json"
STATS = "stats.json"

MEMBERS = frozenset({WEIGHTS, DESCRIPTION, STATS, PROJECT})
"""The members of every bundle, beside the manifest."""


def run(inputs: Mapping[str, Sequence[Path]], settings: BundleStageSettings, outputs: Path, progress: Progress) -> None:
    """Pack a bundle.

    Parameters
    ----------
    inputs
        `model`: `model.safetensors` and `model.json`; `stats`: `stats.json`; `code`: the user's Python, and what it
        reads; with `bundle.onnx`, `log`: `log.jsonl`.
    settings
        See `BundleStageSettings`.
    outputs
        Receives `bundle.zip`.
    progress
        Receives the members as they are packed.

    Raises
    ------
    ModelError
        The model is not the one that the project names.
    """
    packed = settings.copy()
    trained, onnx = packed.pop("trained", None), packed.pop("onnx", None)
    model = {path.name: path for path in inputs["model"]}
    (stats,) = inputs["stats"]
    code = inputs.get("code", ())
    description = _with_model_code(model[DESCRIPTION], code, trained)
    image = packed["image"] = _with_code(settings["image"], code)
    if (others := [path for path in code if path.suffix != ".py"]) and (description.get("code") or image.get("code")):
        progress.note(
            f"warning: a bundle does not hold data files of your code, so {others[0].name} will be missing there"
        )
    members: dict[str, Path | bytes] = {
        WEIGHTS: model[WEIGHTS],
        DESCRIPTION: _text(description),
        STATS: stats,
        PROJECT: _text(packed),
    }
    members.update(code_members(description.get("code")))
    members.update(code_members(image.get("code")))
    # Beside the zip: exported weights may have gigabytes.
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=outputs) as folder:
        if onnx is not None:
            members |= _described(inputs, settings, trained, Path(folder), progress)
        progress.start("bundle", len(members), "files")
        write_zip(outputs / BUNDLE, members, progress.advance)


def _described(
    inputs: Mapping[str, Sequence[Path]],
    settings: BundleStageSettings,
    trained: TrainedSettings | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Path | bytes]:
    """Return the members that `bundle.onnx` adds; the network is exported into a directory."""
    from rvbuild.stages.bundle.portable import portable  # it imports torch and onnx

    progress.start("export ONNX", 1, "networks")
    model = {path.name: path for path in inputs["model"]}
    (log,), (stats,) = inputs["log"], inputs["stats"]
    epochs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figures = json.loads(stats.read_bytes())
    made = portable(model[WEIGHTS], model[DESCRIPTION], figures, settings, trained, folder)
    progress.note(f"onnxruntime predicts the same classes as torch; scores differ by less than {made.difference:g}")
    two_files = made.onnx_weights is not None
    members: dict[str, Path | bytes] = {
        ONNX: made.onnx,
        "selftest.safetensors": made.selftest,
        "model.stac.json": _text(stac_item(made.info, settings, made.onnx, made.onnx_weights, made.parameters)),
        "README.md": card(made.info, settings, figures, epochs, made.parameters, two_files=two_files).encode(),
    }
    if made.onnx_weights is not None:
        members[ONNX_WEIGHTS] = made.onnx_weights
    return members


def _text(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _with_model_code(path: Path, files: Sequence[Path], trained: TrainedSettings | None) -> dict[str, Any]:
    """Return the description of the model with the source texts of its factory, taken from the workspace."""
    description: dict[str, Any] = json.loads(path.read_bytes())
    if not isinstance(description.get("model"), str) or not isinstance(description.get("model_args"), dict):
        raise ModelError(f"{path}: expected the description of a trained model, with its model and model_args")
    require_named(path, description["model"], description["model_args"], trained)
    code = sources(description["model"].partition(":")[0], files) if ":" in description["model"] else None
    return {**description, "code": code}


def _with_code(image: ImageSettings, files: Sequence[Path]) -> ImageSettings:
    """Return the settings of images with the source texts of users' transforms."""
    texts: dict[str, str] = {}
    for step in image.get("transform", ()):
        if step["kind"] == "function":
            texts |= sources(step["function"].partition(":")[0], files) or {}
    return {**image, "code": texts} if texts else image


def code_members(code: Mapping[str, str] | None) -> dict[str, bytes]:
    """Return the members that hold a model's own Python, from its source texts by dotted module name.

    >>> code_members({"nets.small": "x = 1"})
    {'code/nets/small.py': b'x = 1'}
    """
    return {f"code/{name.replace('.', '/')}.py": text.encode() for name, text in (code or {}).items()}
