"""Options of single commands."""

from __future__ import annotations

from pathlib import Path

import click

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
