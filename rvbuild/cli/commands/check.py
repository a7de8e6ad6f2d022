"""The command `check`: the problems that can be found before work starts."""

from __future__ import annotations

from collections.abc import Sequence

from rvbuild.checks import tags
from rvbuild.checks.findings import Level
from rvbuild.cli import report
from rvbuild.cli.terminal import echo
from rvbuild.errors import ProjectError
from rvbuild.project.model import LayeredLabels, RasterLabels
from rvbuild.session import trust as workspace_trust
from rvbuild.session.checking import check as checking
from rvbuild.session.checking.findings import of_level
from rvbuild.session.checking.messages import format_findings
from rvbuild.session.projects import load_all, project_paths, require_files


def check(words: Sequence[str], overrides: Sequence[str], deep: bool = False, trust: bool = False) -> int:
    """Check projects and their files, with `deep` all pixels; raise an error with all problems.

    User code may transform pixels with `trust`, or if the user has trusted the workspace before.
    """
    projects = load_all(project_paths(words), overrides)
    require_files(projects)
    runs_code = workspace_trust.may_inspect(projects[0].workspace, trust)
    reporter = report.make(False, 0, False) if deep else None
    try:
        checked = checking.check(projects, runs_code, lambda line: echo(line, err=True), reporter)
    finally:
        if reporter is not None:
            reporter.close()
    errors = [line for p in projects for line in format_findings(p, of_level(checked[p.name].findings, Level.ERROR))]
    warnings = [
        line for p in projects for line in format_findings(p, of_level(checked[p.name].findings, Level.WARNING))
    ]
    for line in [*warnings, *workspace_trust.skipped_code(projects, "check", runs_code)]:
        echo(line)
    if errors:
        raise ProjectError(errors)
    for project in projects:
        counts = {split: sum(s.split == split for s in project.scenes) for split in ("train", "validation", "test")}
        scenes = ", ".join(f"{n} {split}" for split, n in counts.items() if n) or "none"
        doubts = len(of_level(checked[project.name].findings, Level.WARNING))
        suffix = f", with {doubts} warning{'s' if doubts > 1 else ''}" if doubts else ""
        echo(f"{project.path}: good{suffix} ({project.task}; scenes: {scenes}; {len(project.classes)} classes)")
        if not deep and any(isinstance(s.labels, RasterLabels | LayeredLabels) for s in project.scenes):
            echo("  label rasters were sampled; `rvbuild check --deep` reads all pixels")
        images = {
            id_: scene_facts["image"]
            for id_, scene_facts in checked[project.name].facts.items()
            if "image" in scene_facts
        }
        for line in tags.notes(images):
            echo(f"  {line}")
    return 0
