"""Suspects: labels that are probably wrong, as the stage `suspects` finds them and writes them to `suspects.json`.

What users decide about them is kept elsewhere, by their ids: see `rvbuild.review.verdicts`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import xxhash

from rvbuild.errors import DataError

SUSPECTS = "suspects.json"

Kind = Literal["class", "spurious", "missing", "outline", "duplicate"]

KINDS: tuple[Kind, ...] = get_args(Kind)

Ring: TypeAlias = tuple[tuple[float, float], ...]
"""A closed line of (column, row) in pixels of the scene; its last point is its first."""

Rings: TypeAlias = tuple[Ring, ...]
"""Areas: each outer ring is followed by its holes. Outer rings have a positive area by the shoelace formula in
(column, row), holes a negative one; so several parts are told apart. See `rvbuild.review.shapes`."""

_VERSION = 1
_ID = re.compile(r"[0-9a-f]{16}")

_HAS = {
    "class": ("label_class", "proposed_class", "source"),
    "spurious": ("label_class", "source"),
    "missing": ("proposed_class", "proposed_polygon"),
    "outline": ("label_class", "source", "proposed_polygon"),
    "duplicate": ("label_class", "source"),
}
"""What a suspect of each kind has, of the values that may be None."""

_HAS_NOT = {
    "class": (),
    "spurious": ("proposed_class", "proposed_polygon"),
    "missing": ("label_class", "source"),
    "outline": (),
    "duplicate": ("proposed_class", "proposed_polygon"),
}
"""What a suspect of each kind does not have."""


@dataclass(frozen=True)
class Source:
    """Where a label comes from, in terms of what artifacts depend on.

    Paths, layers and ids of features may change without a new review: workspaces that share results have different
    paths, and labels count by their meaning ([0003](docs/decisions/0003-labels-are-data.md)). `rvbuild review` looks
    them up for users, see `rvbuild.review.labels`.

    Attributes
    ----------
    file : int
        The place of its file among the label files of the scene, from 0.
    place : int, optional
        Its place among the features or boxes that are read of that file, from 0. None for label rasters.
    """

    file: int
    place: int | None


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong, or an object that probably lacks one.

    Attributes
    ----------
    id : str
        16 hexadecimal digits; the same suspect has the same id in later reviews.
    scene : str
        The scene.
    kind : str
        `class`: the label has the wrong class. `spurious`: there is no object. `missing`: an object without a label.
        `outline`: the label is in the wrong place, or badly drawn. `duplicate`: another label is of the same object.
    score : float
        The calibrated probability that the label is wrong.
    gain : float
        The number of pixels whose label would be right after the proposed change, times the score.
    label_class : str or None
        The class of the label; None for `missing`.
    proposed_class : str or None
        The class that would be right; None for `spurious` and `duplicate`.
    reason : str
        Why the label is suspected, in words, with figures.
    source : Source or None
        The label; None for `missing`.
    polygon : Rings
        The label; for `missing`, the object.
    proposed_polygon : Rings or None
        The outline that would be right, for `outline` and `missing`.
    """

    id: str
    scene: str
    kind: Kind
    score: float
    gain: float
    label_class: str | None
    proposed_class: str | None
    reason: str
    source: Source | None
    polygon: Rings
    proposed_polygon: Rings | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises
        ------
        ValueError
            Something is missing, or does not belong to the kind.
        """
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: expected 16 hexadecimal digits, found {self.id!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {self.kind!r}")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score: expected 0 to 1, found {self.score!r}")
        if not math.isfinite(self.gain):
            raise ValueError(f"gain: expected a finite number, found {self.gain!r}")
        for name in _HAS[self.kind]:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: missing, but the kind is {self.kind}")
        for name in _HAS_NOT[self.kind]:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: given, but the kind is {self.kind}")
        for rings in (self.polygon, self.proposed_polygon):
            if rings is not None and not (rings and all(map(_is_ring, rings))):
                raise ValueError("polygon: expected closed rings of at least four finite points")


def order(suspect: Suspect) -> tuple[float, float, str]:
    """Return the sort key of suspects: the most probable first, then by gain."""
    return (-suspect.score, -suspect.gain, suspect.id)


def fingerprint(class_name: str | None, polygon: Rings) -> str:
    """Return 16 hexadecimal digits for a label as it is: its class and its exact outline in pixels of the scene.

    A label that was edited since the review has another one.
    """
    state = xxhash.xxh3_64(json.dumps(class_name).encode())
    for ring in polygon:
        state.update(struct.pack("<q", len(ring)))
        state.update(struct.pack(f"<{2 * len(ring)}d", *(value + 0.0 for point in ring for value in point)))
    return str(state.hexdigest())


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write suspects in the order of `order`, a line each, with the same bytes each time.

    Raises
    ------
    ValueError
        Two suspects have the same id.
    """
    if len({suspect.id for suspect in suspects}) < len(suspects):
        raise ValueError("two suspects have the same id")
    lines = [
        json.dumps(asdict(suspect), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for suspect in sorted(suspects, key=order)
    ]
    text = f'{{"version":{_VERSION},"suspects":[\n' + ",\n".join(lines) + "\n]}\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def read_suspects(path: Path) -> list[Suspect]:
    """Read what `write_suspects` wrote, in the same order.

    Raises
    ------
    DataError
        The file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if set(content) != {"version", "suspects"} or content["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION} with `suspects`")
        suspects = [_suspect(entry) for entry in content["suspects"]]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as suspects: {error}. Run `rvbuild review` again") from error
    return suspects


def _suspect(entry: Mapping[str, Any]) -> Suspect:
    values = dict(entry)
    names = {field.name for field in fields(Suspect)}
    if set(values) != names:
        raise ValueError(f"expected the keys {', '.join(sorted(names))}, found {', '.join(sorted(values))}")
    _require(values, str, "id", "scene", "kind", "reason")
    _require(values, int | float, "score", "gain")
    _require(values, str | None, "label_class", "proposed_class")
    values["polygon"] = _rings(values["polygon"])
    if values["proposed_polygon"] is not None:
        values["proposed_polygon"] = _rings(values["proposed_polygon"])
    if values["source"] is not None:
        source = dict(values["source"])
        if set(source) != {"file", "place"}:
            raise ValueError("source: expected file and place")
        _require(source, int, "file")
        _require(source, int | None, "place")
        values["source"] = Source(**source)
    return Suspect(**values)


def _require(values: Mapping[str, Any], kind: Any, *names: str) -> None:
    for name in names:
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ValueError(f"{name}: unexpected {values[name]!r}")


def _rings(value: Sequence[Sequence[Sequence[float]]]) -> Rings:
    return tuple(tuple((float(x), float(y)) for x, y in ring) for ring in value)


def _is_ring(ring: Ring) -> bool:
    return len(ring) >= 4 and ring[0] == ring[-1] and all(math.isfinite(value) for point in ring for value in point)
