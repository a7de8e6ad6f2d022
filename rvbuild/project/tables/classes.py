"""The `[classes]` table: names and colours; the order gives the class ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rvbuild.project.toml.keys import show
from rvbuild.project.toml.names import RESERVED_CLASSES, clashes, name_problem
from rvbuild.project.toml.table import Finding, Table, expected, wrong

MOST_CLASSES = 255
"""Maximum number of classes, with null: class ids are uint8, and 255 means "not predicted"."""

_LONG = re.compile(r"#[0-9a-fA-F]{6}")
_SHORT = re.compile(r"#[0-9a-fA-F]{3}")
_COLORS_BY_NAME = {
    "black": "#000000",
    "white": "#ffffff",
    "red": "#ff0000",
    "green": "#008000",
    "lime": "#00ff00",
    "blue": "#0000ff",
    "yellow": "#ffff00",
    "cyan": "#00ffff",
    "magenta": "#ff00ff",
    "gray": "#808080",
    "grey": "#808080",
    "orange": "#ffa500",
    "brown": "#a52a2a",
    "purple": "#800080",
    "pink": "#ffc0cb",
}
_COLOR_PATTERN = "^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"


def parse_color(text: str) -> str | None:
    """Return a colour as `#rrggbb` in lower case, or None if it is not one.

    >>> parse_color("#F00")
    '#ff0000'
    """
    if _LONG.fullmatch(text):
        return text.lower()
    if _SHORT.fullmatch(text):
        return "#" + "".join(2 * digit for digit in text[1:].lower())
    return None


def color_problem(text: str) -> str:
    """Return the message about a text that is not a colour."""
    known_color = _COLORS_BY_NAME.get(text.strip().lower())
    hint = f"; did you mean {show(known_color)}?" if known_color else ""
    if not hint and re.fullmatch(r"[0-9a-fA-F]{6}", text):
        hint = f'; did you mean "#{text}"?'
    return f'expected a colour like "#ff0000", found {show(text)}{hint}'


def _color(value: str) -> str:
    return parse_color(value) or wrong(color_problem(value))


class ClassTable(Table):
    """One class."""

    color: Annotated[str, AfterValidator(_color), WithJsonSchema({"type": "string", "pattern": _COLOR_PATTERN})] = (
        Field(description="Colour in RGB-coded labels and in outputs, for example #ff0000.")
    )

    @model_validator(mode="before")
    @classmethod
    def _from_color(cls, value: Any) -> Any:
        """Take a bare colour for a table."""
        if isinstance(value, str):
            return {"color": value}
        return value if isinstance(value, dict) else expected('a colour like "#ff0000"')

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Also offer a bare colour to editors."""
        return {"anyOf": [{"type": "string", "pattern": _COLOR_PATTERN}, handler(schema)]}


def check_classes(
    classes: Mapping[str, ClassTable], names: tuple[str, ...], null: str, *, alone: bool = False
) -> Iterator[Finding]:
    """Yield the problems between classes, with keys relative to `[classes]`.

    Parameters
    ----------
    classes
        The valid classes.
    names
        The names of all classes, valid or not.
    null
        The name of the null class.
    alone
        Whether a single class is allowed.
    """
    for name in names:
        problem = name_problem(name, RESERVED_CLASSES)
        if problem:
            yield Finding((name,), problem)
    for _, name, earlier in clashes((*names, null) if null not in names else names):
        key = (name,) if name in names else (earlier,)
        yield Finding(
            key, f"{show(name)} and {show(earlier)} differ only in case; choose names that differ in more than case"
        )
    owners: dict[str, str] = {}
    for name, table in classes.items():
        owner = owners.setdefault(table.color, name)
        if owner != name:
            message = f"colour {show(table.color)} is also used by {show(owner)}; every class needs its own"
            yield Finding((name,), message)
    real = [name for name in names if name != null]
    if len(real) + 1 > MOST_CLASSES:
        yield Finding(
            (),
            f"{len(real)} classes; an 8-bit label raster has room for at most {MOST_CLASSES - 1} besides {show(null)}",
        )
    if len(real) == 1 and not alone:
        yield Finding(
            (),
            f"only one class, {show(real[0])}; a model needs at least two: "
            f'add one for the rest, for example background = "{_free_color(owners)}"',
        )
    if not real:
        yield Finding((), 'no classes; list them with their colours, for example building = "#ff0000"')


def _free_color(taken: Mapping[str, str]) -> str:
    """Return a colour that no class has."""
    return next(color for color in ("#808080", "#404040", "#c0c0c0") if color not in taken)


def null_color(taken: set[str]) -> str:
    """Return the colour of an added null class: black, or the colour nearest to black that is not taken."""
    colors = (f"#{number:06x}" for number in range(MOST_CLASSES + 1))
    return next((color for color in colors if color not in taken), "#000000")  # too many classes: reported elsewhere
