"""`[project] rules`: the files of the workspace that add its own stages; each is named after its stage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Finding

STAGE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)

RESERVED = frozenset(
    {
        *(
            "analyze",
            "chip",
            "train",
            "export",
            "infer",
            "predict",
            "strips",
            "mosaic",
            "eval",
            "bundle",
            "report",
            "data",
            "build",
        ),
        *("draft", "features", "sums", "head", "draft_eval", "review", "suspects", "suggest", "suggestions", "models"),
        *("status", "why", "graph", "clean", "check", "schema", "new", "log", "diff", "watch", "view"),
        *("cache", "sign", "help", "sweep", "exp", "folds", "points"),
    }
)
"""The stages and the commands of rvbuild, whose names are reserved."""


def stage_of(rule: str) -> str:
    """Return the name of the stage that a rule's file adds.

    >>> stage_of("rules/tiles.py")
    'tiles'
    """
    return rule.rpartition("/")[2].removesuffix(".py")


def module_of(rule: str) -> str:
    """Return the dotted name of the module in a rule's file.

    >>> module_of("rules/tiles.py")
    'rules.tiles'
    """
    return rule.removesuffix(".py").replace("/", ".")


def findings(rules: Sequence[str]) -> Iterator[Finding]:
    """Find entries that cannot be files of rules, and stages that already exist."""
    stages: dict[str, str] = {}
    for number, rule in enumerate(rules):
        key = ("rules", number)
        stage = stage_of(rule)
        if not rule.endswith(".py") or not all(part.isidentifier() for part in module_of(rule).split(".")):
            text = "expected a Python file in the workspace that can be imported as a module, such as"
            yield Finding(key, f'{text} "rules/tiles.py", found {show(rule)}')
        elif not STAGE.fullmatch(stage):
            text = f"its stage would be called {show(stage)}; expected a name of a to z, 0 to 9 and _"
            yield Finding(key, text)
        elif stage in RESERVED:
            yield Finding(key, f"{show(stage)} is a stage or a command of rvbuild; give the file another name")
        elif stage in stages:
            yield Finding(key, f"{show(rule)} and {show(stages[stage])} would both add the stage {show(stage)}")
        else:
            stages[stage] = rule
