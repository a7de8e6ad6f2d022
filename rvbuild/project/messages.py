"""Messages for users, from the errors of pydantic."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rvbuild.errors import nearest
from rvbuild.project.schema import ProjectFile, field_names, key_of, keys_by_name
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.table import Table

MOST = 1000
"""Maximum number of errors of a file with a full message, since each takes a millisecond."""

_TAG = re.compile(r"<[a-z]+>")

_TYPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}
_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda ctx: f"a number above {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"a number below {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"at most {ctx['le']:g}",
}


def translate(error: ValidationError, data: object) -> Iterator[tuple[Key, str | None]]:
    """Yield the key and the message of every error; the message is None if another one already covers it.

    Parameters
    ----------
    error
        The errors of `ProjectFile.model_validate(data)`.
    data
        The parsed file, whose keys are shown instead of those of the validated form.
    """
    details = error.errors(include_url=False)
    unknown = [item for item in details[:MOST] if item["type"] == "extra_forbidden"]
    for number, item in enumerate(details):
        if number >= MOST:
            yield written_key(item["loc"], data), "is also wrong"
            continue
        # `sise_px: unknown key; did you mean "size_px"?` implies that size_px is missing.
        silent = item["type"] == "missing" and _is_misspelt(item, unknown)
        yield written_key(item["loc"], data), None if silent else _message(item)


def written_key(location: Sequence[str | int], data: object) -> Key:
    """Return the location of an error as a key of the file.

    The location also names branches of unions, as `<tag>`, and steps into tables that the user has written in a shorter
    form (`image = "a.tif"` for `image = { files = ["a.tif"] }`). Both are left out.
    """
    key: list[str | int] = []
    current = data
    for number, step in enumerate(location):
        last = number == len(location) - 1
        if isinstance(step, str) and _TAG.fullmatch(step) and not (isinstance(current, dict) and step in current):
            continue
        if isinstance(current, dict) and isinstance(step, str) and (step in current or last):
            key.append(step)
            current = current.get(step)
        elif isinstance(current, list) and isinstance(step, int):
            key.append(step)
            current = current[step] if step < len(current) else None
    return tuple(key)


def _is_misspelt(missing: ErrorDetails, unknown: Iterable[ErrorDetails]) -> bool:
    """Tell whether a missing key is present under a misspelt name."""
    *table, name = missing["loc"]
    return any(list(item["loc"][:-1]) == table and nearest(str(item["loc"][-1]), [str(name)]) for item in unknown)


def _message(item: ErrorDetails) -> str:
    """Return the message of one error."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "wrong":
        return item["msg"]
    if kind == "expected":
        return f"expected {item['msg']}, found {show(value)}"
    if kind == "extra_forbidden":
        return _unknown_key(item)
    if kind == "missing":
        return _missing_key(item)
    if kind == "literal_error":
        return _not_a_choice(value, context["expected"])
    if kind in _BOUNDS:
        return f"expected {_BOUNDS[kind](context)}, found {show(value)}"
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}, found {show(value)}{_type_hint(kind, value)}"
    return item["msg"]


def _type_hint(kind: str, value: object) -> str:
    """Return advice on how to write a value of the wrong type."""
    if isinstance(value, str):
        if kind in ("int_type", "float_type") and re.fullmatch(r"[+-]?[0-9][0-9_.eE+-]*", value):
            return "; write it without quotes"
        if kind == "bool_type" and value.lower() in ("true", "false"):
            return "; write it without quotes, in lower case"
        if kind == "tuple_type":
            return f"; write [{show(value)}]"
    if kind == "model_type" and isinstance(value, list):
        return "; write its name in single brackets"
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if kind == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        return "; write it in quotes"
    return ""


def _not_a_choice(value: object, choices: str) -> str:
    """Return the message about a value that is not one of the valid ones."""
    words = re.findall(r"'([^']*)'", choices)
    others = re.findall(r"\b(?:True|False|\d+)\b", re.sub(r"'[^']*'", "", choices))
    *first, last = [show(word) for word in words] + [word.lower() for word in others]
    listed = f"{', '.join(first)} or {last}" if first else last
    hint = nearest(value, words) if isinstance(value, str) else ""
    return f"expected {listed}, found {show(value)}{hint}"


def _missing_key(item: ErrorDetails) -> str:
    """Return the message about a required key."""
    *outer, name = item["loc"]
    table = table_at(item["loc"])
    fields = {key_of(field, info): info for field, info in table.model_fields.items()} if table else {}
    description = fields[str(name)].description if str(name) in fields else None
    if not outer and description:
        return f"missing; expected a table [{name}]: {description[0].lower()}{description[1:].rstrip('.')}"
    return f"missing ({description[0].lower()}{description[1:].rstrip('.')})" if description else "missing"


def _unknown_key(item: ErrorDetails) -> str:
    """Return the message about a key that its table does not have, with the nearest valid one."""
    location = item["loc"]
    name = str(location[-1])
    table = table_at(location)
    if table is None:
        return "unknown key"
    if name in table.later:
        return table.later[name]
    problem = "unknown table" if len(location) == 1 and isinstance(item["input"], dict) else "unknown key"
    valid = field_names(table)
    if tables := keys_by_name().get(name):
        return f"{problem}; {name} is a key of {' and '.join(tables)}"
    return f"{problem}{nearest(name, valid) or '; valid: ' + ', '.join(valid)}"


def table_at(location: Sequence[str | int]) -> type[Table] | None:
    """Return the table with the last key of an error's location, or None if it is not a table of the schema."""
    annotation: Any = ProjectFile
    for step in location[:-1]:
        annotation = _inside(annotation, step)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Table) else None


def _inside(annotation: Any, step: str | int) -> Any:
    """Return the annotation that `step` leads to."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        fields = {key_of(name, info): info.annotation for name, info in annotation.model_fields.items()}
        return _without_none(fields.get(str(step)))
    if get_origin(annotation) is dict:
        return _without_none(get_args(annotation)[1])
    if get_origin(annotation) is tuple:
        return _without_none(get_args(annotation)[0])
    for branch in _branches(annotation):
        base, *extras = get_args(branch) if get_origin(branch) is Annotated else (branch,)
        if any(getattr(extra, "tag", None) == step for extra in extras):
            return base
    return None


def _without_none(annotation: Any) -> Any:
    """Return an annotation without `| None` and without the extras around it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    real = [branch for branch in _branches(annotation) if branch is not type(None)]
    return _without_none(real[0]) if len(real) == 1 and real[0] is not annotation else annotation


def _branches(annotation: Any) -> tuple[Any, ...]:
    """Return the branches of a union, or the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
