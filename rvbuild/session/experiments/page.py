"""The page of a project's points: their table, and the curves of their trainings side by side, in one file."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from rvbuild.engine.store import inside
from rvbuild.project.model import Project
from rvbuild.project.toml.edit import toml_text
from rvbuild.session.experiments.points import POINTS
from rvbuild.session.experiments.results import PROJECT, Row

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 260, 52, 12, 10, 24
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_MOST_METRICS = 6

Series = list[tuple[float, float]]


def write_page(project: Project, table: Sequence[Row], metric: str, best: Row | None) -> str:
    """Write `cache/PROJECT/points/index.html`, and return its path relative to the workspace.

    Parameters
    ----------
    project
        The project of the file.
    table
        The rows, the best first, with the logs of their trainings.
    metric
        What they are sorted by.
    best
        The row to mark.
    """
    path = f"{project.title}/{POINTS}/index.html"
    inside.write(project.workspace / "cache", path, page(project.title, table, metric, best).encode())
    return f"cache/{path}"


def page(title: str, table: Sequence[Row], metric: str, best: Row | None) -> str:
    """Return the page."""
    import jinja2

    colours = {row.id: _colour(number) for number, row in enumerate(table)}
    keys = list(dict.fromkeys(key for row in table for key in row.keys))
    split = metric.partition(".")[0]
    names = [name for row in table for name in row.metrics if name.startswith(f"{split}.") and name.count(".") == 1]
    names = [name for name in names if not name.endswith("_px")]  # how much was evaluated
    metrics = list(dict.fromkeys([metric, *names]))[:_MOST_METRICS]
    rows = [
        {
            "id": "the project file" if row.id == PROJECT else row.id,
            "best": row is best,
            "colour": colours[row.id],
            "set": [_text(row.keys[key]) if key in row.keys else "" for key in keys],
            "metrics": [f"{row.metrics[name]:.4g}" if name in row.metrics else "–" for name in metrics],
            "cost": f"{row.seconds + row.shared_seconds:,.1f} s" if row.metrics else "–",
            "state": row.state,
            "message": row.message,
        }
        for row in table
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    text = resources.files("rvbuild.session.experiments").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        title=title,
        points=sum(row.id != PROJECT for row in table),
        metric=metric,
        keys=keys,
        metrics=metrics,
        rows=rows,
        charts=_charts(table, metric, colours),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else toml_text(value)


def _colour(number: int) -> str:
    if number < len(_COLOURS):
        return _COLOURS[number]
    red, green, blue = colorsys.hls_to_rgb(number * 0.618034 % 1, 0.45, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _charts(table: Sequence[Row], metric: str, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    name = metric.rpartition(".")[2]
    kinds: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = [
        (f"{name} of validation chips", lambda epoch: (epoch.get("metrics") or {}).get(name)),
        ("training loss", lambda epoch: epoch.get("train_loss")),
        ("validation loss", lambda epoch: epoch.get("val_loss")),
    ]
    charts = []
    for title, value in kinds:
        series = {row.id: _series(row, value) for row in table}
        series = {id_: points for id_, points in series.items() if points}
        if series:
            charts.append(_chart(title, series, colours))
    return charts


def _series(row: Row, value: Callable[[Mapping[str, Any]], Any]) -> Series:
    points = [(epoch.get("epoch"), value(epoch)) for epoch in row.log]
    return [(float(x), float(y)) for x, y in points if type(x) is int and type(y) in (int, float) and math.isfinite(y)]


def _chart(title: str, series: Mapping[str, Series], colours: Mapping[str, str]) -> dict[str, Any]:
    values = [y for points in series.values() for _, y in points]
    last = max(x for points in series.values() for x, _ in points)
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - 1) / max(last - 1, 1)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1),
        )

    epochs = sorted({1, round((1 + last) / 2), round(last)})
    lines = []
    for id_, points in series.items():
        places = [place(x, y) for x, y in points]
        lines.append(
            {
                "id": id_,
                "colour": colours[id_],
                "points": " ".join(f"{x},{y}" for x, y in places),
                "single": places[0] if len(places) == 1 else None,
            }
        )
    return {
        "title": title,
        "lines": lines[::-1],  # the best is drawn last, above the others
        "ticks": [{"y": place(1, tick)[1], "text": f"{tick:.6g}"} for tick in ticks],
        "epochs": [{"x": place(epoch, low)[0], "text": epoch} for epoch in epochs],
    }


def _ticks(low: float, high: float) -> list[float]:
    """Return round values around a range."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [number * step for number in range(first, last + 1)]
