"""An edit of one label of a file, in the terms of that file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Action = Literal["change", "remove", "add"]


class Shared(NamedTuple):
    """Attributes that a new feature has in common with others of its class."""

    number: int
    """One of these: its place in the file, from 0."""
    id: object
    """Its id; None if the file gives it none."""
    names: tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """What to do with one feature, or with one box.

    Attributes
    ----------
    action : str
        `change`, `remove` or `add`.
    number : int, optional
        The place of the feature in its file, from 0; None for `add`.
    id : object
        The id that the file gives it; None if it gives none, and for `add`.
    values : mapping
        Attributes to set: for vectors, by name; for box files, `label` alone, the name of the class in the file.
    shape : shapely geometry, optional
        The new geometry: in the CRS of a vector file, in the pixels of a box file. None to keep the one that it has.
    image : str, optional
        The image of a box file that a new box is in, by its name there.
    shared : Shared, optional
        Attributes of another feature that a new one gets as they are.
    """

    action: Action
    number: int | None = None
    id: object = None
    values: Mapping[str, object] = field(default_factory=dict)
    shape: Any = None
    image: str | None = None
    shared: Shared | None = None
