"""Stages and metrics of a workspace's own: the page about them as it stands, trust, keys, and what users get wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvbuild.engine.keys.artifact import Resource
from rvbuild.project.load import load
from rvbuild.rules import own_rules

from .conftest import BOXES, Space

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


def blocks(kind: str) -> Iterator[str]:
    yield from re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def write_page(space: Space, *rules: str) -> None:
    """Write the code of the page into a workspace, and have the project name some of its rules, or all."""
    for text in blocks("python"):
        head, _, code = text.partition("\n")
        path = space.root / head.removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    (space.root / "rules/__init__.py").touch()
    for name, boxes in BOXES.items():
        rows = [f"{500000 + (x0 + x1) / 4},{5800000 - (y0 + y1) / 4},{(x1 - x0) / 2}" for x0, y0, x1, y1 in boxes]
        (space.root / f"data/{name}.csv").write_text("\n".join(["east,north,side", *rows]) + "\n")
    listed = ", ".join(f'"rules/{rule}.py"' for rule in rules)
    line = f"rules = [{listed}]" if rules else next(blocks("toml")).splitlines()[1]
    space.edit("[project]\n", f"[project]\n{line}\n")


def states(space: Space, *words: str) -> dict[str, str]:
    rows = space.rvbuild("status", "--json", *words).json["artifacts"]
    return {row["stage"] + (f":{row['scene']}" if row["scene"] else ""): row["state"] for row in rows}


def test_the_page(built: Space) -> None:
    tables = [tuple(text.strip().splitlines()) for text in blocks("toml")]
    write_page(built)
    labels = next(line for table, line in tables if table == "[scene]")
    metrics = "\n".join(next(table for table in tables if table[0] == "[eval]"))
    built.edit('labels = { vector = "data/{id}.geojson", class = "building", background = "ground" }', labels)
    built.project.write_text(built.project.read_text() + metrics + "\n")
    result = built.rvbuild("check")
    assert result.status == 2 and "cache/p/squares/a.geojson" in result.err, result.err
    assert "not built yet; `rvbuild squares` builds it" in result.err
    result = built.rvbuild("build", "--json")
    assert result.status == 0, result.err
    done = result.did("built")
    assert built.rvbuild("check").status == 0
    assert {"brightness:a", "brightness:b", "brightness:c", "brightness"} <= done
    assert {"squares:a", "squares:c", "areas:c", "chip:a", "train", "eval"} <= done and "areas:a" not in done
    assert built.read("brightness/brightest.json") == {"scene": "b"}, "its boxes are the largest"
    assert built.read("squares/a.geojson")["features"][0]["geometry"]["coordinates"][0][0] == [500002.5, 5799988.75]
    areas = (built.root / "cache/p/areas/c.csv").read_text().splitlines()
    assert areas[0] == "class,pixels" and sum(int(line.split(",")[1]) for line in areas[1:]) == 64 * 64
    own = built.read("eval/eval.json")["own"]["metrics:imbalance"]
    overall = {item["class_name"]: item for item in built.read("eval/eval.json")["overall"]}
    assert own["building"] == pytest.approx(overall["building"]["pred_count"] / overall["building"]["gt_count"])
    assert "imbalance building" in (built.root / "cache/p/eval/eval.md").read_text()
    # Another table of squares: what rests on it is built, in one run and in its order.
    table = built.root / "data/c.csv"
    table.write_text(table.read_text() + "500020,5799980,4\n")
    assert states(built, "--trust")["chip:c"] == "waiting"
    done = built.rvbuild("build", "--json").did("built")
    assert {"squares:c", "chip:c", "eval:c"} <= done
    assert not done & {"squares:a", "chip:a", "brightness:c", "areas:a"}
    assert built.rvbuild("build", "--json").did("built") == set()
    shown = built.shown()
    # And a clean build gives the same.
    clean = Space(built.root.parent / "clean")
    shutil.copytree(built.root, clean.root, ignore=shutil.ignore_patterns("cache"))
    assert clean.rvbuild("build").status == 0
    assert clean.shown() == shown


def test_a_stage_is_built_explained_and_cleaned_like_others(space: Space) -> None:
    write_page(space, "brightness")
    result = space.rvbuild("brightness", "--inline", "--json")
    assert result.did("built") == {"brightness:a", "brightness:b", "brightness:c", "brightness"}, result.err
    assert "running Python code of this workspace: rules/__init__.py, rules/brightness.py" in result.err
    assert space.rvbuild("brightness", "--inline", "--json", "--scene", "a").did("fresh") == {"brightness:a"}
    stage = space.root / "stages/brightness.py"
    stage.write_text(stage.read_text().replace(".mean()", ".max()"))
    why = space.rvbuild("why", "brightness:a", "--trust").out
    assert "brightness:a is stale" in why and "because code of the stage changed: stages/brightness.py" in why
    assert space.rvbuild("brightness", "--inline", "--json").did("built") >= {"brightness:a", "brightness:b"}
    stage.write_text("# a comment\n" + stage.read_text())
    assert "brightness" in space.rvbuild("brightness", "--inline", "--json").did("fresh"), "a comment is no change"
    assert "brightness:a" in space.rvbuild("graph").out, "it is trusted now"
    rule = space.root / "rules/brightness.py"
    rule.write_text(rule.read_text().replace('{"bands": [0, 1, 2]}', '{"bands": [0]}'))
    assert "bands" in space.rvbuild("why", "brightness:a").out
    result = space.rvbuild("clean", "brightness")
    assert "p: brightness forgotten, 4 files removed" in result.out
    assert not (space.root / "cache/p/brightness").exists()
    assert "restored" not in space.rvbuild("brightness", "--inline").out
    assert "brightness:a" in space.rvbuild("log").out


def test_looking_runs_no_rule_that_nobody_trusts(space: Space) -> None:
    write_page(space, "brightness")
    rule = space.root / "rules/brightness.py"
    rule.write_text("from pathlib import Path\nPath('ran').touch()\n" + rule.read_text())
    for words in (["status"], ["why", "chip"], ["graph"], ["check"], ["brightness", "-n"], ["build", "-n"], ["clean"]):
        result = space.rvbuild(*words)
        assert result.status == 0, (words, result.err)
        assert not (space.root / "ran").exists(), words
        if words[0] in ("status", "graph") or "-n" in words:
            assert "projects/p.toml:2: project.rules: left out: brightness." in result.err + result.out, words
    result = space.rvbuild("status", "--trust")
    assert (space.root / "ran").exists() and "left out" not in result.err and "brightness:a" in result.out
    (space.root / "ran").unlink()
    space.rvbuild("status")
    assert (space.root / "ran").exists(), "it was trusted before"


def test_a_refusal_holds_for_builds(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(space, "brightness")
    monkeypatch.setenv("RVBUILD_TRUST", "no")
    result = space.rvbuild("chip")
    assert (
        result.status == 2 and "the code of this workspace must not run: rules/__init__.py, rules/bright" in result.err
    )


GOOD = """
from rvbuild.rules.common import *
from rvbuild.rules.common import folder, name
VERSION = 1
def artifacts(project, code):
    yield Artifact(name=name("own", project.name), project=project.name, stage="own", scene=None, run="stages.own:run",
                   version=VERSION, settings={}, inputs=(), folder=folder(project, "own"), writes=("a.txt",))
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("VERSION = 1", "VERSION = '1'", "rules/own.py: expected a whole number VERSION, found '1'"),
        ("def artifacts(project, code)", "def artifact(project, code)", "expected a function artifacts(project, code)"),
        ("project, code):", "project):", "expected a function artifacts(project, code) that yields artifacts"),
        ("    yield", "    1 / 0\n    yield", "artifacts() failed: ZeroDivisionError: division by zero (line 6)"),
        ("VERSION = 1", "import nowhere", "importing it failed: ModuleNotFoundError: No module named 'nowhere'"),
        ("VERSION = 1", "VERSION = (", "importing it failed: SyntaxError"),
        ('name("own", project.name)', '"own:x"', "own:x: expected the name 'own:p'"),
        ('stage="own"', 'stage="mine"', "own:p: expected project='p' and stage='own', found 'p', 'mine'"),
        ('"stages.own:run"', '"stages/own.py"', "run: expected \"package.module:function\", found 'stages/own.py'"),
        ('folder(project, "own")', '"cache/p/chip"', "folder: expected 'cache/p/own' or a folder below it, found"),
        ('folder(project, "own")', '"cache/p/own/../chip"', "folder: expected 'cache/p/own' or a folder below it"),
        ("settings={}", "settings={'a': {1}}", "own:p: settings: expected values that JSON can hold"),
        ("inputs=()", 'inputs=(), resource="gpu"', 'own:p: resource: expected "cpu" or "torch", found \'gpu\''),
        ("inputs=()", 'inputs=(Product("m", "trian:p"),)', "own:p reads the output of 'trian:p', but there is no such"),
        ("inputs=()", 'inputs=(Product("m", "own:p"),)', "the stages depend on each other in a circle: own:p → own:p"),
        ("    yield Artifact(", "    yield dict(", "artifacts() yielded dict; expected Artifact"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(space: Space, old: str, new: str, expected: str) -> None:
    (space.root / "rules").mkdir()
    (space.root / "stages").mkdir()
    (space.root / "rules/__init__.py").touch()
    (space.root / "stages/own.py").write_text("def run(inputs, settings, outputs, progress):\n    pass\n")
    assert old in GOOD
    (space.root / "rules/own.py").write_text(GOOD.replace(old, new, 1))
    space.edit("[project]\n", '[project]\nrules = ["rules/own.py"]\n')
    result = space.rvbuild("own", "--inline")
    assert result.status == 2 and expected in result.err, result.err + result.out
    assert "Traceback" not in result.err


@pytest.mark.parametrize("given", ['"torch"', "Resource.TORCH"])
def test_a_rule_names_its_resource_by_text_or_value(space: Space, given: str) -> None:
    for name in ("rules", "stages"):
        (space.root / name).mkdir()
        (space.root / name / "__init__.py").touch()
    (space.root / "stages/own.py").write_text("def run(inputs, settings, outputs, progress):\n    pass\n")
    (space.root / "rules/own.py").write_text(GOOD.replace("inputs=()", f"inputs=(), resource={given}"))
    space.edit("[project]\n", '[project]\nrules = ["rules/own.py"]\n')
    (artifact,) = own_rules.artifacts(load(space.project), [])
    assert artifact.resource is Resource.TORCH


def test_a_misspelt_stage(space: Space) -> None:
    write_page(space, "brightness")
    for word, right in (("brightnes", "brightness"), ("chp", "chip")):
        result = space.rvbuild(word)
        assert result.status == 2
        assert f'{word}: no such command or stage; did you mean "{right}"?' in result.err


def test_what_is_wrong_with_a_stage_is_said(space: Space) -> None:
    (space.root / "rules").mkdir()
    (space.root / "stages").mkdir()
    (space.root / "rules/__init__.py").touch()
    (space.root / "rules/own.py").write_text(GOOD)
    space.edit("[project]\n", '[project]\nrules = ["rules/own.py"]\n')
    for code, expected in [
        ("", "own: "),
        ("def run(inputs, settings, outputs, progress):\n    pass\n", "the stage own wrote no output"),
        (
            "def run(inputs, settings, outputs, progress):\n    (outputs / 'b').touch()\n",
            "wrote b, which its rule does not",
        ),
        ("def run(inputs, settings, outputs, progress):\n    {}['x']\n", "KeyError: 'x'"),
    ]:
        (space.root / "stages/own.py").write_text(code)
        result = space.rvbuild("own")
        assert result.status == 1 and expected in result.out, result.out + result.err
        assert "Traceback" not in result.out + result.err
    (space.root / "rules/own.py").unlink()
    result = space.rvbuild("status")
    assert result.status == 0
    result = space.rvbuild("own")
    assert result.status == 2 and "projects/p.toml:2: project.rules[0]: no such file: rules/own.py" in result.err


def test_a_metric_that_fails_is_said(built: Space) -> None:
    text = built.project.read_text()
    for code, expected in [
        ("def f(evaluation, scenes):\n    return {'x': 'y'}\n", "must return a number, or numbers by name; found 'y'"),
        (
            "def f(evaluation, scenes):\n    return {1: 2}\n",
            "must return a number, or numbers by name; found the name 1",
        ),
        ("def f(evaluation, scenes):\n    return evaluation['no']\n", "\"mine:f\" failed: KeyError: 'no'"),
        ("def g(): pass\n", "f does not exist in mine"),
    ]:
        (built.root / "mine.py").write_text(code)
        built.project.write_text(f'{text}[eval]\nmetrics = ["mine:f"]\n')
        result = built.rvbuild("eval")
        assert result.status == 1 and expected in result.out, result.out + result.err
    (built.root / "mine.py").write_text("def f(evaluation, scenes):\n    return len(scenes) / 2 - float('nan') * 0\n")
    result = built.rvbuild("eval", "--json")
    assert result.did("built") == {"eval"}
    assert json.loads((built.root / "cache/p/eval/eval.json").read_text())["own"] == {"mine:f": {"value": None}}
