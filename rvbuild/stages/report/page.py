"""The report stage, for a project: one page that needs no other file and no network."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markdown_it
from markupsafe import Markup, escape

from rvbuild.geo.raster.stats import BandStats
from rvbuild.progress import Progress

PAGE = "index.html"

MOST_PICTURES = 24
"""Maximum numbers of scenes and contact sheets on the page; the others are listed."""

_BARS, _BAR_PX, _HEIGHT_PX = 64, 3, 36

_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


def template(name: str) -> str:
    """Return the text of a template, by its path inside of `stages`: the package may be in a zip archive."""
    return resources.files("rvbuild.stages").joinpath(name).read_text(encoding="utf-8")


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Write `index.html`.

    Parameters
    ----------
    inputs
        `stats`: `stats.json`; `chips/<split>/<scene>`: `index.json` and perhaps `contact.png`; `training`:
        `model.json`, and `log.jsonl` and `curves.svg` unless a training backend made the model; `scenes/<scene>`:
        `quicklook.jpg`; `evaluation`: `eval.md` and the pictures that it shows, if there is one.
    settings
        task, classes. Not the name of the project, so that a renamed one keeps its page: the page reads it from its
        own address.
    outputs
        Receives `index.html`.
    progress
        Not used: the work is short.
    """
    named = {role: {path.name: path for path in files} for role, files in inputs.items()}
    training = named["training"]
    evaluation = named.get("evaluation")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template("report/report.html")).render(
        task=settings["task"].replace("_", " "),
        classes=settings["classes"],
        evaluation=_evaluation(evaluation) if evaluation else None,
        scenes=_scenes(inputs),
        most=MOST_PICTURES,
        model=json.loads(training["model.json"].read_text(encoding="utf-8")),
        epochs=len(training["log.jsonl"].read_text(encoding="utf-8").splitlines()) if "log.jsonl" in training else None,
        curves=Markup(training["curves.svg"].read_text(encoding="utf-8")) if "curves.svg" in training else None,
        chips=_chips(named, [str(item["name"]) for item in settings["classes"]]),
        bands=_bands(inputs["stats"][0]),
    )
    (outputs / PAGE).write_text(page, encoding="utf-8")


def _evaluation(files: Mapping[str, Path]) -> Markup:
    """Return `eval.md` as self-contained HTML with its pictures; HTML in it is escaped."""
    parser = markdown_it.MarkdownIt("js-default")

    def picture(renderer: Any, tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        name = tokens[place].attrGet("src")
        if name in files and files[name].suffix == ".svg":
            return files[name].read_text(encoding="utf-8")
        return str(escape(tokens[place].content))

    parser.add_render_rule("image", picture)
    return Markup(parser.render(files["eval.md"].read_text(encoding="utf-8")))


def _scenes(inputs: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Return each predicted scene with its picture; beyond `MOST_PICTURES` without."""
    found = sorted(
        (role.removeprefix("scenes/"), files[0]) for role, files in inputs.items() if role.startswith("scenes/")
    )
    return [
        {"id": scene, "picture": embedded(path) if number < MOST_PICTURES else None}
        for number, (scene, path) in enumerate(found)
    ]


def _chips(named: Mapping[str, Mapping[str, Path]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a summary of the chips of each scene, by split."""
    found: list[dict[str, Any]] = []
    for role, files in sorted(named.items()):
        if not role.startswith("chips/"):
            continue
        _, split, scene = role.split("/", 2)
        index = json.loads(files["index.json"].read_text(encoding="utf-8"))
        total = sum(index["class_counts"])
        shares = [
            (name, count, count / total if total else math.nan)
            for name, count in zip(classes, index["class_counts"], strict=True)
            if count
        ]
        sheet = files.get("contact.png") if len(found) < MOST_PICTURES else None
        found.append(
            {
                "scene": scene,
                "split": split,
                "count": index["count"],
                "shares": shares,
                "sheet": None if sheet is None else embedded(sheet),
            }
        )
    return found


def _bands(path: Path) -> list[dict[str, Any]]:
    """Return the figures of each band, and its histogram as an SVG."""
    content = json.loads(path.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = []
    for number, value in enumerate(content["bands"]):
        stats = BandStats.from_json(value)
        figures = {"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max}
        found.append({"number": number, "count": stats.count, **figures, "histogram": _histogram(value["histogram"])})
    return found


def _histogram(value: Mapping[str, Any]) -> Markup:
    """Return a histogram as bars, from the first non-empty bin to the last."""
    counts = list(value["counts"])
    while counts and not counts[-1]:
        counts.pop()
    first = next((number for number, count in enumerate(counts) if count), 0)
    counts = counts[first:]
    group = max(1, -(-len(counts) // _BARS))
    sums = [sum(counts[start : start + group]) for start in range(0, len(counts), group)]
    highest = max(sums, default=0) or 1
    bars = "".join(
        f'<rect x="{place * _BAR_PX}" y="{_HEIGHT_PX - height:.1f}" width="{_BAR_PX - 1}" height="{height:.1f}"/>'
        for place, height in enumerate(_HEIGHT_PX * count / highest for count in sums)
    )
    width = max(1, len(sums)) * _BAR_PX
    return Markup(f'<svg width="{width}" height="{_HEIGHT_PX}" fill="#4a6a8a">{bars}</svg>')


def embedded(path: Path) -> str:
    """Return a picture as a data URL."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
