"""A confusion matrix for people: a Markdown table, and a picture as SVG. Equal counts give equal bytes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from rvbuild.geo.classes import Classes
from rvbuild.tasks.metrics.tables import escaped, figure, ratio, table, without_null

PICTURE = "confusion.svg"

NAME_PX = 150
"""Maximum length of a name in the drawing; longer ones are cut, with a tooltip."""

_FONT_PX, _GAP = 11, 8
_SIZES = ((6, 74), (14, 50), (10**9, 34))
"""The side of a cell in pixels, by the most classes that it is for."""
_LEGEND_STEPS, _LEGEND_PX = 20, 160
_COLOURS = ((247, 251, 255), (66, 146, 198), (8, 48, 107))
"""Of shares of 0, a half and 1, between which colours are mixed."""
_UNLABELLED = "#eeeeee"


class ConfusionCounts(TypedDict):
    """What is counted in a scene."""

    confusion: list[list[int]]
    """Rows are labels, columns predictions, both in class id order."""


@dataclass(frozen=True)
class Confusion:
    """Counts of labels (rows) by predictions (columns), for the classes in reports.

    Null is not a row. It is the column "not predicted" if there are labels without a prediction.
    """

    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    """(labels, predictions) int64."""

    @classmethod
    def of(cls, matrix: Sequence[Sequence[int]], classes: Classes, null_id: int) -> Confusion:
        """Choose from the matrix of all classes, null included, in id order."""
        counts = np.array(matrix, dtype=np.int64).reshape(len(classes), len(classes))
        rows = without_null(classes, null_id)
        columns = [*rows, *(item for item in classes if item["id"] == null_id and counts[:, null_id].any())]
        names = ["not predicted" if item["id"] == null_id else item["name"] for item in columns]
        chosen = counts[np.ix_([item["id"] for item in rows], [item["id"] for item in columns])]
        return cls(tuple(names[: len(rows)]), tuple(names), chosen)

    def share(self, row: int, column: int) -> float:
        """Return the share of a label that has a prediction; NaN without labels."""
        return ratio(int(self.counts[row, column]), int(self.counts[row].sum()))

    def table(self, shares: bool) -> str:
        """Return a Markdown table, of counts or of shares of the labels."""
        rows = []
        for row, name in enumerate(self.labels):
            columns = range(len(self.predictions))
            cells = (figure(self.share(row, c)) if shares else f"{self.counts[row, c]:,}" for c in columns)
            rows.append([escaped(name), *cells])
        return table(["label", *map(escaped, self.predictions)], rows)

    def picture(self, unit: str) -> str:
        """Return an SVG document: a cell for each pair, coloured by its share of the label.

        Parameters
        ----------
        unit
            The counted unit: pixels or cells.
        """
        rows, columns = self.counts.shape
        side = next(px for most, px in _SIZES if max(rows, columns) <= most)
        drawn = max((_width(_cut(name)) for name in self.predictions), default=0.0)
        slope = drawn * 0.71
        left = 24 + max((_width(_cut(name)) for name in self.labels), default=0.0) + _GAP
        top = 40 + slope + 2 * _GAP
        right, bottom = left + side * columns, top + side * rows
        width = max(right + max(60, slope - side / 2 + _FONT_PX), left + _LEGEND_PX + 260)
        height = bottom + 24 + 40
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="{_FONT_PX}" fill="#333333">',
            # Pages and viewers may be dark.
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
            _text(
                left, 18, "Labels (rows) and predictions (columns)", "start", more='font-size="13" font-weight="bold"'
            ),
        ]
        for column, name in enumerate(self.predictions):
            x, y = left + side * (column + 0.5), top - _GAP
            parts.append(_text(x, y, _cut(name), "start", name, f'transform="rotate(-45 {x:.1f} {y:.1f})"'))
            total = int(self.counts[:, column].sum())
            title = f"{name}: {total:,} {unit} predicted"
            parts.append(_text(x, bottom + 16, _short(total), "middle", title, 'fill="#777777"'))
        for row, name in enumerate(self.labels):
            y, total = top + side * (row + 0.5) + 4, int(self.counts[row].sum())
            parts.append(_text(left - _GAP, y, _cut(name), "end", name))
            parts.append(_text(right + _GAP, y, _short(total), "start", f"{name}: {total:,} {unit}", 'fill="#777777"'))
            for column in range(columns):
                parts += self._cell(row, column, left + side * column, top + side * row, side, unit)
        for place in range(rows):
            x, y = left + side * place, top + side * place
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" fill="none" stroke="#333333"/>')
        parts += _legend(left, bottom + 40, unit)
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _cell(self, row: int, column: int, x: float, y: float, side: int, unit: str) -> list[str]:
        count, total, share = int(self.counts[row, column]), int(self.counts[row].sum()), self.share(row, column)
        colour, dark = (_colour(share), share > 0.45) if total else (_UNLABELLED, False)
        title = f"{self.labels[row]}, predicted as {self.predictions[column]}: {count:,} of {total:,} {unit}"
        if total:
            title += f", {_percent(share)}"
        parts = [
            f'<g fill="{"#ffffff" if dark else "#222222"}"><title>{escape(title)}</title>',
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" fill="{colour}" stroke="#ffffff"/>',
        ]
        middle, centre = x + side / 2, y + side / 2
        if count and side < 40:
            parts.append(_text(middle, centre + 3, _short(count), "middle", more='font-size="9"'))
        elif count:
            parts.append(_text(middle, centre - 2, _percent(share), "middle"))
            parts.append(_text(middle, centre + 12, _short(count), "middle", more='font-size="10"'))
        return [*parts, "</g>"]


def _legend(x: float, y: float, unit: str) -> list[str]:
    step = _LEGEND_PX / _LEGEND_STEPS
    parts = [_text(x, y + 10, "0 %", "start")]
    for number in range(_LEGEND_STEPS):
        colour = _colour((number + 0.5) / _LEGEND_STEPS)
        parts.append(
            f'<rect x="{x + 28 + step * number:.1f}" y="{y:.1f}" width="{step:.1f}" height="12" fill="{colour}"/>'
        )
    parts.append(_text(x + 28 + _LEGEND_PX + 6, y + 10, f"100 % of the {unit} of a label", "start"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, title: str = "", more: str = "") -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    more = more and f" {more}"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{inside}{escape(text)}</text>'


def _colour(share: float) -> str:
    place = share * (len(_COLOURS) - 1)
    first = min(int(place), len(_COLOURS) - 2)
    mixed = (round(a + (b - a) * (place - first)) for a, b in zip(_COLOURS[first], _COLOURS[first + 1], strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _percent(share: float) -> str:
    """Return a share in per cent; exactly 0 or 100 only for exact values."""
    text = f"{100 * share:.1f}"
    if text == "0.0" and share > 0:
        return "< 0.1 %"
    return "> 99.9 %" if text == "100.0" and share < 1 else f"{text.removesuffix('.0')} %"


def _short(count: int) -> str:
    """Return a count in at most five characters, up to a billion times a billion."""
    if count < 10_000:
        return str(count)
    power = (len(f"{count}") - 1) // 3
    value = f"{count / 1000**power:.3g}"
    if value == "1e+03":
        value, power = "1", power + 1
    return f"{value}{'kMGTPE'[power - 1]}"


def _width(text: str) -> float:
    """Return about how many pixels a text takes, in any font without serifs."""
    return sum(_FONT_PX * (1.0 if unicodedata.east_asian_width(character) in "WF" else 0.6) for character in text)


def _cut(text: str) -> str:
    """Return a text of at most `NAME_PX`."""
    text = " ".join(text.split())
    if _width(text) <= NAME_PX:
        return text
    while _width(text + "…") > NAME_PX:
        text = text[:-1]
    return text.rstrip() + "…"
