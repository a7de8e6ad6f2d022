"""The flags of the commands about artifacts: their states, history and removal."""

from __future__ import annotations

from typing import Any

import click

from rvbuild.cli.flags.options import as_json, overriding, projects, quiet, trusting, verbose


@click.command()
@projects
@trusting
@overriding
@as_json
@quiet
@verbose
def status(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Show the states of each stage, why artifacts are not fresh, and the time a run will take."""
    from rvbuild.cli.commands import status as status_command

    return status_command.status(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


@click.command()
@click.argument("artifact", metavar="STAGE[:SCENE]")
@projects
@trusting
@overriding
def why(artifact: str, words: tuple[str, ...], overrides: tuple[str, ...], trust: bool) -> int:
    """Show the chain of causes, down to the edited file or key."""
    from rvbuild.cli.commands import status as status_command

    return status_command.why(artifact, words, overrides, trust)


@click.command()
@projects
@trusting
@overriding
@click.option("--dot", is_flag=True, help="Print Graphviz instead of Mermaid.")
def graph(words: tuple[str, ...], overrides: tuple[str, ...], dot: bool, trust: bool) -> int:
    """Print the graph of artifacts, coloured by state."""
    from rvbuild.cli.commands import status as status_command

    return status_command.graph(words, overrides, dot, trust)


@click.command()
@click.argument("words", nargs=-1, metavar="[STAGE]… [PROJECT.toml]…")
@click.option(
    "--keep-cache", is_flag=True, help="Only clean the workspace: the next build restores the artifacts from the store."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before removing artifacts of all projects.")
@quiet
@verbose
def clean(words: tuple[str, ...], keep_cache: bool, yes: bool, quiet: bool, verbose: bool) -> int:
    """Remove the artifacts of stages and forget them, so that they are built again.

    If no project is named and several have artifacts, the command asks first; a script needs --yes.
    """
    from rvbuild.cli.commands import clean as clean_command

    return clean_command.clean(words, keep_cache, yes, -1 if quiet else 1 if verbose else 0)


@click.command()
@click.argument("words", nargs=-1, metavar="[STAGE[:SCENE]] [PROJECT.toml]")
@click.option("-n", "count", type=click.IntRange(1), default=20, show_default=True, help="Number of lines to show.")
@as_json
def log(words: tuple[str, ...], count: int, as_json: bool) -> int:
    """Show what ran, when, why and for how long, newest first."""
    from rvbuild.cli.commands import log as log_command

    return log_command.log(words, count, as_json)


@click.command()
@click.argument("words", nargs=-1, metavar="A [B] [PROJECT.toml]", required=True)
@as_json
def diff(words: tuple[str, ...], as_json: bool) -> int:
    """Compare the inputs and metrics of two builds of an artifact, or the keys and metrics of two points or projects.

    A and B are STAGE[:SCENE]@N, N = 0 the newest, 1 the one before it (`rvbuild log` shows them), or the beginnings of
    keys. Without B, A is compared with the newest; STAGE[:SCENE] alone compares the last two.

    A and B may also be two points of a sweep, a point alone (compared with its project), or two project files.
    """
    from rvbuild.cli.commands import log as log_command
    from rvbuild.cli.commands.experiments import compare

    if compare.compares(words):
        return compare.compare(words, as_json)
    return log_command.diff(words, as_json)


COMMANDS = (
    status,
    why,
    graph,
    clean,
    log,
    diff,
)
