"""`rvbuild clean` of several projects asks before, says what it costs, and takes no for an answer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from rvbuild.cli.commands import clean as cleaning

from .conftest import Space


@pytest.fixture
def two(space: Space) -> Space:
    """Return a workspace of two projects with statistics; the second one's come from the store."""
    other = space.project.with_name("q.toml")
    other.write_text(space.project.read_text())
    assert space.rvbuild("analyze").status == 0
    return space


def shown(two: Space) -> list[str]:
    return [name for name in ("p", "q") if two.shown(name)]


def test_several_projects_need_a_yes_where_nobody_can_be_asked(two: Space) -> None:
    result = two.process("clean", "analyze")
    assert result.status == 2
    lines = result.err.splitlines()
    assert lines[0] == "clean: this removes analyze in 2 projects, with all earlier results:"
    assert lines[1].startswith("  p: 3 artifacts, about ") and lines[2].startswith("  q: 3 artifacts, about ")
    assert lines[3].startswith(
        "name the stages and projects (`rvbuild clean analyze projects/PROJECT.toml`), or add --yes"
    )
    assert shown(two) == ["p", "q"]
    result = two.process("clean", "analyze", "--yes")
    assert result.status == 0 and shown(two) == []
    assert "p: analyze forgotten, 3 files removed; to build them again: about " in result.out


@pytest.mark.parametrize("words", [["projects/p.toml", "projects/q.toml"], ["--keep-cache"], ["chip"]])
def test_what_is_named_or_kept_or_is_not_there_needs_none(two: Space, words: list[str]) -> None:
    result = two.process("clean", *words)
    assert result.status == 0, result.err
    assert ("to build them again" in result.out) == ("projects/p.toml" in words)


def test_one_project_needs_none(two: Space) -> None:
    assert two.rvbuild("clean", "projects/q.toml").status == 0
    assert shown(two) == ["p"]
    assert two.process("clean").status == 0, "only p has something to forget"
    assert shown(two) == []


@pytest.mark.parametrize(("answer", "left"), [("n", ["p", "q"]), ("", ["p", "q"]), ("y", [])])
def test_on_a_terminal_it_asks(two: Space, answer: str, left: list[str]) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "rvbuild", "clean"]
    status = subprocess.run(command, cwd=two.root, stdin=theirs, stdout=theirs, stderr=theirs).returncode
    os.close(theirs)
    output = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "remove them all? [y/N]" in output
    assert shown(two) == left
    assert (status, "nothing was removed" in output) == ((1, True) if left else (0, False))


def test_the_cost_is_that_of_all_that_goes() -> None:
    class Took:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

    assert cleaning._work([Took(7200.0), Took(300.0)]) == "about 2 h 5 min of work"


def test_after_clean_all_is_planned_anew(space: Space) -> None:
    for _ in range(2):
        assert space.process("analyze").status == 0
    seals = space.root / "cache" / "seals"
    assert list(seals.glob("*.json"))
    assert space.process("clean", "chip", "--yes").status == 0  # there are none: no file changes
    assert not list(seals.glob("*.json"))
