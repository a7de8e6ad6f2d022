"""Numbers that a named part of a training takes: the arguments of losses and augmentations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import show


@dataclass(frozen=True)
class Argument:
    """A number that a loss or an augmentation takes.

    Attributes
    ----------
    default : float
        Its value if the project does not set it. It is not part of keys: a new default is a change of the code that
        uses it.
    about : str
        Its meaning, for the documentation.
    below : float
        Upper bound, exclusive.
    least, most : float
        Bounds, inclusive.
    """

    default: float
    about: str
    below: float = math.inf
    least: float = 0.0
    most: float = math.inf

    @property
    def range(self) -> str:
        """The valid values, in words."""
        if not math.isinf(self.most):
            return f"a number from {self.least:g} to {self.most:g}"
        if not math.isinf(self.below):
            return f"a number from {self.least:g} to less than {self.below:g}"
        return f"a number of at least {self.least:g}"

    def allows(self, value: object) -> bool:
        """Tell whether a value is a number in the range."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.least <= value < self.below and value <= self.most


Arguments = Mapping[str, Argument]
"""The arguments by name."""


def problems(owner: str, arguments: Arguments, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, message) for each argument of a project that `owner` does not take."""
    for name, value in args.items():
        argument = arguments.get(name)
        if argument is None:
            hint = nearest(name, arguments) or f"; it takes {', '.join(arguments) or 'no arguments'}"
            yield name, f'"{owner}" has no such argument{hint}'
        elif not argument.allows(value):
            yield name, f"expected {argument.range}, found {show(value)}"


def not_default(arguments: Arguments, args: Mapping[str, Any]) -> dict[str, float]:
    """Return the arguments of a project that differ from their defaults, in canonical form."""
    return {name: float(value) for name, value in args.items() if value != arguments[name].default}


def with_defaults(arguments: Arguments, args: Mapping[str, Any]) -> dict[str, float]:
    """Return all arguments, with the defaults filled in."""
    return {name: float(args.get(name, argument.default)) for name, argument in arguments.items()}


def described(owner: str, arguments: Arguments) -> str:
    """Return the arguments as a sentence for the documentation."""
    items = (f"{name} = {argument.default:g} ({argument.about})" for name, argument in arguments.items())
    return f"{owner}: {', '.join(items)}."
