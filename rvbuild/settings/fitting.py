"""Whether data of strangers fit the types of settings; without pydantic, which prediction alone would not need.

Nothing is converted, and no key is allowed that a type does not have. The types are those that settings are made of:
TypedDict, `Annotated` with bounds, Literal, unions, lists, mappings, texts, numbers, true and false, and null.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypeVar, Union

import annotated_types
import typing_extensions

from rvbuild.errors import either

_NAMES: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    None: "null",
    list: "a list",
    dict: "an object",
}


class _Problem(NamedTuple):
    """Where data do not fit a type."""

    key: tuple[str | int, ...]
    expected: tuple[str, ...]
    """What would fit; empty for a key that is missing or unknown."""
    found: object
    """The value; for a missing or unknown key, what is wrong."""


def misfit(value: object, kind: Any, key: str = "") -> str:
    """Return why data do not fit a type, as a message that begins with the key; empty if they do.

    Parameters
    ----------
    value
        Data as JSON has them.
    kind
        The type.
    key
        What the value is called.

    Raises
    ------
    TypeError
        The type has a form that settings do not have.
    """
    try:
        problem = _problem(value, kind, ())
        return "" if problem is None else _message(problem, key)
    except RecursionError:
        return f"{key or 'the content'}: is nested too deeply"


def _message(problem: _Problem, key: str) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step:.80}" for step in problem.key)
    name = f"{key}{place}".removeprefix(".") or "the content"
    if not problem.expected:
        return f"{name}{problem.found}"
    return f"{name}: expected {either(dict.fromkeys(problem.expected))}, found {problem.found!r:.80}"


def _problem(value: object, kind: Any, key: tuple[str | int, ...]) -> _Problem | None:
    """Return the first problem of a value, in the order of the keys of the type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing_extensions.is_typeddict(origin or kind):
        return _of_table(value, kind, key)
    if origin is typing.Annotated:
        return _problem(value, arguments[0], key) or _of_bounds(value, kind.__metadata__, key)
    if origin is Literal:
        fits = any(type(value) is type(choice) and value == choice for choice in arguments)
        return None if fits else _Problem(key, tuple(map(json.dumps, arguments)), value)
    if origin in (Union, types.UnionType):
        return _of_union(value, arguments, key)
    if origin in (list, Sequence):
        return _of_items(value, list, enumerate(value) if isinstance(value, list) else (), arguments[0], key)
    if origin in (dict, Mapping):
        return _of_items(value, dict, value.items() if isinstance(value, dict) else (), arguments[1], key)
    if kind is object:
        return None
    return _of_scalar(value, None if kind is types.NoneType else kind, key)


def _of_scalar(value: object, kind: Any, key: tuple[str | int, ...]) -> _Problem | None:
    if kind not in (str, int, float, bool, None):
        raise TypeError(f"settings have no values of {kind}")
    if kind is str and isinstance(value, str) and not _is_unicode(value):
        return _Problem(key, ("a text of Unicode",), value)
    fits = value is None if kind is None else type(value) is kind or (kind is float and _is_whole(value))
    return None if fits else _Problem(key, (_NAMES[kind],), value)


def _of_items(value: object, kind: type, items: Any, item_kind: Any, key: tuple[str | int, ...]) -> _Problem | None:
    if not isinstance(value, kind):
        return _Problem(key, (_NAMES[kind],), value)
    for name, item in items:
        if isinstance(name, str) and not _is_unicode(name):
            return _Problem((*key, name), ("a text of Unicode",), name)
        if problem := _problem(item, item_kind, (*key, name)):
            return problem
    return None


def _of_table(value: object, kind: Any, key: tuple[str | int, ...]) -> _Problem | None:
    if not isinstance(value, dict):
        return _Problem(key, (_NAMES[dict],), value)
    fields = _fields(kind)
    for name, (field, is_required) in fields.items():
        if name in value:
            if problem := _problem(value[name], field, (*key, name)):
                return problem
        elif is_required:
            return _Problem((*key, name), (), " is missing")
    unknown = next((name for name in value if name not in fields), None)
    return None if unknown is None else _Problem((*key, unknown), (), ": unknown key")


def _of_union(value: object, kinds: Sequence[Any], key: tuple[str | int, ...]) -> _Problem | None:
    """Return the problem of the type that is meant: by `kind`, or else the one that fits furthest."""
    problems = []
    for kind in kinds:
        problem = _problem(value, kind, key)
        if problem is None:
            return None
        if kind is not types.NoneType:
            problems.append((kind, problem))
    if isinstance(value, dict):
        choices = [_fields(kind)["kind"][0] for kind in kinds if "kind" in _fields_or_none(kind)]
        if choices:
            meant = [p for kind, p in problems if _problem(value.get("kind"), _fields(kind)["kind"][0], ()) is None]
            if meant:
                return meant[0]
            words = tuple(word for choice in choices for word in map(json.dumps, typing.get_args(choice)))
            place = (*key, "kind")
            return _Problem(place, words, value["kind"]) if "kind" in value else _Problem(place, (), " is missing")
    furthest = max(len(problem.key) for _, problem in problems)
    first, *others = (problem for _, problem in problems if len(problem.key) == furthest)
    expected = [word for problem in (first, *others) if problem.key == first.key for word in problem.expected]
    return first._replace(expected=tuple(expected))


def _of_bounds(value: Any, bounds: Sequence[object], key: tuple[str | int, ...]) -> _Problem | None:
    number = "a whole number" if isinstance(value, int) else "a number"
    for bound in bounds:
        match bound:
            case annotated_types.Gt(gt=low):
                fits, expected = value > low, f"{number} above {low:g}"
            case annotated_types.Ge(ge=low):
                fits, expected = value >= low, f"{number} of at least {low:g}"
            case annotated_types.Lt(lt=high):
                fits, expected = value < high, f"{number} below {high:g}"
            case annotated_types.Le(le=high):
                fits, expected = value <= high, f"{number} of at most {high:g}"
            case annotated_types.Len(min_length=least) if len(value) < least:
                fits, expected = False, f"a list of at least {least}"
            case annotated_types.Len(max_length=most):
                fits, expected = most is None or len(value) <= most, f"a list of at most {most}"
            case _:
                raise TypeError(f"settings have no bounds like {bound}")
        if not fits:
            return _Problem(key, (expected,), value)
    return None


def _fields_or_none(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    return _fields(kind) if typing_extensions.is_typeddict(typing.get_origin(kind) or kind) else {}


@functools.cache
def _fields(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    """Return the type of each key of a TypedDict, and whether it must be there."""
    table = typing.get_origin(kind) or kind
    given = dict(zip(getattr(table, "__parameters__", ()), typing.get_args(kind), strict=True))
    fields = {}
    for name, field in typing_extensions.get_type_hints(table, include_extras=True).items():
        form: Any = typing.get_origin(field)
        is_required = form is not NotRequired
        content = field if is_required else typing.get_args(field)[0]
        fields[name] = (given[content] if isinstance(content, TypeVar) else content, is_required)
    return fields


def _is_whole(value: object) -> bool:
    """Tell whether a value is a whole number that a float can hold."""
    try:
        return type(value) is int and float(value) == float(value)
    except OverflowError:
        return False


def _is_unicode(text: str) -> bool:
    """Tell whether a text has no halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
