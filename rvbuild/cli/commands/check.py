"""The command `check`: everything that can be found wrong before work starts."""

from __future__ import annotations

from collections.abc import Sequence

from rvbuild.checks import tags
from rvbuild.checks.findings import Level
from rvbuild.cli import report
from rvbuild.cli.terminal import echo
from rvbuild.errors import ProjectError
from rvbuild.project.model import LayeredLabels, RasterLabels
from rvbuild.session import trust as trusting
from rvbuild.session.checking import check as checking
from rvbuild.session.checking.findings import of_level
from rvbuild.session.checking.told import tell
from rvbuild.session.projects import load_all, project_paths, require_files


def check(words: Sequence[str], overrides: Sequence[str], deep: bool = False, trust: bool = False) -> int:
    """Look for all that is wrong with projects and their files, with `deep` in all pixels; raise with every error.

    With `trust`, or in a workspace that the user has trusted before, the user's code may transform pixels.
    """
    projects = load_all(project_paths(words), overrides)
    require_files(projects)
    runs_code = trusting.may_look(projects[0].workspace, trust)
    reporter = report.make(False, 0, False) if deep else None
    try:
        checked = checking.check(projects, runs_code, lambda line: echo(line, err=True), reporter)
    finally:
        if reporter is not None:
            reporter.close()
    errors = [line for p in projects for line in tell(p, of_level(checked[p.name].findings, Level.ERROR))]
    warnings = [line for p in projects for line in tell(p, of_level(checked[p.name].findings, Level.WARNING))]
    for line in [*warnings, *trusting.left_out(projects, "check", runs_code)]:
        echo(line)
    if errors:
        raise ProjectError(errors)
    for project in projects:
        counts = {split: sum(s.split == split for s in project.scenes) for split in ("train", "validation", "test")}
        said = ", ".join(f"{n} {split}" for split, n in counts.items() if n) or "none"
        doubts = len(of_level(checked[project.name].findings, Level.WARNING))
        but = f", with {doubts} warning{'s' if doubts > 1 else ''}" if doubts else ""
        echo(f"{project.path}: good{but} ({project.task}; scenes: {said}; {len(project.classes)} classes)")
        if not deep and any(isinstance(s.labels, RasterLabels | LayeredLabels) for s in project.scenes):
            echo("  label rasters were sampled; `rvbuild check --deep` reads all pixels")
        images = {id_: one["image"] for id_, one in checked[project.name].facts.items() if "image" in one}
        for line in tags.notes(images):
            echo(f"  {line}")
    return 0
