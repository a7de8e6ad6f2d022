"""Numbers within limits. Only files of strangers are checked against them: project files have checks of their own.

mypy takes them for `int`, `float` and `list`; `rvbuild.settings.fitting`, which validates bundles, reads the limits.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt, Le, Len, Lt

MAX_PX = 1 << 16
"""The longest side of a window, and the most bands: far beyond any model, and no danger to the memory."""

_MAX = 1e300

Number: TypeAlias = Annotated[float, Gt(-_MAX), Lt(_MAX)]
"""A number that is neither infinite nor NaN, nor a whole number that no float can hold."""

NotNegative: TypeAlias = Annotated[float, Ge(0), Lt(_MAX)]
Positive: TypeAlias = Annotated[float, Gt(0), Lt(_MAX)]

Fraction: TypeAlias = Annotated[float, Ge(0), Le(1)]

Pixels: TypeAlias = Annotated[int, Ge(1), Le(MAX_PX)]
"""A length in pixels, or the number of things that are taken together."""

Index: TypeAlias = Annotated[int, Ge(0), Le(MAX_PX)]
"""A position in a list, from 0."""

ClassPosition: TypeAlias = Annotated[int, Ge(0), Le(254)]
"""The id of a class, which is a byte below 255."""

Indices: TypeAlias = Annotated[list[Index], Len(1, MAX_PX)]
"""Bands, from 0; at least one."""

PerBand: TypeAlias = Annotated[list[Number], Len(1, MAX_PX)]
"""A number for each band."""
