"""The colours of the page have enough contrast, in light and in dark."""

from __future__ import annotations

import itertools
import re

import pytest

from rvbuild.view.web.app import STATIC

STYLE = (STATIC / "view.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_can_be_read(theme: dict[str, str]) -> None:
    grounds = [theme["paper"], theme["panel"], theme["hover"]]
    for name, ground in itertools.product(("ink", "faint", "bad", "good", "wait"), grounds):
        assert contrast(theme[name], ground) >= 4.5, (name, ground)
    assert contrast(theme["on-accent"], theme["accent"]) >= 4.5
    assert contrast(theme["bad"], theme["bad-paper"]) >= 4.5
    for ground in grounds:
        assert contrast(theme["focus"], ground) >= 3, "the mark of what has the focus"
