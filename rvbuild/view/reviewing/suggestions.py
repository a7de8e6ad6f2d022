"""Windows to label next as JSON data for the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rvbuild.view.looking import Seen

STAGE, LIST = "suggestions", "suggestions.json"

VALUES = ("id", "rank", "score", "reason", "uncertainty", "diversity")


def suggestions_json(seen: Seen) -> dict[str, Any]:
    """Return the suggestions of the project.

    Returns
    -------
    dict
        Empty without any. `state` of the stage, and its `reasons`, such as another `--count`; `files`, paths of the
        GeoPackages from the workspace; `windows`, best first, each with `id`, `rank`, `score`, `reason`, `uncertainty`,
        `diversity`, `class`, `scenes`, the ids of those that show it, and `window`: x0, y0, x1, y1 in pixels.
    """
    shown = seen.output(STAGE, None, LIST)
    if shown is None:
        return {}
    path, state = shown
    try:
        windows = [_window(seen, entry) for entry in json.loads(path.read_text(encoding="utf-8"))["windows"]]
    except (OSError, ValueError, TypeError, LookupError):
        return {}  # it is being written, or by another version
    status = seen.by_name[STAGE, None]
    return {
        "state": state.value,
        "reasons": list(status.reasons),
        "files": [each for each in status.outputs if Path(each).suffix == ".gpkg"],
        "windows": windows,
    }


def _window(seen: Seen, entry: dict[str, Any]) -> dict[str, Any]:
    row, col = entry["row"], entry["col"]
    return {
        **{name: entry[name] for name in VALUES},
        "class": entry["class"],
        "scenes": [scene.id for scene in seen.loaded().scenes if entry["scene"] in (scene.id, scene.base)],
        "window": [col, row, col + entry["width"], row + entry["height"]],
    }
