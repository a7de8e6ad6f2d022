"""Suspects as JSON data for the page: what the review has found, with what users have decided."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from rvbuild.errors import DataError
from rvbuild.review import geopackage
from rvbuild.review.suspect import SUSPECTS, Rings, Suspect, read_suspects
from rvbuild.review.table import TABLE
from rvbuild.review.verdicts import LAYER, UNDECIDED
from rvbuild.rules import common
from rvbuild.view.looking import Seen
from rvbuild.view.readers import Memo
from rvbuild.view.reviewing.deciding import Verdicts

STAGE = "suspects"

MOST = 5000
"""Suspects that are sent: the most probable ones."""

COLUMNS = ("file", "layer", "feature_id", "proposed_class")
"""What the table knows beside the computed suspects; users may correct the proposed class there."""


def review_folder(seen: Seen) -> Path | None:
    """Return the directory of the review of a project; None while no project is loaded."""
    if seen.project is None:
        return None
    return seen.project.workspace / common.folder(seen.project, "review")


def suspects_json(seen: Seen, verdicts: Verdicts, memo: Memo) -> dict[str, Any]:
    """Return the suspects of the project.

    Returns
    -------
    dict
        Empty if there was no review. `state` of the stage; `table`, the path of the GeoPackage from the workspace, null
        if there is none; `message`, what is wrong with it; `left_out`, how many suspects were too many; `open`,
        how many of all are not decided; `suspects`, best first, each as in `Suspect`, with `file`, `layer`,
        `feature_id`, `verdict`, `note`, `unsaved`, and `window`: x0, y0, x1, y1 in pixels.
    """
    shown = seen.output(STAGE, None, SUSPECTS)
    folder = review_folder(seen)
    if shown is None or folder is None:
        return {}
    path, state = shown
    version = path.stat()
    key = ("suspects", str(path), version.st_mtime_ns, version.st_size)
    suspects = memo.get(key, lambda: [_json(suspect) for suspect in read_suspects(path)])
    decided = verdicts.decided()
    known, message = _table(folder / TABLE)
    listed = []
    for suspect in suspects:
        decision = decided.by_id.get(suspect["id"], UNDECIDED)
        listed.append(
            {
                **suspect,
                **known.get(suspect["id"], {}),
                "verdict": decision.verdict,
                "note": decision.note,
                "unsaved": suspect["id"] in decided.unsaved,
            }
        )
    return {
        "state": state.value,
        "table": common.folder(seen.loaded(), "review", TABLE) if (folder / TABLE).is_file() else None,
        "message": decided.message or message,
        "open": sum(not suspect["verdict"] for suspect in listed),
        "left_out": max(0, len(listed) - MOST),
        "suspects": listed[:MOST],
    }


def _json(suspect: Suspect) -> dict[str, Any]:
    columns, rows = zip(*(point for ring in suspect.polygon for point in ring), strict=True)
    return {
        "id": suspect.id,
        "scene": suspect.scene,
        "kind": suspect.kind,
        "score": suspect.score,
        "gain": suspect.gain,
        "label_class": suspect.label_class,
        "proposed_class": suspect.proposed_class,
        "reason": suspect.reason,
        "window": [min(columns), min(rows), max(columns), max(rows)],
        "rings": _rounded(suspect.polygon),
        "proposed_rings": None if suspect.proposed_polygon is None else _rounded(suspect.proposed_polygon),
    }


def _rounded(rings: Rings) -> list[list[list[float]]]:
    return [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in rings]


def _table(path: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Return what the table knows of each suspect, and what is wrong with it."""
    if not path.is_file():
        return {}, ""
    try:
        with geopackage.read(path) as database:
            rows = database.execute(f"select id, {', '.join(COLUMNS)} from {LAYER}").fetchall()
    except (DataError, sqlite3.Error) as error:
        return {}, str(error)
    return {str(key): dict(zip(COLUMNS, values, strict=True)) for key, *values in rows}, ""
