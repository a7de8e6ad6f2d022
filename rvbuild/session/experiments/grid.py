"""What a sweep tries: choices and ranges of keys, and the combinations of their values."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import tomli

from rvbuild.engine.keys.artifact import canonical
from rvbuild.errors import UsageError, counted
from rvbuild.project.toml.keys import dotted
from rvbuild.project.toml.lines import read_key

MOST_POINTS = 10_000
"""A sweep of more points is a mistake."""

_NUMBER = r"[+-]?[0-9][0-9_]*(?:\.[0-9][0-9_]*)?(?:[eE][+-]?[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_DIGITS = 4
"""Significant digits of drawn numbers, so that a project file with them can be read."""

Keys: TypeAlias = dict[str, object]
"""Dotted key → value: what a point sets."""


@dataclass(frozen=True)
class Choices:
    """The values of a key, one after the other."""

    values: tuple[object, ...]

    def draw(self, source: random.Random) -> object:
        """Return one of them."""
        return self.values[int(source.random() * len(self.values))]


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`: whole ones if both are; with `log`, each order of magnitude as often."""

    low: float
    high: float
    log: bool

    def draw(self, source: random.Random) -> object:
        """Return one of them."""
        share = source.random()
        if isinstance(self.low, int) and isinstance(self.high, int):
            if self.log:
                return min(self.high, math.floor(self.low * ((self.high + 1) / self.low) ** share))
            return self.low + int(share * (self.high - self.low + 1))
        value = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


Axis: TypeAlias = Choices | Range


def parse(arguments: Sequence[str]) -> dict[str, Axis]:
    """Parse `KEY=VALUE,VALUE…` and `KEY=LOW..HIGH[:log]`; return each key with what it may be.

    Values are those of TOML; anything else is a string, as with `--set`.

    >>> parse(["train.lr=1e-4,3e-4"])
    {'train.lr': Choices(values=(0.0001, 0.0003))}

    Raises
    ------
    UsageError
        With all arguments that cannot be read.
    """
    axes: dict[str, Axis] = {}
    problems = []
    for argument in arguments:
        try:
            key, axis = _axis(argument)
            if key in axes:
                raise ValueError(f"{key} has values already; give all of them at once")
            axes[key] = axis
        except ValueError as error:
            problems.append(f"--grid {argument}: {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return axes


def _axis(argument: str) -> tuple[str, Axis]:
    try:
        parts, end = read_key(argument)
    except ValueError:
        parts, end = (), 0
    if not parts or argument[end : end + 1] != "=":
        raise ValueError("expected KEY=VALUE,VALUE…, for example --grid train.lr=1e-4,3e-4")
    key, text = dotted(parts), argument[end + 1 :].strip()
    if key in ("project.name", "project"):
        raise ValueError(f"{key} names the project that the points belong to, so it is no part of them")
    if match := _RANGE.fullmatch(text):
        return key, _range(*match.groups())
    values = tuple(map(_value, _split(text)))
    if not values:
        raise ValueError("there are no values")
    if len({canonical(normal(value)) for value in values}) < len(values):
        raise ValueError("a value is there twice")
    return key, Choices(values)


def _range(low_text: str, high_text: str, log: str | None) -> Range:
    low, high = (tomli.loads(f"value = {text}")["value"] for text in (low_text, high_text))
    if not low < high:
        raise ValueError(f"expected a range from a lower to a higher number, found {low_text}..{high_text}")
    if log and low <= 0:
        raise ValueError(f"a range with :log begins above 0, found {low_text}")
    return Range(low, high, bool(log))


def _split(text: str) -> Iterator[str]:
    """Yield the parts of a text between commas that are not in brackets or quotes."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    if text:
        yield text[start:]


def _value(text: str) -> object:
    text = text.strip()
    if not text:
        raise ValueError("there is no value between two commas")
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if len(document) > 1:
        return text
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"{text} is no value of a key") from None
    return document["value"]


def normal(value: object) -> object:
    """Return a value that equal ones share: 1.0 is 1.

    >>> normal([1.0, 0.5, True])
    [1, 0.5, True]
    """
    if isinstance(value, dict):
        return {name: normal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def points(axes: dict[str, Axis], count: int | None, seed: int) -> list[Keys]:
    """Return the keys of each point: all combinations, or `count` that are drawn by the seed, all different.

    The first points of a larger `count` are those of a smaller one.

    Raises
    ------
    UsageError
        There is a range without a count, or too many combinations.
    """
    if count is None:
        ranges = [key for key, axis in axes.items() if isinstance(axis, Range)]
        if ranges:
            raise UsageError(f"--grid {ranges[0]}=…: a range has no end of values; say how many points with --random N")
        choices = [axis.values for axis in axes.values() if isinstance(axis, Choices)]
        total = math.prod(map(len, choices))
        if total > MOST_POINTS:
            raise UsageError(f"sweep: these are {counted(total, 'point')}, at most {MOST_POINTS}; try --random N")
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*choices)]
    drawn: dict[str, Keys] = {}
    for number in range(20 * count + 100):
        keys = {key: axis.draw(random.Random(f"{seed}:{number}:{key}")) for key, axis in axes.items()}
        drawn.setdefault(repr(keys), keys)
        if len(drawn) == count:
            break
    return list(drawn.values())
