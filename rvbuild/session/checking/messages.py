"""Messages for findings, each with its place in the project file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rvbuild.checks.findings import Finding, Level
from rvbuild.project.model import Project, Scene


def format_findings(project: Project, findings: Iterable[Finding]) -> list[str]:
    """Return messages with places in the project file; many findings of one kind share a message."""
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
            other_scenes = list(dict.fromkeys(member.scene for member in members[1:]))
            names = ", ".join(other_scenes[:_LISTED]) + (", …" if len(other_scenes) > _LISTED else "")
            if len(other_scenes) == len(members) - 1 and members[0].scene not in other_scenes:
                lines[-1] += f"\n    and so {len(other_scenes)} more scenes: {names}"
            else:
                lines[-1] += f"\n    and {len(members) - 1} more of this kind, in {names}"
    return lines


_SHOWN = 3
"""Up to this many findings of one kind are reported in full."""

_LISTED = 8
"""Maximum number of scenes that are named in a shared message."""


def _where(project: Project, finding: Finding, scenes: Mapping[str, Scene]) -> str:
    """Return the place in the project file that a finding refers to."""
    scene = scenes.get(finding.scene)
    base = scene.base if scene is not None else ""
    if finding.key:
        return project.where(finding.key, base)
    if written := project.written.get((base, finding.part), ()):
        matching = (at for at, path in zip(written, _files(scene, finding.part), strict=True) if path in finding.text)
        return next(matching, written[0]).where
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
