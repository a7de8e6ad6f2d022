"""The flags of the commands that build: one for each stage, `build`, and `watch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from rvbuild.cli.flags.options import (
    OF_COMMANDS,
    as_json,
    cluster,
    inline,
    jobs,
    keep_going,
    only_scenes,
    overriding,
    procs,
    projects,
    quiet,
    trusting,
    verbose,
)
from rvbuild.cli.words import normal_words, require_whole
from rvbuild.errors import nearest
from rvbuild.session.names import BUILDING
from rvbuild.stages.names import COMMANDS

_OPTIONS = {
    "scenes": "--scene",
    "jobs": "-j",
    "procs": "--procs",
    "dry_run": "-n",
    "keep_going": "-k",
    "always_make": "-B",
    "overrides": "--set",
    "as_json": "--json",
    "trust": "--trust",
    "cluster": "--on",
}
"""Options of building commands that do not apply to a bundle, or only where it predicts."""

_OF_BUNDLES = ("jobs", "dry_run", "always_make", "inline", "as_json")
"""Options of building commands that apply to a bundle that predicts."""


def is_repository(word: str) -> bool:
    """Tell whether a word names a directory with the members of a bundle; nothing heavy is imported."""
    return not word.endswith((".toml", ".zip")) and os.path.isfile(os.path.join(word, "manifest.json"))  # noqa: PTH113, PTH118


def stages_of_workspace(words: Sequence[str]) -> list[str]:
    """Return the stages that the projects in `words` add."""
    from rvbuild.session.own_stages import own_stages

    return own_stages(words)


def stage_command(stage: str, line: str) -> click.Command:
    """Return the command that builds `stage`, with its line of `--help`."""
    make: click.Command = click.command(stage, help=line)(_building(stage))
    return make


def _building(stage: str) -> Callable[..., int]:
    @click.argument(
        "words", nargs=-1, metavar="BUNDLE.zip INPUT… | [PROJECT.toml]…" if stage == "predict" else "[PROJECT.toml]…"
    )
    @only_scenes
    @jobs
    @procs
    @click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
    @keep_going
    @click.option("-B", "--always-make", is_flag=True, help="Build fresh artifacts again.")
    @inline
    @cluster
    @trusting
    @overriding
    @as_json
    @quiet
    @verbose
    def command(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
        verbosity = -1 if quiet else 1 if verbose else 0
        if (count := flags.pop("count", None)) is not None:
            flags["overrides"] = (*flags["overrides"], f"suggest.count={count}")
        if flags["inline"] and flags["cluster"]:
            raise click.UsageError("--inline runs stages in this process, and --on on a cluster; choose one")
        into, allow_code = flags.pop("into", None), flags.pop("allow_code", False)
        engine, tta, assets = flags.pop("engine", None), flags.pop("tta", None), flags.pop("assets", ())
        hub = flags.pop("hub", None)
        applied = {name: flags.pop(name) for name in ("verdicts", "in_place") if name in flags}
        if flags.pop("verify", False):
            if hub is not None:
                raise click.UsageError("--hf writes a model repository, and --verify verifies a bundle; choose one")
            if unused := [name for name, value in flags.items() if value and name != "inline"]:
                raise click.UsageError(f"{_OPTIONS[unused[0]]} applies to project files, not to a bundle")
            from rvbuild.cli.commands import bundle as bundle_command

            return bundle_command.verify(words, allow_code, verbosity, flags["inline"])
        if words and (words[0].endswith(".zip") or (stage == "predict" and is_repository(words[0]))):
            if hub is not None:
                if unused := [name for name, value in flags.items() if value and name != "inline"]:
                    raise click.UsageError(f"{_OPTIONS[unused[0]]} applies to project files, not to a bundle")
                from rvbuild.cli.commands import bundle as bundle_command

                return bundle_command.rewrite_for_hub(words, hub, verbosity, flags["inline"])
            if stage == "bundle":
                raise click.UsageError(
                    f"{words[0]}: a bundle is for `rvbuild predict`, or for `rvbuild bundle --verify {words[0]}`"
                )
            if stage != "predict":
                raise click.UsageError(f"{words[0]}: a bundle is for `rvbuild predict`")
            if unused := [name for name, value in flags.items() if value and name not in _OF_BUNDLES]:
                raise click.UsageError(f"{_OPTIONS[unused[0]]} applies to project files, not to a bundle")
            from rvbuild.cli.commands import predict as predict_command

            given = {name: flags[name] for name in _OF_BUNDLES}
            given |= {"engine": engine or "auto", "tta": tta, "assets": assets, "allow_code": allow_code}
            return predict_command.predict_bundle(words, into, verbosity=verbosity, **given)
        if stage != "review" and (into is not None or allow_code or engine is not None or tta or assets):
            raise click.UsageError(
                "--allow-code applies to a bundle: rvbuild bundle --verify BUNDLE.zip"
                if stage == "bundle"
                else "-o, --engine, --tta, --asset, --allow-code: for a bundle, as in "
                "rvbuild predict BUNDLE.zip INPUT… -o DIR"
            )
        for word in words:
            if not word.endswith(".toml"):
                raise click.UsageError(
                    f"{word}: not a project file (.toml)" + (" or bundle (.zip)" if stage == "predict" else "")
                )
        require_whole(stage, "torch")
        from rvbuild.cli.commands import build as build_command  # imported late: a bundle needs none of it

        options = build_command.Options(verbosity=verbosity, **flags)
        if hub is not None:
            from rvbuild.cli.commands import bundle as bundle_command

            return bundle_command.write_for_hub(words, options, hub)
        if stage == "review":
            from rvbuild.cli.commands import review as review_command

            return review_command.review(words, options, into=into, **applied)
        return build_command.build(stage, words, options, normal_words(sys.argv[1:]))

    for option in OF_COMMANDS.get(stage, ()):
        command = option(command)
    return command


@click.command()
@click.argument("stage", metavar="STAGE")
@projects
@only_scenes
@jobs
@keep_going
@inline
@cluster
@trusting
@overriding
@quiet
@verbose
def watch(stage: str, words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Build STAGE now, and again whenever an input or the project file is saved.

    Ctrl-C ends it. Needs the package watchfiles: pip install 'rvbuild[watch]'.
    """
    from rvbuild.cli.commands import build as build_command
    from rvbuild.cli.commands import watch as watch_command

    valid = [*BUILDING, *stages_of_workspace(words)]
    if stage not in valid:
        raise click.UsageError(f"watch {stage}: no such stage{nearest(stage, valid)} (stages: {', '.join(valid)})")
    return watch_command.watch(
        stage, words, build_command.Options(verbosity=-1 if quiet else 1 if verbose else 0, **flags)
    )


COMMANDS_THAT_BUILD = (
    *(stage_command(stage, line) for stage, line in {**COMMANDS, "build": "Build all artifacts."}.items()),
    watch,
)
