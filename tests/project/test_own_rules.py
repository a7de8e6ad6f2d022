"""The names that stages of a workspace's own cannot have."""

from __future__ import annotations

from rvbuild import rules
from rvbuild.cli import app
from rvbuild.project.tables.own_rules import RESERVED


def test_all_stages_and_commands_are_reserved() -> None:
    taken = {*app.app.commands, *rules.RULES, *rules.ASIDE}
    assert taken <= RESERVED
