"""The command `data`: the contents of projects, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rvbuild.cli import report
from rvbuild.cli.terminal import echo
from rvbuild.engine.run.outcome import DONE, Did
from rvbuild.engine.workspace import locked
from rvbuild.session import trust as workspace_trust
from rvbuild.session.projects import load_all, project_paths, require_files
from rvbuild.session.surveys import read, surveys
from rvbuild.units import area_text


def data(
    words: Sequence[str], overrides: Sequence[str], as_json: bool, verbosity: int, trust: bool, outlines: bool
) -> int:
    """Survey all scenes of projects and print the results; return the exit status."""
    projects = load_all(project_paths(words), overrides)
    require_files(projects)
    runs_code = workspace_trust.may_inspect(projects[0].workspace, trust)
    reporter = report.make(len(projects) > 1, -1 if as_json else verbosity, as_json)
    try:
        with (
            locked(projects[0].workspace, reporter.note),
            surveys(projects, reporter, runs_code, outlines) as (session, outcomes),
        ):
            failed = [outcome for outcome in outcomes if outcome.did not in DONE]
            by_project = {} if failed else {project.name: read(session, project) for project in projects}
    finally:
        reporter.close()
    if as_json:
        report.print_json(by_project)
    elif verbosity >= 0:
        for project in projects if by_project else ():
            echo("\n".join([*_table(by_project[project.name]), f"  cache/{project.name}/data/index.html"]))
            for line in workspace_trust.skipped_code([project], "data", runs_code) if verbosity >= 0 else ():
                echo(line)
    for outcome in failed:
        if outcome.did is Did.FAILED:
            echo(f"{outcome.artifact.label()}: {outcome.message}", err=True)
    return 1 if failed else 0


def _table(survey: dict[str, Any]) -> list[str]:
    """Return a table of scenes, and a table of classes by split."""
    if not survey["scenes"]:
        return ["no scenes"]
    rows = [("scene", "split", "size", "bands", "pixel", "CRS", "area", survey["unit"])]
    for scene in survey["scenes"]:
        image = scene["image"]
        labelled = "no labels" if "counts" not in scene else f"{_labelled(survey, scene['counts']):,}"
        rows.append(
            (
                scene["scene"],
                scene["split"],
                f"{image['width']} x {image['height']}",
                f"{image['bands']} {image['dtype']}{_dropped(image)}",
                f"{image['res_m']:.3g} m" if image["res_m"] else "",
                image["crs"] or "",
                area_text(scene["area_m2"]) or f"{scene['pixels']:,} px",
                labelled,
            )
        )
    classes = [("class", *(split["split"] for split in survey["splits"]))]
    for number, name in enumerate(survey["classes"]):
        if number == survey["null_id"] and not any(split["counts"][number] for split in survey["splits"]):
            continue
        classes.append((name, *(_count(split["counts"], number) for split in survey["splits"])))
    return [*_aligned(rows), "", *_aligned(classes)]


def _dropped(image: dict[str, Any]) -> str:
    """Return a note about an alpha band that is read as a mask."""
    return " + alpha" if image["tags"].get("alpha", {}).get("mask") else ""


def _labelled(survey: dict[str, Any], counts: Sequence[int]) -> int:
    return sum(count for number, count in enumerate(counts) if number != survey["null_id"])


def _count(counts: Sequence[int], number: int) -> str:
    share = counts[number] / sum(counts) if sum(counts) else 0.0
    return f"{counts[number]:,} ({share:.1%})"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
