"""What `rvbuild suggest` prints besides a build: the windows to label next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import counted
from rvbuild.project.model import Project

SUGGESTIONS = "suggestions.json"

_NOTHING = (
    "every pixel that may have a label has one: there is nothing to suggest. To label more, list images without "
    "labels in scenes.test, or give a training scene an aoi around what is labelled"
)


def lines(root: Path, projects: Sequence[Project], outputs: Sequence[str]) -> Iterator[str]:
    """Yield the suggestions of each project whose suggestions are among the outputs, which are relative to `root`."""
    for project in projects:
        path = f"cache/{project.name}/suggestions/{SUGGESTIONS}"
        if path in outputs:
            windows = _read(root / path)
            title = f"{counted(len(windows), 'window')} to label next:" if windows else _NOTHING
            yield f"{project.name}: {title}" if len(projects) > 1 else title
            yield from _table(windows)


def _read(path: Path) -> list[dict[str, Any]]:
    windows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["windows"]
    return windows


def _table(windows: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            str(window["rank"]),
            window["scene"],
            f"rows {window['row']} to {window['row'] + window['height']}",
            f"columns {window['col']} to {window['col'] + window['width']}",
        )
        for window in windows
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, window in zip(rows, windows, strict=True):
        rank, *places = row
        aligned = "  ".join(text.ljust(width) for text, width in zip(places, widths[1:], strict=True))
        yield f"{rank.rjust(widths[0] + 2)}  {aligned}  {window['reason']}"
