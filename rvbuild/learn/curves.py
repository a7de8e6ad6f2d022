"""The curves of a training as one SVG: the loss, its parts if it has some, and scores. Equal logs give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from rvbuild.learn.selection import Epoch, Score, Scores

Series = Sequence[tuple[int, float]]
"""(epoch, value) pairs."""


class Curve(NamedTuple):
    """One line of a chart."""

    colour: str
    series: Series
    dashed: bool = False


FIGURES = {"iou": "IoU", "f1": "F1", "ap50": "AP50"}
"""The metric to draw: the first that is available, by class and as `mean_<name>`."""

PANEL_WIDTH = 420
PANEL_HEIGHT = 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 36
LEGEND_ROW = 16
TRAIN_COLOUR, VALIDATION_COLOUR, MEAN_COLOUR = "#1f77b4", "#d62728", "#222222"
CLASS_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)


def draw_curves(lines: Sequence[Epoch], kept_epoch: int) -> str:
    """Return an SVG document.

    Parameters
    ----------
    lines
        The log of a training, one entry per epoch.
    kept_epoch
        The epoch of the selected weights, marked by a dashed line.
    """
    losses = {
        "training": Curve(TRAIN_COLOUR, _series([line["train_loss"] for line in lines])),
        "validation": Curve(VALIDATION_COLOUR, _series([line["val_loss"] for line in lines])),
    }
    metrics: Scores = next((line["metrics"] for line in lines if line["metrics"]), {})
    figure = shown_figure(metrics)
    scores = {"mean": Curve(MEAN_COLOUR, _series([mean_of(line["metrics"], figure) for line in lines]))}
    for number, name in enumerate(by_class(metrics, figure)):
        series = _series([by_class(line["metrics"], figure).get(name) for line in lines])
        scores[name] = Curve(_class_colour(number), series)
    epochs = len(lines)
    charts: list[tuple[str, dict[str, Curve], tuple[float, float] | None]] = [
        ("Loss", losses, None),
        ("Parts of the loss", _parts(lines), None),
        (f"Validation {FIGURES[figure]}", scores, (0.0, 1.0)),
    ]
    charts = [chart for chart in charts if any(curve.series for curve in chart[1].values())]
    panels = [_panel(title, curves, epochs, kept_epoch, limits) for title, curves, limits in charts]
    rows = max(len(curves) for _, curves, _ in charts)
    width, height = PANEL_WIDTH * len(panels), PANEL_HEIGHT + LEGEND_ROW * rows + 8
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#333333">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        elements += [f'<g transform="translate({PANEL_WIDTH * number} 0)">', *panel, "</g>"]
    return "\n".join([*elements, "</svg>"]) + "\n"


def shown_figure(metrics: Scores) -> str:
    """Return which metric by class is drawn, a key of `FIGURES`."""
    return next((name for name in FIGURES if name in metrics), next(iter(FIGURES)))


def mean_of(metrics: Scores | None, figure: str) -> Score:
    """Return the mean of a metric over the classes; None if it is not known."""
    mean = (metrics or {}).get(f"mean_{figure}")
    return mean if isinstance(mean, int | float) else None


def by_class(metrics: Scores | None, figure: str) -> Mapping[str, Score]:
    """Return a metric by class; empty if there is none."""
    scores = (metrics or {}).get(figure)
    return scores if isinstance(scores, Mapping) else {}


def _parts(lines: Sequence[Epoch]) -> dict[str, Curve]:
    """Return the curves of the parts of the loss, in alphabetical order; those of validation are dashed."""
    curves = {}
    for number, name in enumerate(sorted({name for line in lines for name in line.get("train_losses", {})})):
        colour = _class_colour(number)
        training = _series([line.get("train_losses", {}).get(name) for line in lines])
        validation = _series([line.get("val_losses", {}).get(name) for line in lines])
        curves[name] = Curve(colour, training)
        curves[f"{name}, validation"] = Curve(colour, validation, dashed=True)
    return curves


def _class_colour(number: int) -> str:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _series(values: Sequence[Score]) -> list[tuple[int, float]]:
    """Return the values of the epochs that have one, each with its epoch."""
    return [(epoch, float(value)) for epoch, value in enumerate(values, start=1) if value is not None]


def _panel(
    title: str,
    curves: Mapping[str, Curve],
    epochs: int,
    kept_epoch: int,
    limits: tuple[float, float] | None,
) -> list[str]:
    """Return the elements of one chart with its legend below."""
    values = [value for curve in curves.values() for _, value in curve.series]
    low, high, ticks = _axis(min(values, default=0.0), max(values, default=1.0)) if limits is None else _axis(*limits)
    right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM

    def x(epoch: float) -> float:
        return LEFT + (right - LEFT) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / (high - low)

    parts = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{escape(title)}</text>']
    for tick in ticks:
        parts.append(f'<line x1="{LEFT}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for epoch in _epoch_ticks(epochs):
        parts.append(f'<text x="{x(epoch):.1f}" y="{bottom + 16}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{bottom + 31}" text-anchor="middle">epoch</text>')
    parts.append(
        f'<line x1="{x(kept_epoch):.1f}" y1="{TOP}" x2="{x(kept_epoch):.1f}" y2="{bottom}" stroke="#999999" '
        f'stroke-dasharray="4 3"><title>kept: epoch {kept_epoch}</title></line>'
    )
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#333333"/>')
    for row, (name, (colour, series, dashed)) in enumerate(curves.items()):
        if not series:
            continue
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        points = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in series)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        parts += [f'<circle cx="{x(e):.1f}" cy="{y(v):.1f}" r="2" fill="{colour}"/>' for e, v in series]
        below = PANEL_HEIGHT + LEGEND_ROW * row
        parts.append(f'<path d="M{LEFT} {below + 1.5}h12" stroke="{colour}" stroke-width="3"{dash}/>')
        parts.append(f'<text x="{LEFT + 18}" y="{below + 5}">{escape(name)}: {series[-1][1]:.4g}</text>')
    return parts


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return round limits around [low, high], and the round values between."""
    reach = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(reach / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if reach / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _epoch_ticks(epochs: int) -> list[int]:
    """Return at most ten epochs to label, the first and the last among them."""
    step = max(1, math.ceil(epochs / 9))
    ticks = list(range(1, epochs + 1, step))
    if ticks[-1] != epochs:
        if epochs - ticks[-1] < step / 2:
            ticks.pop()
        ticks.append(epochs)
    return ticks
