"""Findings in words, each with its place in the project file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project, Scene


def tell(project: Project, findings: Iterable[Finding]) -> list[str]:
    """Return findings for people, each with its place in the project file; many of one kind together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    scenes = {scene.id: scene for scene in project.scenes}
    for finding in findings:
        groups.setdefault((_where(project, finding, scenes), finding.kind), []).append(finding)
    lines = []
    for (where, _), members in groups.items():
        several = len(members) > _SHOWN
        for member in members[: 1 if several else _SHOWN]:
            doubt = "warning: " if member.level is Level.WARNING else ""
            lines.append(f"{where}: {doubt}{_text(project, member)}")
        if several:
            others = list(dict.fromkeys(member.scene for member in members[1:]))
            named = ", ".join(others[:_LISTED]) + (", …" if len(others) > _LISTED else "")
            if len(others) == len(members) - 1 and members[0].scene not in others:
                lines[-1] += f"\n    and so {len(others)} more scenes: {named}"
            else:
                lines[-1] += f"\n    and {len(members) - 1} more of this kind, in {named}"
    return lines


_SHOWN = 3
"""Findings of one kind up to which all are told in full."""

_LISTED = 8
"""Scenes that are named when many share a finding."""


def _where(project: Project, finding: Finding, scenes: Mapping[str, Scene]) -> str:
    """Return the place in the project file of what a finding is about."""
    scene = scenes.get(finding.scene)
    base = scene.base if scene is not None else ""
    if finding.key:
        return project.where(finding.key, base)
    if written := project.written.get((base, finding.part), ()):
        named = (at for at, path in zip(written, _files(scene, finding.part), strict=True) if path in finding.text)
        return next(named, written[0]).where
    return project.where(scene.key if scene is not None else ())


def _files(scene: Scene | None, part: str) -> Sequence[str]:
    """Return the files of one part of a scene."""
    if scene is None:
        return ()
    labels = scene.labels.files if scene.labels else ()
    return {"image": scene.image.files, "labels": labels, "aoi": scene.aoi}[part]


def _text(project: Project, finding: Finding) -> str:
    text = finding.text.replace(f"{project.workspace}/", "")
    return f"scene {finding.scene}: {text}" if finding.scene else text
