"""The report stage, for a project: one page that needs no other file and no network.

It answers three questions: how good the model is, where it is wrong, and what to do next.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markdown_it
from markupsafe import Markup, escape
from typing_extensions import TypedDict

from rvbuild import tasks
from rvbuild.geo.raster.stats import BandStats
from rvbuild.learn.selection import Epoch
from rvbuild.progress import Progress
from rvbuild.project.tasks import SPECS
from rvbuild.settings.area import Split
from rvbuild.settings.classes import ClassSettings
from rvbuild.stages.report.findings import Figures, findings
from rvbuild.stages.report.pictures import MOST_PLACES, place_picture
from rvbuild.tasks.metrics.score_histogram import BINS, ScoreHistogram, added

PAGE = "index.html"

MOST_PICTURES = 24
"""Maximum numbers of scenes and contact sheets on the page; the others are listed."""

_MOST_NAMES = 5
"""Maximum number of classes in the title."""

_CHART_PX, _CHART_BAR_PX = 120, 22
"""Height of the chart of scores, and width of its bars."""

_BARS, _BAR_PX, _HEIGHT_PX = 64, 3, 36

_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


def template(name: str) -> str:
    """Return the text of a template, by its path inside of `stages`: the package may be in a zip archive."""
    return resources.files("rvbuild.stages").joinpath(name).read_text(encoding="utf-8")


class PageSettings(TypedDict):
    """The settings of the stage."""

    task: str
    classes: list[ClassSettings]
    null_id: int
    splits: dict[str, Split]
    """Scene id → split, of the evaluated scenes."""


class _ChipSummary(TypedDict):
    """The chips of a scene."""

    scene: str
    split: str
    count: int
    shares: list[tuple[str, int, float]]
    """Name, count and share of each class that they have."""
    counts: list[int]
    """Of each class id."""
    sheet: str | None
    """A picture of some of them."""


def run(inputs: Mapping[str, Sequence[Path]], settings: PageSettings, outputs: Path, progress: Progress) -> None:
    """Write `index.html`.

    Parameters
    ----------
    inputs
        `stats`: `stats.json`; `chips/<split>/<scene>`: `index.json` and perhaps `contact.png`; `training`:
        `model.json`, and `log.jsonl` and `curves.svg` unless a training backend made the model; `scenes/<scene>`:
        the picture of the scene; `evaluation`, if there is one: `eval.json`, `eval.md` and the pictures that it shows.
        Of each evaluated scene `counts/<scene>`, `places/<scene>` and `pictures/<scene>`: its counts, its worst places,
        and `place_00.jpg` and so on.
    settings
        See `PageSettings`.
    outputs
        Receives `index.html`.
    progress
        Not used: the work is short.
    """
    named = {role: {path.name: path for path in files} for role, files in inputs.items()}
    task, classes = settings["task"], settings["classes"]
    training, evaluation = named["training"], named.get("evaluation")
    content: Figures | None = None
    if evaluation is not None:
        content = json.loads(evaluation["eval.json"].read_text(encoding="utf-8"))
    model = json.loads(training["model.json"].read_text(encoding="utf-8"))
    log = _log(training["log.jsonl"]) if "log.jsonl" in training else []
    chips = _chips(named, [item["name"] for item in classes])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template("report/report.html")).render(
        title=_title(settings),
        classes=classes,
        headlines=_headlines(content, task, settings["splits"]),
        tables=_tables(evaluation) if evaluation else [],
        places=_places(inputs, settings),
        histograms=_histograms(inputs, settings),
        findings=findings(
            content,
            log,
            _trained(chips, len(classes)),
            classes,
            settings["null_id"],
            tasks.get(task).COUNTED,
            weighable="class_weights" not in SPECS[task].unused.get("train", {}) and not model.get("backend"),
        ),
        scenes=_scenes(inputs),
        most=MOST_PICTURES,
        model=model,
        epochs=len(log) if "log.jsonl" in training else None,
        curves=Markup(training["curves.svg"].read_text(encoding="utf-8")) if "curves.svg" in training else None,
        chips=chips,
        bands=_bands(inputs["stats"][0]),
    )
    (outputs / PAGE).write_text(page, encoding="utf-8")


def _title(settings: PageSettings) -> str:
    """Return the title. It does not hold the name of the project, so that a renamed project keeps its page."""
    names = [str(item["name"]) for item in settings["classes"] if item["id"] != settings["null_id"]]
    listed = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return f"{settings['task'].replace('_', ' ').capitalize()}: {listed}"


def _log(path: Path) -> list[Epoch]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _histograms(inputs: Mapping[str, Sequence[Path]], settings: PageSettings) -> Markup | None:
    """Return the histogram of the scores of all evaluated scenes as an SVG; None if there are no scores."""
    task, total = tasks.get(settings["task"]), None
    for role, files in sorted(inputs.items()):
        if role.startswith("counts/"):
            counts = json.loads(files[0].read_text(encoding="utf-8"))
            of_scene = task.score_histogram(counts, settings["classes"], settings["null_id"])
            if of_scene is not None:
                total = of_scene if total is None else added(total, of_scene)
    return None if total is None else _score_chart(total)


def _score_chart(histogram: ScoreHistogram) -> Markup:
    """Return bars for the scores from 0 to 1: wrong predictions on top of right ones."""
    highest = max(map(sum, zip(histogram["right"], histogram["wrong"], strict=True))) or 1
    bars = []
    for place, (right, wrong) in enumerate(zip(histogram["right"], histogram["wrong"], strict=True)):
        low, high = (_CHART_PX * value / highest for value in (right, right + wrong))
        x = place * _CHART_BAR_PX
        title = f"<title>{place / BINS:.2f} to {(place + 1) / BINS:.2f}: {right:,} right, {wrong:,} wrong</title>"
        bars += [
            f'<g>{title}<rect x="{x}" y="{_CHART_PX - low:.1f}" width="{_CHART_BAR_PX - 2}" height="{low:.1f}" '
            'fill="#2ca02c"/>'
            f'<rect x="{x}" y="{_CHART_PX - high:.1f}" width="{_CHART_BAR_PX - 2}" height="{high - low:.1f}" '
            'fill="#d62728"/></g>'
        ]
    width = BINS * _CHART_BAR_PX
    ticks = "".join(
        f'<text x="{width * share:.0f}" y="{_CHART_PX + 16}" text-anchor="{anchor}">{share:g}</text>'
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return Markup(
        f'<svg width="{width}" height="{_CHART_PX + 20}" viewBox="0 0 {width} {_CHART_PX + 20}" font-size="12">'
        f"{''.join(bars)}{ticks}</svg>"
    )


def _headlines(evaluation: Figures | None, task: str, splits: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the headline metric of each split, that of the test scenes first."""
    if evaluation is None:
        return []
    spec = SPECS[task]
    counts = Counter(splits.values())
    return [
        {"split": split, "name": spec.headline, "value": value, "scenes": counts[split]}
        for split, value in spec.headlines(evaluation, splits).items()
    ]


def _tables(files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the sections of `eval.md`, each with its title and self-contained HTML; HTML in it is escaped."""
    parser = markdown_it.MarkdownIt("js-default")

    def picture(renderer: Any, tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        name = tokens[place].attrGet("src")
        if name in files and files[name].suffix == ".svg":
            return files[name].read_text(encoding="utf-8")
        return str(escape(tokens[place].content))

    def table(renderer: Any, tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        return '<div class="wide"><table>' if tokens[place].nesting > 0 else "</table></div>"

    parser.add_render_rule("image", picture)
    parser.add_render_rule("table_open", table)
    parser.add_render_rule("table_close", table)
    page, sections = "", []
    for part in re.split(r"^(?=##? )", files["eval.md"].read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading, _, text = part.partition("\n")
        if heading.startswith("# "):
            page = heading.removeprefix("# Evaluation").removeprefix(" of ")
            title = ""
        else:
            title = heading.removeprefix("## ")
        if part.strip():
            sections.append(
                {
                    "title": f"{title} ({page})" if title and page else title or page,
                    "wrong": title == "Confusion",
                    "html": Markup(parser.render(text)),
                }
            )
    return sections


def _places(inputs: Mapping[str, Sequence[Path]], settings: PageSettings) -> list[dict[str, Any]]:
    """Return the worst places of all scenes, each with its picture."""
    names = [item["name"] for item in settings["classes"]]
    unit, null_id = tasks.get(settings["task"]).COUNTED, settings["null_id"]
    pictures = {
        (role.removeprefix("pictures/"), path.name): path
        for role, files in inputs.items()
        for path in files
        if role.startswith("pictures/")
    }
    ranked = []
    for role, files in inputs.items():
        if not role.startswith("places/"):
            continue
        scene = role.removeprefix("places/")
        places = json.loads(files[0].read_text(encoding="utf-8"))["places"]
        ranked += [(-place["severity"], scene, number, place) for number, place in enumerate(places[:MOST_PLACES])]
    ranked.sort(key=lambda item: item[:3])
    return [
        {
            "scene": scene,
            "row": place["window"][0],
            "column": place["window"][1],
            "errors": [error_text(error, names, null_id, unit) for error in place["errors"][:3]],
            "picture": embedded(pictures[scene, place_picture(number)]),
        }
        for _, scene, number, place in ranked[:MOST_PLACES]
    ]


def error_text(error: Sequence[int], names: Sequence[str], null_id: int, unit: str) -> str:
    """Return a kind of error, (label, prediction, count), in words.

    >>> error_text([0, 1, 1200], ["crown", "ground", "null"], 2, "pixels")
    'crown predicted as ground: 1,200 pixels'
    >>> error_text([0, 2, 3], ["car", "bus", "null"], 2, "boxes"), error_text([2, 0, 1], ["car", "null"], 2, "boxes")
    ('car missed: 3 boxes', 'car where there is none: 1 boxes')
    """
    label, predicted, count = error
    if predicted == null_id:
        confused = f"{names[label]} missed"
    elif label == null_id:
        confused = f"{names[predicted]} where there is none"
    else:
        confused = f"{names[label]} predicted as {names[predicted]}"
    return f"{confused}: {count:,} {unit}"


def _trained(chips: Sequence[_ChipSummary], classes: int) -> list[int]:
    """Return how often each class id occurs in the training chips."""
    of_training = [item["counts"] for item in chips if item["split"] == "train"]
    return [sum(counts[class_id] for counts in of_training) for class_id in range(classes)]


def _scenes(inputs: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Return each predicted scene with its picture; beyond `MOST_PICTURES` without."""
    pictures = sorted(
        (role.removeprefix("scenes/"), files[0]) for role, files in inputs.items() if role.startswith("scenes/")
    )
    return [
        {"id": scene, "picture": embedded(path) if number < MOST_PICTURES else None}
        for number, (scene, path) in enumerate(pictures)
    ]


def _chips(named: Mapping[str, Mapping[str, Path]], classes: Sequence[str]) -> list[_ChipSummary]:
    """Return a summary of the chips of each scene, by split."""
    summaries: list[_ChipSummary] = []
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
        sheet = files.get("contact.png") if len(summaries) < MOST_PICTURES else None
        summaries.append(
            {
                "scene": scene,
                "split": split,
                "count": index["count"],
                "shares": shares,
                "counts": index["class_counts"],
                "sheet": None if sheet is None else embedded(sheet),
            }
        )
    return summaries


def _bands(path: Path) -> list[dict[str, Any]]:
    """Return the figures of each band, and its histogram as an SVG."""
    content = json.loads(path.read_text(encoding="utf-8"))
    bands: list[dict[str, Any]] = []
    for number, value in enumerate(content["bands"]):
        stats = BandStats.from_json(value)
        figures = {"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max}
        histogram = _histogram(value["histogram"]["counts"])
        bands.append({"number": number, "count": stats.count, **figures, "histogram": histogram})
    return bands


def _histogram(bins: Sequence[int]) -> Markup:
    """Return a histogram as bars, from the first non-empty bin to the last."""
    counts = list(bins)
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
