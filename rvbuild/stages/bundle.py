"""The bundle stage: a trained model with all that predicting with it needs, in one zip.

Members: `model.safetensors`, `model.json`, `stats.json`, `project.json` (the settings of prediction), `manifest.json`
(size and digest of each other member), and `code/….py` if the model is made or pixels are transformed by the user's own
Python: the modules that `model.json` and `project.json` embed, as files that a person can read before allowing them to
run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
from rvbuild.progress import Progress
from rvbuild.stages.bundle_zip import write_zip
from rvbuild.usercode import sources_by_name

BUNDLE = "bundle.zip"
PROJECT = "project.json"
STATS = "stats.json"

MEMBERS = frozenset({WEIGHTS, DESCRIPTION, STATS, PROJECT})
"""The members of every bundle, beside the manifest."""


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Pack a bundle.

    Parameters
    ----------
    inputs
        `model`: `model.safetensors` and `model.json`; `stats`: `stats.json`; `code`: the user's Python, which
        `model.json` embeds already.
    settings
        task, image, channels, classes, null_id, chip_px, predict.
    outputs
        Receives `bundle.zip`.
    progress
        Receives the members as they are packed.
    """
    model = {path.name: path for path in inputs["model"]}
    (stats,) = inputs["stats"]
    description = model[DESCRIPTION].read_bytes()
    image = _with_code(settings["image"], inputs.get("code", ()))
    members: dict[str, Path | bytes] = {
        WEIGHTS: model[WEIGHTS],
        DESCRIPTION: description,
        STATS: stats,
        PROJECT: (
            json.dumps({**settings, "image": image}, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        ).encode(),
    }
    members.update(code_members(json.loads(description).get("code")))
    members.update(code_members(image.get("code")))
    progress.start("bundle", len(members), "files")
    write_zip(outputs / BUNDLE, members, progress.advance)


def _with_code(image: Mapping[str, Any], files: Sequence[Path]) -> Mapping[str, Any]:
    """Return the settings of images with the source texts of the user's modules that transform pixels."""
    texts: dict[str, str] = {}
    for step in image.get("transform", ()):
        if step["kind"] == "function":
            texts |= sources_by_name(step["function"].partition(":")[0], files) or {}
    return {**image, "code": texts} if texts else image


def code_members(code: Mapping[str, str] | None) -> dict[str, bytes]:
    """Return the members that hold a model's own Python, from its source texts by dotted module name.

    >>> code_members({"nets.small": "x = 1"})
    {'code/nets/small.py': b'x = 1'}
    """
    return {f"code/{name.replace('.', '/')}.py": text.encode() for name, text in (code or {}).items()}
