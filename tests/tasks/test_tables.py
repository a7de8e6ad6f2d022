"""Names in the tables of `eval.md`: shown as they are, whatever they hold."""

from __future__ import annotations

import markdown_it
from hypothesis import example, given
from hypothesis import strategies as st

from rvbuild.tasks.metrics.tables import cell, escaped, table

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
ODD = [
    "![x](y)",
    "[a](b)",
    "a|b",
    "_a_",
    "a_b",
    "**b**",
    "`c`",
    "<b>&amp;</b>",
    "a\\",
    "a #",
    "~~x~~",
    "$x$",
    "*_*",
    "-",
    "1.",
]


def shown(markdown: str, kind: str) -> list[str]:
    """Return the texts of all cells or headings of a document, as a reader sees them."""
    tokens = markdown_it.MarkdownIt("js-default").parse(markdown)
    inside = [tokens[at + 1] for at, token in enumerate(tokens) if token.type == f"{kind}_open"]
    assert all(child.type in ("text", "text_special") for token in inside for child in token.children or ())
    return ["".join(child.content for child in token.children or ()) for token in inside]


def check(name: str) -> None:
    plain = " ".join(name.split())
    document = f"### {cell(escaped(name))}\n\n{table(['class', escaped(name)], [[escaped(name), '1']])}\n"
    assert shown(document, "th") == ["class", plain]
    assert shown(document, "td") == [plain, "1"]
    assert shown(document, "heading") == [plain]


@given(NAMES.filter(str.strip))
@example("![x](y)")
@example("\\|")
@example("a\\|b")
def test_a_name_is_shown_as_it_is(name: str) -> None:
    check(name)


def test_odd_names_are_shown_as_they_are() -> None:
    for name in ODD:
        check(name)


def test_usual_names_are_not_changed() -> None:
    for name in ("building", "low_vegetation", "2_10", "a-b.c", "Straße", "(x)", "a:b/c", "x, y", "it's"):
        assert escaped(name) == name
