"""Curves of precision and recall as a picture: one SVG. Equal figures give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

PICTURE = "precision_recall.svg"

_SIDE, _LEFT, _TOP, _ROW = 360, 56, 40, 16
"""In pixels: the square of the chart, where it begins, and a line of the legend."""
_LEGEND_PX = 260
_NAME = 24
"""Maximum length of a class name in the drawing; longer ones have a tooltip."""


class Curve(NamedTuple):
    """The curve of a class."""

    name: str
    colour: str
    precision: Sequence[float]
    """At each recall; NaN without labels."""
    average: float
    """The average precision."""
    point: tuple[float, float]
    """Recall and precision at the score threshold; NaN if there are no boxes."""


def picture(recalls: Sequence[float], curves: Sequence[Curve], iou: float, score_thresh: float) -> str:
    """Return an SVG document.

    Parameters
    ----------
    recalls
        (R,) from 0 to 1.
    curves
        Of each class, (R,) each.
    iou
        The overlap from which a box is right.
    score_thresh
        Where the points lie.
    """
    width = _LEFT + _SIDE + 24 + _LEGEND_PX
    height = max(_TOP + _SIDE + 48, _TOP + _ROW * (len(curves) + 3))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#333333">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="13" font-weight="bold">Precision and recall at an overlap (IoU) of '
        f"{iou:g}</text>",
        *_frame(),
    ]
    for curve in curves:
        # Recalls that are not reached have a precision of 0.
        steps = [(r, p) for r, p in zip(recalls, curve.precision, strict=True) if p > 0]
        line = " ".join(f"{_x(r):.1f},{_y(p):.1f}" for r, p in steps)
        title = f"<title>{escape(curve.name)}</title>"
        # Drawn twice: light colours would be lost on white.
        for colour, px in (("#555555", 3), (curve.colour, 1.8)):
            style = f'fill="none" stroke={quoteattr(colour)} stroke-width="{px}"'
            parts += [f'<polyline points="{line}" {style}>{title}</polyline>'] if steps else []
    for curve in curves:
        recall, precision = curve.point
        if not math.isnan(recall) and not math.isnan(precision):
            where = f"{curve.name}: of the boxes from {score_thresh:g}, recall {recall:.3f}, precision {precision:.3f}"
            parts.append(
                f'<circle cx="{_x(recall):.1f}" cy="{_y(precision):.1f}" r="4.5" fill={quoteattr(curve.colour)} '
                f'stroke="#222222"><title>{escape(where)}</title></circle>'
            )
    return "\n".join([*parts, *_legend(curves, score_thresh), "</svg>"]) + "\n"


def _x(recall: float) -> float:
    return _LEFT + _SIDE * recall


def _y(precision: float) -> float:
    return _TOP + _SIDE * (1 - precision)


def _frame() -> list[str]:
    """Return grid and axes."""
    parts = []
    for tick in range(6):
        share = tick / 5
        line = f'<path d="M{_x(share):.1f} {_y(0)}V{_y(1)}M{_x(0)} {_y(share):.1f}H{_x(1)}" stroke="#e5e5e5"/>'
        parts += [
            line,
            f'<text x="{_x(share):.1f}" y="{_y(0) + 16}" text-anchor="middle">{share:g}</text>',
            f'<text x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:g}</text>',
        ]
    parts.append(f'<path d="M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}" fill="none" stroke="#333333"/>')
    parts.append(f'<text x="{_x(0.5):.1f}" y="{_y(0) + 34}" text-anchor="middle">recall</text>')
    turned = f'transform="rotate(-90 16 {_y(0.5):.1f})"'
    parts.append(f'<text x="16" y="{_y(0.5):.1f}" text-anchor="middle" {turned}>precision</text>')
    return parts


def _legend(curves: Sequence[Curve], score_thresh: float) -> list[str]:
    x, parts = _LEFT + _SIDE + 24, []
    parts.append(f'<text x="{x}" y="{_TOP + 8}" fill="#777777">average precision; points: score from ')
    parts[-1] += f"{score_thresh:g}</text>"
    for row, curve in enumerate(curves, start=1):
        y = _TOP + 8 + _ROW * row
        shown = curve.name if len(curve.name) <= _NAME else curve.name[: _NAME - 1].rstrip() + "…"
        figure = "–" if math.isnan(curve.average) else f"{curve.average:.3f}"
        parts.append(
            f'<rect x="{x}" y="{y - 8}" width="12" height="6" fill={quoteattr(curve.colour)} stroke="#555555"/>'
        )
        parts.append(f'<text x="{x + 20}" y="{y}"><title>{escape(curve.name)}</title>{escape(shown)}: {figure}</text>')
    return parts
