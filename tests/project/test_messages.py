"""Every message, verbatim: the cases of `messages/*.txt`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("messages")


@dataclass
class Case:
    """One edit of the base project, and what is said about it."""

    hunks: list[tuple[list[str], list[str]]] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def apply(self, base: str) -> str:
        lines = base.split("\n")
        for old, new in self.hunks:
            if not old:
                lines[-1:] = [*new, ""]
                continue
            starts = [n for n in range(len(lines)) if lines[n : n + len(old)] == old]
            assert len(starts) == 1, f"not once in the base project: {old}"
            lines[starts[0] : starts[0] + len(old)] = new
        return "\n".join(lines)


def read_case(block: str) -> Case:
    case = Case()
    last = ""
    for line in block.strip("\n").split("\n"):
        sign, text = line[:1], line[2:]
        if sign == "-":
            if last != "-":
                case.hunks.append(([], []))
            case.hunks[-1][0].append(text)
        elif sign == "+":
            if last not in ("-", "+"):
                case.hunks.append(([], []))
            case.hunks[-1][1].append(text)
        elif sign == "$":
            case.overrides.append(text)
        else:
            assert sign == ">", line
            case.expected.append(text)
        last = sign
    return case


def read_cases() -> Iterator[object]:
    for file in sorted(FOLDER.glob("*.txt")):
        blocks = [block for block in file.read_text(encoding="utf-8").split("\n\n") if block.strip()]
        for number, block in enumerate(blocks):
            yield pytest.param(read_case(block), id=f"{file.stem}-{number}")


@pytest.mark.parametrize("case", list(read_cases()))
def test_messages(base: str, problems: Callable[..., list[str]], case: Case) -> None:
    assert problems(case.apply(base), case.overrides, {"EMPTY": ""}) == case.expected
