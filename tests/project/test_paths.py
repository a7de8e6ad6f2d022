"""Paths with placeholders and variables."""

from __future__ import annotations

import pytest

from rvbuild.project.toml.paths import Environment, PathError, expand, path_problem, uses_id, variables_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data/{id}.tif", "data/2_10.tif"),
        ("{id}/{id}", "2_10/2_10"),
        ("${SET}/{id}", "/there/2_10"),
        ("${UNSET:-data}/x", "data/x"),
        ("${EMPTY:-data}/x", "data/x"),
        ("${UNSET:-}x", "x"),
        ("${SET:-data}/x", "/there/x"),
        ("${UNSET:-data/{id}}.tif", "data/2_10.tif"),
        ("${UNSET:-${EMPTY:-${SET}}/y}/x", "/there/y/x"),
        ("a{{b}}c", "a{b}c"),
        ("cost$5/$x", "cost$5/$x"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    environment = Environment({"SET": "/there", "EMPTY": ""})
    assert path_problem(text) is None
    assert expand(text, environment, "2_10") == expected


def test_a_value_is_not_expanded_again() -> None:
    assert expand("${A}", Environment({"A": "${B}/{id}"}), "s") == "${B}/{id}"


def test_only_what_is_read_is_noted() -> None:
    environment = Environment({"SET": "/there", "OTHER": "x"})
    expand("${SET:-${OTHER}}/${UNSET:-x}", environment, "s")
    assert environment.read == {"SET": "/there", "UNSET": None}


def test_id_needs_a_scene() -> None:
    with pytest.raises(PathError, match=r"\{id\} has no meaning in the path"):
        expand("x/{id}", Environment({}))


def test_uses_id() -> None:
    assert uses_id("${A:-x/{id}}")
    assert not uses_id("${A:-x}/{{id}}")


def test_variables_of() -> None:
    assert variables_of("${A:-${B}}/${C}") == {"A": "${A:-${B}}", "B": "${B}", "C": "${C}"}


def test_an_address_without_a_server() -> None:
    assert path_problem("https:///a.tif", may_be_remote=True) == 'the address has no server: "https:///a.tif"'
    assert path_problem("https://${HOST}/a.tif", may_be_remote=True) is None, "the variable may be right"
