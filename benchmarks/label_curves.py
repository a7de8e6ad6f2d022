"""The curves of simulations of labelling as one SVG: a chart for each data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.suggest import Result

WIDTH, HEIGHT = 330, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 34, 40
COLOURS = {
    "random": "#7f7f7f",
    "entropy": "#ff7f0e",
    "margin": "#9467bd",
    "core set": "#2ca02c",
    "suggest": "#1f77b4",
}
HIGHEST = 1.1


def draw(every: Mapping[str, Mapping[str, Result]]) -> str:
    """Return the SVG: the mean of all simulations by the number of labelled windows, and the range of `suggest`."""
    width, height = WIDTH * len(every), HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#333333">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (title, results) in enumerate(every.items()):
        parts += [f'<g transform="translate({WIDTH * number})">', *_chart(title, results), "</g>"]
    for number, (strategy, colour) in enumerate(COLOURS.items()):
        x = LEFT + 110 * number
        parts.append(f'<path d="M{x} {HEIGHT + 10}h14" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 20}" y="{HEIGHT + 14}">{strategy}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _chart(title: str, results: Mapping[str, Result]) -> list[str]:
    counts = next(iter(results.values())).counts
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(count: float) -> float:
        return LEFT + (right - LEFT) * (count - counts[0]) / (counts[-1] - counts[0])

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * min(max(value, 0), HIGHEST) / HIGHEST

    parts = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{title}</text>']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(f'<line x1="{LEFT}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<path d="M{LEFT} {y(0.95):.1f}H{right}" stroke="#999999" stroke-dasharray="4 3"/>')
    for count in np.linspace(counts[0], counts[-1], 5).round().astype(int).tolist():
        parts.append(f'<text x="{x(count):.1f}" y="{bottom + 16}" text-anchor="middle">{count}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{bottom + 32}" text-anchor="middle">labelled windows</text>')
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#333333"/>')
    for strategy, result in results.items():
        colour = COLOURS[strategy]
        if strategy == "suggest":
            low, high = np.min(result.curves, axis=0), np.max(result.curves, axis=0)
            around = [*zip(counts, high, strict=True), *reversed(list(zip(counts, low, strict=True)))]
            points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in around)
            parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.15"/>')
        mean = np.mean(result.curves, axis=0)
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in zip(counts, mean, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return parts
