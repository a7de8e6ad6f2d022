"""The problems of a project file: collected under their keys, printed with the place where the user wrote them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from rvbuild.project.toml.keys import Key, dotted, is_under

MOST_SHOWN = 500
"""Maximum number of problems that are listed."""


@dataclass(frozen=True)
class Override:
    """One `--set key=value` of the command line.

    Attributes
    ----------
    text
        The original argument, for example `train.lr=1e-3`.
    key
        The key that it sets.
    value
        The value, as TOML would give it.
    """

    text: str
    key: Key
    value: object


@dataclass
class Places:
    """Where each key was written: a line of the file, or an override.

    Attributes
    ----------
    file
        The path of the project file in messages.
    lines
        The line of each key of the file.
    overrides
        The overrides, in the order in which they were applied.
    """

    file: str
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: list[Override] = field(default_factory=list)

    def override(self, override: Override) -> None:
        """Note that an override has replaced a key and all below it."""
        self.lines = {key: line for key, line in self.lines.items() if not is_under(key, override.key)}
        self.overrides = [o for o in self.overrides if not is_under(o.key, override.key)] + [override]

    def find(self, key: Key) -> tuple[int, int, str]:
        """Return where `key` stands, or else where the nearest table around it stands.

        Returns
        -------
        group, line, text
            A sort key (the file's lines, then the overrides) and the place, for example `projects/potsdam.toml:14`.
        """
        for length in range(len(key), 0, -1):
            part = key[:length]
            for number, override in enumerate(self.overrides):
                if override.key == part or (part not in self.lines and is_under(override.key, part)):
                    return 1, number, f"--set {override.text}"
            if part in self.lines:
                return 0, self.lines[part], f"{self.file}:{self.lines[part]}"
        return 0, 0, self.file

    def has(self, key: Key) -> bool:
        """Tell whether `key` was written."""
        return key in self.lines or any(is_under(key, o.key) or is_under(o.key, key) for o in self.overrides)

    def where(self, key: Key) -> str:
        """Return the place and the key, for example `projects/potsdam.toml:14: chip.size_px`."""
        place = self.find(key)[2]
        return f"{place}: {dotted(key)}" if key else place


class Problems:
    """All problems of one project file.

    Checks that follow see the file without its wrong list items, so the positions that they report are counted without
    them; here they become positions in the file again.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._found: list[tuple[Key, str]] = []
        self._missing: list[tuple[Key, str]] = []
        self._wrong: set[Key] = set()
        self._around: set[Key] = set()  # the keys of problems, and all of their parents
        self._left_out: dict[Key, list[int]] = {}  # by list: how many items stay before each that is left out

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, key: Key, message: str) -> None:
        """Add a problem of the value at `key`."""
        original = self._original(key)
        self._found.append((original, message))
        self._wrong.add(original)
        self._around.update(original[:length] for length in range(len(original) + 1))

    def add_missing_scenes(self, key: Key, message: str) -> None:
        """Add that no file is there by which scenes are found."""
        self.add(key, message)
        self._missing.append(self._found[-1])

    def leave_out(self, keys: Iterable[Key]) -> None:
        """Note that list items are left out from now on, so that the positions of later ones change."""
        positions: dict[Key, set[int]] = {
            around: {number + stay for number, stay in enumerate(before)} for around, before in self._left_out.items()
        }
        for *around, last in [self._original(key) for key in keys]:
            positions.setdefault(tuple(around), set()).add(int(last))
        self._left_out = {
            around: [position - number for number, position in enumerate(sorted(some))]
            for around, some in positions.items()
        }

    def are_missing_scenes(self) -> bool:
        """Tell whether the only problem is that no file matches those of the scenes."""
        return bool(self._found) and all(problem in self._missing for problem in self._found)

    def touch(self, *key: str | int) -> bool:
        """Tell whether something at, below or around `key` is wrong, so that conclusions from it would mislead."""
        original = self._original(key)
        return original in self._around or any(original[:length] in self._wrong for length in range(len(original)))

    def report(self) -> list[str]:
        """Return one line per problem, in the order of the file, then of the overrides."""
        rows = [(*self.places.find(key)[:2], f"{self.places.where(key)}: {message}") for key, message in self._found]
        lines = [text for _, _, text in dict.fromkeys(sorted(rows, key=lambda row: row[:2]))]
        more = len(lines) - MOST_SHOWN
        return lines if more <= 0 else [*lines[:MOST_SHOWN], f"… and {more} more problems"]

    def _original(self, key: Key) -> Key:
        """Return a key with positions counted among all items, from one counted without those left out."""
        original: Key = ()
        for step in key:
            if isinstance(step, int):
                step += bisect.bisect_right(self._left_out.get(original, ()), step)
            original = (*original, step)
        return original
