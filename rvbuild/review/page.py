"""`review.html`: the most probable suspects with pictures, on one page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from rvbuild.geo.classes import Classes
from rvbuild.review.suspect import KINDS
from rvbuild.review.table import TABLE, Row
from rvbuild.review.verdicts import UNDECIDED, Decision
from rvbuild.review.words import COLORS, NAMES, proposal

PAGE = "review.html"

MOST = 50
"""Number of suspects on the page."""

_SAYS = {"accept": "accepted: the label is wrong", "reject": "rejected: the label is right"}


def write_page(
    path: Path,
    title: str,
    rows: Sequence[Row],
    decided: Mapping[str, Decision],
    pictures: Mapping[str, Path],
    classes: Classes,
) -> None:
    """Write the page.

    Parameters
    ----------
    path
        The file to write.
    title
        Its title.
    rows
        All suspects, best first.
    decided
        What users have decided, by id.
    pictures
        JPEG files by the id of the suspect.
    classes
        All classes, for the legend of predictions.
    """
    counts = Counter(row.suspect.kind for row in rows)
    verdicts = Counter(decided.get(row.suspect.id, UNDECIDED).verdict or "open" for row in rows)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files("rvbuild.review").joinpath("review.html").read_text(encoding="utf-8")
    page = environment.from_string(text).render(
        title=title,
        total=len(rows),
        kinds=[(NAMES[kind], COLORS[kind], counts[kind]) for kind in KINDS if counts[kind]],
        open=verdicts["open"],
        accepted=verdicts["accept"],
        rejected=verdicts["reject"],
        items=[_item(row, decided.get(row.suspect.id, UNDECIDED), pictures) for row in rows[:MOST]],
        classes=classes,
        table=TABLE,
    )
    path.write_text(page, encoding="utf-8")


def _item(row: Row, decision: Decision, pictures: Mapping[str, Path]) -> dict[str, Any]:
    suspect = row.suspect
    x, y = (sum(values) / len(values) for values in zip(*suspect.polygon[0], strict=True))
    file = pictures.get(suspect.id)
    return {
        "id": suspect.id,
        "kind": NAMES[suspect.kind],
        "missing": suspect.kind == "missing",
        "color": COLORS[suspect.kind],
        "proposal": proposal(suspect),
        "score": suspect.score,
        "gain": suspect.gain,
        "reason": suspect.reason,
        "scene": suspect.scene,
        "row": round(y),
        "column": round(x),
        "where": _where(row),
        "verdict": _SAYS.get(decision.verdict, decision.verdict),
        "note": decision.note,
        "picture": None if file is None else f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}",
    }


def _where(row: Row) -> str:
    parts = [row.file or ""]
    if row.layer:
        parts.append(f"layer {row.layer}")
    if row.feature is not None:
        parts.append(f"feature {row.feature}")
    return ", ".join(filter(None, parts))
