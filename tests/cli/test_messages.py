"""What is said of many findings, and of one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from rvbuild.checks.findings import Finding, Level
from rvbuild.cli.commands import build as building
from rvbuild.session.checking import messages


def told(scenes: list[str]) -> str:
    findings = [Finding(Level.WARNING, "kind", "words", scene, "image") for scene in scenes]
    with (
        mock.patch.object(messages, "_where", lambda *_: "p.toml:1"),
        mock.patch.object(messages, "_text", lambda _, finding: finding.scene),
    ):
        (line,) = messages.format_findings(SimpleNamespace(scenes=(), path=Path("p.toml")), findings)
    return line.splitlines()[-1].strip()


def test_a_scene_that_has_several_findings_is_named_once() -> None:
    assert told(["a", "b", "c", "d"]) == "and so 3 more scenes: b, c, d"
    assert told(["a", "b", "b", "c", "c"]) == "and 4 more of this kind, in b, c"
    assert told(["a", "a", "a", "a"]) == "and 3 more of this kind, in a"


def test_one_artifact_is_fresh() -> None:
    assert building._nothing(1) == "nothing to do (1 artifact up to date)"
    assert building._nothing(2) == "nothing to do (2 artifacts up to date)"
