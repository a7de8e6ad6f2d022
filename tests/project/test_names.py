"""Names that become files."""

from __future__ import annotations

import pytest

from rvbuild.project.toml.names import RESERVED_SCENES, clashes, name_problem


@pytest.mark.parametrize(
    "name", ["a", "2_10", "top.potsdam-1", "Été", "a b", "2020-01-01T10:00:00", "x=1", "statistics"]
)
def test_good_names(name: str) -> None:
    assert name_problem(name, RESERVED_SCENES) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "a\\b", "a\0", "a\n", "a ", "a.", "STATS", "x" * 201]
)
def test_bad_names(name: str) -> None:
    assert name_problem(name, RESERVED_SCENES)


def test_clashes() -> None:
    assert list(clashes(["a", "b", "A", "a", "e\u0301", "é"])) == [(2, "A", "a"), (5, "é", "e\u0301")]
