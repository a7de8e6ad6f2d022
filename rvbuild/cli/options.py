"""Options of single commands."""

from __future__ import annotations

from pathlib import Path

import click

from rvbuild.stages.names import ENGINES

APPLYING = (
    click.option("-o", "into", type=click.Path(path_type=Path), metavar="DIR", help="With --apply: for the copies."),
    click.option(
        "--in-place", is_flag=True, help="With --apply: change the label files themselves, after a backup of them."
    ),
    click.option(
        "--apply",
        "verdicts",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the accepted verdicts of suspects.gpkg (or .geojson) into copies of the label files.",
    ),
)
"""Options of `review`, the last first."""

_CODE = click.option("--allow-code", is_flag=True, help="Allow a bundle to run its own Python code.")

OF_COMMANDS = {
    "review": APPLYING,
    "suggest": (
        click.option(
            "--count", type=click.IntRange(1, 10_000), help="How many windows; short for --set suggest.count=N."
        ),
    ),
    "bundle": (
        click.option(
            "--verify", is_flag=True, help="Verify BUNDLE.zip: its members, and its self-test with all engines."
        ),
        _CODE,
    ),
    "predict": (
        click.option(
            "-o",
            "into",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Directory for the predictions of a bundle.",
        ),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            help="What computes the model of a bundle; default: auto, torch where it is installed.",
        ),
        _CODE,
    ),
}
"""The options that only one building command has, by its name."""
