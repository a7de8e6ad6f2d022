"""The flags of the commands about experiments: sweeps, their points, and folds."""

from __future__ import annotations

from typing import Any

import click

from rvbuild.cli.flags.options import as_json, inline, jobs, projects, quiet, trusting, verbose

_metric = click.option(
    "--metric", metavar="SPLIT.NAME", help="What says which is best; default: the first metric, of validation scenes."
)
_lowest = click.option("--lowest", is_flag=True, help="The lowest value of the metric is the best.")
_dry_run = click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.command()
@projects
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=V,V…",
    help="Values of a key (repeatable: all combinations); or LOW..HIGH or LOW..HIGH:log, with --random.",
)
@click.option("--random", "count", type=click.IntRange(1, 10_000), metavar="N", help="Draw N points instead.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --random: another draw.")
@_metric
@_lowest
@click.option(
    "--stage", default="build", show_default=True, help="How far points are built; eval leaves out bundles and reports."
)
@jobs
@inline
@_dry_run
@trusting
@as_json
@quiet
@verbose
def sweep(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Build variants of a project with other values of keys, and say which is the best.

    What two points share is built once. A sweep that was stopped goes on where it was, and what fails stops no other.
    """
    from rvbuild.cli.commands.experiments import sweep as sweep_command

    return sweep_command.sweep(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


@click.command()
@click.argument("words", nargs=-1, metavar="[promote|rm ID…] [PROJECT.toml]")
@_metric
@_lowest
@click.option("--html", is_flag=True, help="Also write a page with the curves side by side.")
@click.option("--all", "everything", is_flag=True, help="With rm: all points.")
@_dry_run
@as_json
def exp(words: tuple[str, ...], **flags: Any) -> int:
    """Show the points of a project with their metrics and costs, the best first.

    `exp promote ID` writes the keys of a point into the project file; `exp rm ID` removes points from the workspace.
    """
    from rvbuild.cli.commands.experiments import exp as exp_command

    return exp_command.exp(words, **flags)


COMMANDS = (
    sweep,
    exp,
)
