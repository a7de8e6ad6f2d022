"""Options of several commands, and options that only one building command has."""

from __future__ import annotations

from pathlib import Path

import click

from rvbuild.stages.names import ENGINES, TEST_TIMES

overriding = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key for this call."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Show fresh artifacts as well.")
trusting = click.option("--trust", is_flag=True, help="Trust the code of this workspace: run it, and do not ask again.")
projects = click.argument("words", nargs=-1, metavar="[PROJECT.toml]…")
jobs = click.option(
    "-j", "--jobs", type=click.IntRange(1), help="Artifacts to build at once; default: the number of cores."
)
procs = click.option(
    "--procs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that train together, at most train.shards; default: as many as there are cores or GPUs for, "
    "or slots of the cluster.",
)
keep_going = click.option(
    "-k", "--keep-going", is_flag=True, help="After a failure, finish everything that does not depend on it."
)
inline = click.option("--inline", is_flag=True, help="Run stages in this process, one at a time, for debugging.")
cluster = click.option(
    "--on",
    "cluster",
    metavar="CLUSTER",
    help="Run stages on a Dask cluster: local:N starts N workers here, tcp://HOST:PORT is a scheduler "
    "(default: RVBUILD_CLUSTER).",
)
only_scenes = click.option("--scene", "scenes", multiple=True, metavar="ID", help="Only this scene (repeatable).")

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
        click.option(
            "--hf",
            "hub",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Write the bundle of a project, or BUNDLE.zip, as a model repository of the Hugging Face hub; no "
            "upload.",
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
        click.option(
            "--tta",
            type=click.Choice(TEST_TIMES),
            help="Test-time augmentation with a bundle; default: predict.tta of its project.",
        ),
        click.option(
            "--asset",
            "assets",
            multiple=True,
            metavar="NAME",
            help="With a bundle: the asset of STAC items to predict (repeatable for a stack).",
        ),
        _CODE,
    ),
}
"""The options that only one building command has, by its name."""
