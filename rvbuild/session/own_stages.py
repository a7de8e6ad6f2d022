"""The names of the stages that projects add by their own rules: read from the project files, without running code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli

from rvbuild.project.tables.own_rules import findings, stage_of
from rvbuild.project.workspaces import every_project


def own_stages(words: Sequence[str]) -> list[str]:
    """Return the stages that the project files among `words`, or else all in `projects/`, add to rvbuild's.

    Problems of a file are reported when it is loaded.
    """
    stages: dict[str, None] = {}
    for path in [word for word in words if word.endswith(".toml")] or every_project():
        try:
            rules = tomli.loads(Path(path).read_text(encoding="utf-8"))["project"]["rules"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(rules, list) and all(isinstance(rule, str) for rule in rules) and not any(findings(rules)):
            stages |= dict.fromkeys(map(stage_of, rules))
    return list(stages)
