"""The problems of a project file, collected by key and reported with their places."""

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
        The parsed value.
    option
        The option that it was given with.
    """

    text: str
    key: Key
    value: object
    option: str = "--set"


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
        The overrides, in order of application.
    """

    file: str
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: list[Override] = field(default_factory=list)

    def override(self, override: Override) -> None:
        """Record that an override has replaced a key and everything below it."""
        self.lines = {key: line for key, line in self.lines.items() if not is_under(key, override.key)}
        self.overrides = [o for o in self.overrides if not is_under(o.key, override.key)] + [override]

    def find(self, key: Key) -> tuple[int, int, str]:
        """Return the place of `key`, or else of the nearest table around it.

        Returns
        -------
        group, line, text
            A sort key (the file's lines, then the overrides) and the place, for example `projects/potsdam.toml:14`.
        """
        for length in range(len(key), 0, -1):
            part = key[:length]
            for number, override in enumerate(self.overrides):
                if override.key == part or (part not in self.lines and is_under(override.key, part)):
                    return 1, number, f"{override.option} {override.text}"
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

    Invalid list items are removed before further checks, which then report positions in the shortened lists. These are
    converted back to positions in the file here.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._entries: list[tuple[Key, str]] = []
        self._missing: list[tuple[Key, str]] = []
        self._wrong: set[Key] = set()
        self._around: set[Key] = set()  # the keys of problems and all of their parents
        self._left_out: dict[Key, list[int]] = {}  # by list: number of kept items before each removed one

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, key: Key, message: str) -> None:
        """Add a problem of the value at `key`."""
        original = self._original(key)
        self._entries.append((original, message))
        self._wrong.add(original)
        self._around.update(original[:length] for length in range(len(original) + 1))

    def add_missing_scenes(self, key: Key, message: str) -> None:
        """Add the problem that no file matches a pattern of scenes."""
        self.add(key, message)
        self._missing.append(self._entries[-1])

    def leave_out(self, keys: Iterable[Key]) -> None:
        """Record that list items are removed from now on, which changes the positions of later items."""
        positions: dict[Key, set[int]] = {
            outer: {number + stay for number, stay in enumerate(before)} for outer, before in self._left_out.items()
        }
        for *outer, last in [self._original(key) for key in keys]:
            positions.setdefault(tuple(outer), set()).add(int(last))
        self._left_out = {
            outer: [position - number for number, position in enumerate(sorted(numbers))]
            for outer, numbers in positions.items()
        }

    def are_missing_scenes(self) -> bool:
        """Tell whether the only problem is that no file matches a pattern of scenes."""
        return bool(self._entries) and all(problem in self._missing for problem in self._entries)

    def touch(self, *key: str | int) -> bool:
        """Tell whether there is a problem at, below or around `key`, so that its value must not be relied on."""
        original = self._original(key)
        return original in self._around or any(original[:length] in self._wrong for length in range(len(original)))

    def report(self) -> list[str]:
        """Return one line per problem, in the order of the file, then of the overrides."""
        rows = [(*self.places.find(key)[:2], f"{self.places.where(key)}: {message}") for key, message in self._entries]
        lines = [text for _, _, text in dict.fromkeys(sorted(rows, key=lambda row: row[:2]))]
        more = len(lines) - MOST_SHOWN
        return lines if more <= 0 else [*lines[:MOST_SHOWN], f"… and {more} more problems"]

    def _original(self, key: Key) -> Key:
        """Return a key with positions among all items, from positions without the removed items."""
        original: Key = ()
        for step in key:
            if isinstance(step, int):
                step += bisect.bisect_right(self._left_out.get(original, ()), step)
            original = (*original, step)
        return original
