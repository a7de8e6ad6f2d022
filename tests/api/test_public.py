"""Every public name is documented, and its examples are right."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import pytest

import rvbuild

PAGE = (Path(__file__).resolve().parents[2] / "docs/api.md").read_text(encoding="utf-8")
NAMES = sorted(set(rvbuild.__all__) - {"__version__"})


def members(name: str) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that a class of ours defines."""
    thing = getattr(rvbuild, name)
    if inspect.isclass(thing) and not issubclass(thing, Enum):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                yield member, value


def test_all_names_can_be_imported_and_are_listed() -> None:
    assert set(rvbuild.__all__) <= set(dir(rvbuild))
    assert set(NAMES) == set(rvbuild._PLACES)
    for name in NAMES:
        assert getattr(rvbuild, name) is getattr(rvbuild, name)
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        rvbuild.opne  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_on_the_page_with_all_that_it_has(name: str) -> None:
    assert re.search(rf"^### `(class |exception |enum )?{name}\b", PAGE, re.MULTILINE), f"docs/api.md lacks {name}"
    section = re.split(rf"^### `(?:class |exception |enum )?{name}\b", PAGE, flags=re.MULTILINE)[1].split("\n### ")[0]
    missing = {member for member, _ in members(name) if f"`{member}" not in section}
    assert missing == set()


def test_the_page_names_nothing_that_is_not_public() -> None:
    named = re.findall(r"^### `(?:class |exception |enum )?(\w+)", PAGE, re.MULTILINE)
    assert sorted(named) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(rvbuild, name)
    assert inspect.getdoc(thing)
    for member, value in [(name, thing), *members(name)]:
        text = inspect.getdoc(value)
        assert text, f"{name}.{member}"
        if inspect.isfunction(value):
            parameters = set(inspect.signature(value).parameters) - {"self"}
            named = set(re.findall(r"^\**(\w+)(?: :|$)", text, re.MULTILINE)) | set(re.findall(r"`(\w+)`", text))
            own = not value.__module__.startswith(("rvbuild.geo", "rvbuild.errors"))
            assert not own or parameters <= named | {"samples"}, f"{name}.{member}: {parameters - named}"


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_are_right(
    built: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = [t for t in doctest.DocTestFinder().find(getattr(rvbuild, name), name, globs={}) if t.examples]
    if not tests:
        return
    monkeypatch.chdir(built("segmentation").parent.parent)
    for test in tests:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_the_example_of_the_page_runs(built: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 2
    monkeypatch.chdir(built("segmentation").parent.parent)
    for example in examples:
        exec(compile(example, "docs/api.md", "exec"), {"__name__": "example"})
