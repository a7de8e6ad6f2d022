"""JSON as text: where its values stand, so that one is replaced and every other byte stays."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Span(NamedTuple):
    """A part of a text: from `start` to before `stop`."""

    start: int
    stop: int


class Replacement(NamedTuple):
    """A part of a text, and what it becomes."""

    span: Span
    text: str


def value_at(text: str, place: int) -> Span:
    """Return the span of the value that begins at a place, or after blanks there.

    Raises
    ------
    ValueError
        There is none.
    """
    start = _skip(text, place)
    return Span(start, _DECODER.raw_decode(text, start)[1])


def members_of(text: str, span: Span) -> dict[str, Span]:
    """Return the spans of the values of an object by their names.

    Raises
    ------
    ValueError
        It is no object, or a name is there twice.
    """
    place, members = _opened(text, span, "{"), dict[str, Span]()
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        place = _skip(text, place)
        if text[place] != ":":
            raise ValueError(f"expected a colon at character {place}")
        value = value_at(text, place + 1)
        if name in members:
            raise ValueError(f"the name {name!r} is there twice")
        members[name] = value
        place = _after(text, value.stop)
    return members


def elements_of(text: str, span: Span) -> list[Span]:
    """Return the spans of the elements of an array.

    Raises
    ------
    ValueError
        It is no array.
    """
    place, elements = _opened(text, span, "["), []
    while text[place] != "]":
        elements.append(value_at(text, place))
        place = _after(text, elements[-1].stop)
    return elements


def without(elements: Sequence[Span], removed: set[int]) -> list[Replacement]:
    """Return what to cut so that some elements of an array are gone, with their commas."""
    cuts, kept = [], [number for number in range(len(elements)) if number not in removed]
    for number in sorted(removed):
        before = [k for k in kept if k < number]
        if before:  # with the comma before it
            start = elements[number - 1].stop
            cuts.append(Replacement(Span(start, elements[number].stop), ""))
        elif number + 1 < len(elements):  # with the comma behind it
            cuts.append(Replacement(Span(elements[number].start, elements[number + 1].start), ""))
        else:
            cuts.append(Replacement(elements[number], ""))
    return cuts


def appended(text: str, array: Span, elements: Sequence[Span], removed: set[int], added: Sequence[str]) -> Replacement:
    """Return where new elements of an array go: behind the last that stays, separated as the others are."""
    kept = [number for number in range(len(elements)) if number not in removed]
    between = ", " if len(elements) < 2 else text[elements[0].stop : elements[1].start]
    body = between.join(added)
    if kept:
        place = elements[kept[-1]].stop
        return Replacement(Span(place, place), between + body)
    place = array.stop - 1
    return Replacement(Span(place, place), body)


def set_member(text: str, span: Span, name: str, value: object) -> Replacement:
    """Return how a member of an object gets a value; it is added at the end if there is none of this name."""
    members, written = members_of(text, span), dumped(value)
    if name in members:
        return Replacement(members[name], written)
    place = max((member.stop for member in members.values()), default=span.start + 1)
    comma = ", " if members else ""
    return Replacement(Span(place, place), f"{comma}{dumped(name)}: {written}")


def dumped(value: object) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def replaced(text: str, replacements: Sequence[Replacement]) -> str:
    """Return a text with all replacements, which do not overlap; those at one place in their order."""
    parts, place = [], 0
    for span, new in sorted(replacements, key=lambda replacement: replacement.span):
        assert span.start >= place, "replacements overlap"
        parts += [text[place : span.start], new]
        place = span.stop
    return "".join([*parts, text[place:]])


def _opened(text: str, span: Span, bracket: str) -> int:
    if text[span.start] != bracket:
        raise ValueError(f"expected {bracket!r} at character {span.start}")
    return _skip(text, span.start + 1)


def _after(text: str, place: int) -> int:
    """Return the place of the next element, or of the closing bracket."""
    place = _skip(text, place)
    return _skip(text, place + 1) if text[place] == "," else place


def _skip(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    assert match is not None
    return match.end()
