"""The commands and their flags, with Make's letters. Each command parses its words and calls one function."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import click

from rvbuild import __version__
from rvbuild.cli.commands.cache import cache
from rvbuild.cli.options import OF_COMMANDS
from rvbuild.cli.terminal import echo
from rvbuild.cli.words import INTERRUPTED, normal_words, silenced
from rvbuild.engine.run.worker import plain
from rvbuild.errors import RvbuildError, nearest
from rvbuild.session.names import BUILDING
from rvbuild.stages.names import COMMANDS

_OPTIONS = {
    "scenes": "--scene",
    "jobs": "-j",
    "dry_run": "-n",
    "keep_going": "-k",
    "always_make": "-B",
    "overrides": "--set",
    "as_json": "--json",
    "trust": "--trust",
}
"""Options of building commands that do not apply to a bundle."""

_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key for this call.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show fresh artifacts as well.")
_trust = click.option("--trust", is_flag=True, help="Trust the code of this workspace: run it, and do not ask again.")
_words = click.argument("words", nargs=-1, metavar="[PROJECT.toml]…")


def _own_stages(words: Sequence[str]) -> list[str]:
    from rvbuild.session.own_stages import own_stages

    return own_stages(words)


class _Commands(click.Group):
    """The commands, including one for each stage that projects add."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names, and the remaining words."""
        name, *words = args
        if self.get_command(ctx, name) is None:
            stages = _own_stages(words)
            if name in stages:
                stage_command: click.Command = click.command(name, help=f"The stage {name} of this workspace.")(
                    _building(name)
                )
                return name, stage_command, words
            if not name.startswith("-") and (hint := nearest(name, [*stages, *self.commands])):
                raise click.UsageError(f"{name}: no such command or stage{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rvbuild")
def app() -> None:
    """Make for geospatial deep learning.

    A TOML project file declares scenes, classes and settings; each artifact is built only when something it depends on
    has changed. With no PROJECT.toml, a command means every project in projects/.
    """


def _building(stage: str) -> Callable[..., int]:
    @click.argument(
        "words", nargs=-1, metavar="BUNDLE.zip IMAGE… | [PROJECT.toml]…" if stage == "predict" else "[PROJECT.toml]…"
    )
    @click.option("--scene", "scenes", multiple=True, metavar="ID", help="Only this scene (repeatable).")
    @click.option(
        "-j", "--jobs", type=click.IntRange(1), help="Artifacts to build at once; default: the number of cores."
    )
    @click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
    @click.option(
        "-k", "--keep-going", is_flag=True, help="After a failure, finish everything that does not depend on it."
    )
    @click.option("-B", "--always-make", is_flag=True, help="Build fresh artifacts again.")
    @click.option("--inline", is_flag=True, help="Run stages in this process, one at a time, for debugging.")
    @_trust
    @_set
    @_json
    @_quiet
    @_verbose
    def command(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
        from rvbuild.cli.commands import build as build_command

        verbosity = -1 if quiet else 1 if verbose else 0
        if (count := flags.pop("count", None)) is not None:
            flags["overrides"] = (*flags["overrides"], f"suggest.count={count}")
        into, allow_code = flags.pop("into", None), flags.pop("allow_code", False)
        engine = flags.pop("engine", None)
        applied = {name: flags.pop(name) for name in ("verdicts", "in_place") if name in flags}
        if flags.pop("verify", False):
            if unused := [name for name, value in flags.items() if value and name != "inline"]:
                raise click.UsageError(f"{_OPTIONS[unused[0]]} applies to project files, not to a bundle")
            return build_command.verify_bundle(words, allow_code, verbosity, flags["inline"])
        if words and words[0].endswith(".zip"):
            if stage == "bundle":
                raise click.UsageError(
                    f"{words[0]}: a bundle is for `rvbuild predict`, or for `rvbuild bundle --verify {words[0]}`"
                )
            if stage != "predict":
                raise click.UsageError(f"{words[0]}: a bundle is for `rvbuild predict`")
            if unused := [name for name, value in flags.items() if value and name != "inline"]:
                raise click.UsageError(f"{_OPTIONS[unused[0]]} applies to project files, not to a bundle")
            return build_command.predict_bundle(words, into, allow_code, engine or "auto", verbosity, flags["inline"])
        if stage != "review" and (into is not None or allow_code or engine is not None):
            raise click.UsageError(
                "--allow-code applies to a bundle: rvbuild bundle --verify BUNDLE.zip"
                if stage == "bundle"
                else "-o, --engine and --allow-code apply to a bundle: rvbuild predict BUNDLE.zip IMAGE… -o DIR"
            )
        for word in words:
            if not word.endswith(".toml"):
                raise click.UsageError(
                    f"{word}: not a project file (.toml)" + (" or bundle (.zip)" if stage == "predict" else "")
                )
        options = build_command.Options(verbosity=verbosity, **flags)
        if stage == "review":
            from rvbuild.cli.commands import review as review_command

            return review_command.review(words, options, into=into, **applied)
        return build_command.build(stage, words, options, normal_words(sys.argv[1:]))

    for option in OF_COMMANDS.get(stage, ()):
        command = option(command)
    return command


for _stage, _help in {**COMMANDS, "build": "Build all artifacts."}.items():
    app.command(_stage, help=_help)(_building(_stage))


@app.command()
@_words
@_trust
@_set
@_json
@_quiet
@_verbose
def status(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Show the states of each stage, why artifacts are not fresh, and the time a run will take."""
    from rvbuild.cli.commands import status as status_command

    return status_command.status(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


@app.command()
@click.argument("artifact", metavar="STAGE[:SCENE]")
@_words
@_trust
@_set
def why(artifact: str, words: tuple[str, ...], overrides: tuple[str, ...], trust: bool) -> int:
    """Show the chain of causes, down to the edited file or key."""
    from rvbuild.cli.commands import status as status_command

    return status_command.why(artifact, words, overrides, trust)


@app.command()
@_words
@_trust
@_set
@click.option("--dot", is_flag=True, help="Print Graphviz instead of Mermaid.")
def graph(words: tuple[str, ...], overrides: tuple[str, ...], dot: bool, trust: bool) -> int:
    """Print the graph of artifacts, coloured by state."""
    from rvbuild.cli.commands import status as status_command

    return status_command.graph(words, overrides, dot, trust)


@app.command()
@click.argument("words", nargs=-1, metavar="[STAGE]… [PROJECT.toml]…")
@click.option(
    "--keep-cache", is_flag=True, help="Only clean the workspace: the next build restores the artifacts from the store."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before removing artifacts of all projects.")
@_quiet
@_verbose
def clean(words: tuple[str, ...], keep_cache: bool, yes: bool, quiet: bool, verbose: bool) -> int:
    """Remove the artifacts of stages and forget them, so that they are built again.

    If no project is named and several have artifacts, the command asks first; a script needs --yes.
    """
    from rvbuild.cli.commands import clean as clean_command

    return clean_command.clean(words, keep_cache, yes, -1 if quiet else 1 if verbose else 0)


@app.command()
@_words
@_trust
@_set
@_json
@click.option(
    "--outlines", is_flag=True, help="Draw the outlines of labels on the pictures, so that the image stays visible."
)
@_quiet
@_verbose
def data(words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Show the contents of projects: scenes, sizes, classes; as a table, and as a page with pictures."""
    from rvbuild.cli.commands import data as data_command

    return data_command.data(words, verbosity=-1 if quiet else 1 if verbose else 0, **flags)


@app.command()
@_words
@_trust
@_set
@click.option(
    "--deep", is_flag=True, help="Also read every pixel of imagery and labels; the result is kept until a file changes."
)
def check(words: tuple[str, ...], overrides: tuple[str, ...], deep: bool, trust: bool) -> int:
    """Find the problems of projects before work starts."""
    from rvbuild.cli.commands import check as check_command

    return check_command.check(words, overrides, deep, trust)


@app.command()
@click.argument("bundle", metavar="BUNDLE.zip")
def sign(bundle: str) -> int:
    """Sign a bundle with the secret in RVBUILD_BUNDLE_KEY, in a file BUNDLE.zip.sig beside it.

    Where that variable is set, `rvbuild predict BUNDLE.zip` refuses bundles that are not signed with it.
    """
    from rvbuild.cli.commands import build as build_command

    return build_command.sign_bundle(bundle)


@app.command()
@click.argument("pattern", required=False, default="")
@_json
def models(pattern: str, as_json: bool) -> int:
    """List the models and encoders that a project can name; PATTERN is a part of the name, or like timm/res*."""
    from rvbuild.cli.commands import models as models_command

    return models_command.models(pattern, as_json)


@app.command()
def schema() -> int:
    """Print the JSON Schema of project files, for editors."""
    from rvbuild.cli.commands import new as new_command

    return new_command.schema()


@app.command()
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


@app.command()
@click.argument("words", nargs=-1, metavar="[STAGE[:SCENE]] [PROJECT.toml]")
@click.option("-n", "count", type=click.IntRange(1), default=20, show_default=True, help="Number of lines to show.")
@_json
def log(words: tuple[str, ...], count: int, as_json: bool) -> int:
    """Show what ran, when, why and for how long, newest first."""
    from rvbuild.cli.commands import log as log_command

    return log_command.log(words, count, as_json)


@app.command()
@click.argument("words", nargs=-1, metavar="A [B] [PROJECT.toml]", required=True)
@_json
def diff(words: tuple[str, ...], as_json: bool) -> int:
    """Compare the inputs and metrics of two builds of an artifact.

    A and B are STAGE[:SCENE]@N, N = 0 the newest, 1 the one before it (`rvbuild log` shows them), or the beginnings of
    keys. Without B, A is compared with the newest; STAGE[:SCENE] alone compares the last two.
    """
    from rvbuild.cli.commands import log as log_command

    return log_command.diff(words, as_json)


@app.command()
@click.argument("stage", metavar="STAGE")
@_words
@click.option("--scene", "scenes", multiple=True, metavar="ID", help="Only this scene (repeatable).")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Artifacts to build at once; default: the number of cores.")
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, finish everything that does not depend on it.")
@click.option("--inline", is_flag=True, help="Run stages in this process, one at a time, for debugging.")
@_trust
@_set
@_quiet
@_verbose
def watch(stage: str, words: tuple[str, ...], quiet: bool, verbose: bool, **flags: Any) -> int:
    """Build STAGE now, and again whenever an input or the project file is saved.

    Ctrl-C ends it. Needs the package watchfiles: pip install 'rvbuild[watch]'.
    """
    from rvbuild.cli.commands import build as build_command
    from rvbuild.cli.commands import watch as watch_command

    valid = [*BUILDING, *_own_stages(words)]
    if stage not in valid:
        raise click.UsageError(f"watch {stage}: no such stage{nearest(stage, valid)} (stages: {', '.join(valid)})")
    return watch_command.watch(
        stage, words, build_command.Options(verbosity=-1 if quiet else 1 if verbose else 0, **flags)
    )


@app.command()
@_words
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; default: one that is free.")
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@_trust
@_set
def view(words: tuple[str, ...], overrides: tuple[str, ...], port: int, no_open: bool, trust: bool) -> int:
    """Show a project as a local web page: scenes as maps, labels, predictions, errors, and the build beside them.

    Ctrl-C ends it. Needs the packages starlette and uvicorn: pip install 'rvbuild[view]'.
    """
    from rvbuild.cli.commands import view as viewing

    return viewing.view(words, overrides, port, not no_open, trust)


app.add_command(cache)


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(words: list[str]) -> int:
    """Run a command line; every error that a user can cause gives one message and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    status = _run(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return silenced()
    except OSError as error:
        echo(f"standard output: {plain(error)}", err=True)
        return silenced()
    return status


def _run(words: list[str]) -> int:
    try:
        status: int | None = app.main(args=words, prog_name="rvbuild", standalone_mode=False)
        return status or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        echo(text.getvalue().rstrip("\n"), err=True)
        return 2
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except RvbuildError as error:
        echo(str(error), err=True)
        return error.exit_status
    except BrokenPipeError:
        return silenced()
    except OSError as error:  # a full or read-only disk, an unreadable file
        echo(plain(error) or str(error), err=True)
        return 1


def _interrupted() -> int:
    echo(INTERRUPTED, err=True)
    return 130
