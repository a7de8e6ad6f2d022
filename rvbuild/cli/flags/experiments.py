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


@click.command()
@projects
@click.option(
    "-k", "count", type=click.IntRange(2, 1000), metavar="K", help="How many; default: those of the project, or 5."
)
@click.option(
    "--by", type=click.Choice(["block", "scene"]), help="What a fold takes; default: as the project splits, or scenes."
)
@click.option("--soup", is_flag=True, help="Also average the weights of all folds, and bundle that model.")
@jobs
@inline
@_dry_run
@trusting
@as_json
@quiet
@verbose
def folds(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Train once for each part of the labelled ground, without it, and report mean and deviation of all metrics.

    Each scene gets a map by models that have not learned from the place, which `rvbuild review` uses.
    """
    from rvbuild.cli.commands.experiments import folds as folds_command

    return folds_command.folds(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


COMMANDS = (
    sweep,
    exp,
    folds,
)
