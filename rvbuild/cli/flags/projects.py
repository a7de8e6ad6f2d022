"""The flags of the commands about projects: new ones, their data, problems and page."""

from __future__ import annotations

from typing import Any

import click

from rvbuild.cli.flags.options import as_json, overriding, projects, quiet, trusting, verbose


@click.command()
@click.argument("name", required=False)
@click.option("--task", default="semantic_segmentation", show_default=True, help="The task of the project.")
@click.option("--example", is_flag=True, help="Copy the example project NAME; without NAME, list them.")
def new(name: str | None, task: str, example: bool) -> int:
    """Write a commented starter project to projects/NAME.toml, and a dodo.py for plain doit."""
    from rvbuild.cli.commands import new as new_command

    if example:
        return new_command.new_example(name)
    if name is None:
        raise click.UsageError("new: expected a name, as in `rvbuild new parcels`")
    return new_command.new(name, task)


@click.command()
def schema() -> int:
    """Print the JSON Schema of project files, for editors."""
    from rvbuild.cli.commands import new as new_command

    return new_command.schema()


@click.command()
@projects
@trusting
@overriding
@as_json
@click.option(
    "--outlines", is_flag=True, help="Draw the outlines of labels on the pictures, so that the image stays visible."
)
@quiet
@verbose
def data(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Show the contents of projects: scenes, sizes, classes; as a table, and as a page with pictures."""
    from rvbuild.cli.commands import data as data_command

    return data_command.data(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


@click.command()
@projects
@trusting
@overriding
@click.option(
    "--deep", is_flag=True, help="Also read every pixel of imagery and labels; the result is kept until a file changes."
)
def check(words: tuple[str, ...], overrides: tuple[str, ...], deep: bool, trust: bool) -> int:
    """Find the problems of projects before work starts."""
    from rvbuild.cli.commands import check as check_command

    return check_command.check(words, overrides, deep, trust)


@click.command()
@projects
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; default: one that is free.")
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@trusting
@overriding
def view(words: tuple[str, ...], overrides: tuple[str, ...], port: int, no_open: bool, trust: bool) -> int:
    """Show a project as a local web page: scenes as maps, labels, predictions, errors, and the build beside them.

    Ctrl-C ends it. Needs the packages starlette and uvicorn: pip install 'rvbuild[view]'.
    """
    from rvbuild.cli.commands import view as viewing

    return viewing.view(words, overrides, port, not no_open, trust)


COMMANDS = (
    new,
    schema,
    data,
    check,
    view,
)
