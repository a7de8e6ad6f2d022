"""`rvbuild review`: labels that are probably wrong, verdicts about them, and labels with these applied."""

from __future__ import annotations

from collections.abc import Sequence

from rvbuild.cli.commands import build as build_command
from rvbuild.cli.report import from_here
from rvbuild.session import review as reviews
from rvbuild.session.session import Session


def review(words: Sequence[str], options: build_command.Options) -> int:
    """Find suspects of the projects in `words`, and write their tables, pages and projects; return the exit status."""

    def write(session: Session) -> list[str]:
        lines = []
        for project in session.projects:
            reviewed = reviews.write(session, project, options.trust)
            named = f"{project.name}: " if len(session.projects) > 1 else ""
            lines += [f"  {named}{line}" for line in reviewed.lines()]
            lines += [
                f"  {from_here(reviewed.folder / name)}" for name in ("review.html", "review.qgz", "suspects.gpkg")
            ]
        return lines

    return build_command.build(reviews.STAGE, words, options, None, write)
