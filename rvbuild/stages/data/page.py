"""The data stage, for a project: the surveys of its scenes as one table and as one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from rvbuild import tasks
from rvbuild.progress import Progress
from rvbuild.stages.data.settings import SurveyPageSettings
from rvbuild.stages.data.survey import ProjectScene, SceneSurvey, SplitSurvey
from rvbuild.stages.report.page import embedded, template
from rvbuild.units import area_text

MOST_PICTURES = 120
"""Maximum number of scenes with a picture on the page; the others are listed."""


def run(inputs: Mapping[str, Sequence[Path]], settings: SurveyPageSettings, outputs: Path, progress: Progress) -> None:
    """Write `data.json` and `index.html`.

    Parameters
    ----------
    inputs
        `scenes/<scene>`: `survey.json` and `picture.jpg`.
    settings
        The scenes and the classes.
    outputs
        Receives both files.
    progress
        Not used: the work is short.
    """
    files = {scene: {path.suffix: path for path in inputs[f"scenes/{scene}"]} for scene, _ in settings["scenes"]}
    scenes = [_scene(scene, split, files[scene][".json"]) for scene, split in settings["scenes"]]
    content = {
        "task": settings["task"],
        "unit": tasks.get(settings["task"]).COUNTED,
        "classes": [item["name"] for item in settings["classes"]],
        "null_id": settings["null_id"],
        "splits": _splits(scenes, len(settings["classes"])),
        "scenes": scenes,
    }
    (outputs / "data.json").write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pictures = [embedded(files[scene["scene"]][".jpg"]) for scene in scenes[:MOST_PICTURES]]
    page = environment.from_string(template("data/survey.html")).render(
        data=content, classes=settings["classes"], pictures=pictures, area=area_text
    )
    (outputs / "index.html").write_text(page, encoding="utf-8")


def _scene(scene: str, split: str, path: Path) -> ProjectScene:
    """Return the survey of a scene with what the page adds."""
    survey: SceneSurvey = json.loads(path.read_text(encoding="utf-8"))
    return {"scene": scene, "split": split, "area_m2": area_m2(survey), **survey}


def _splits(scenes: Sequence[ProjectScene], n_classes: int) -> list[SplitSurvey]:
    """Return scenes, area and counts of each split that has scenes."""
    splits: list[SplitSurvey] = []
    for split in ("train", "validation", "test"):
        members = [scene for scene in scenes if scene["split"] == split]
        if not members:
            continue
        counts = [scene["counts"] for scene in members if "counts" in scene]
        areas = [scene["area_m2"] for scene in members]
        splits.append(
            {
                "split": split,
                "scenes": len(members),
                "labelled": len(counts),
                "pixels": sum(scene["pixels"] for scene in members),
                "area_m2": None if None in areas else sum(area or 0 for area in areas),
                "counts": [sum(column) for column in zip(*counts, strict=True)] if counts else [0] * n_classes,
            }
        )
    return splits


def area_m2(scene: SceneSurvey) -> float | None:
    """Return the area of interest of a scene in square metres; None if the pixel size is not known."""
    res = scene["image"]["res_m"]
    return None if res is None else scene["pixels"] * res**2
