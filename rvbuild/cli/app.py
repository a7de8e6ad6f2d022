"""The command line: its commands, and one message and an exit status for each error."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType

import click

from rvbuild import __version__
from rvbuild.cli.flags import artifacts, building, experiments, models, projects
from rvbuild.cli.flags.cache import cache
from rvbuild.cli.terminal import echo
from rvbuild.cli.words import INTERRUPTED, require_whole, silenced
from rvbuild.engine.run.worker import plain
from rvbuild.errors import RvbuildError, nearest

_OF_BUNDLES = ("predict", "bundle", "sign")
"""The commands that rvbuild-runtime has."""


class _Commands(click.Group):
    """The commands, including one for each stage that projects add."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names, and the remaining words."""
        name, *words = args
        if name not in _OF_BUNDLES and not name.startswith("-") and not {"-h", "--help"} & set(words):
            require_whole(name, "pydantic")
        if self.get_command(ctx, name) is None:
            stages = building.stages_of_workspace(words)
            if name in stages:
                return name, building.stage_command(name, f"The stage {name} of this workspace."), words
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


for _commands in (
    building.COMMANDS_THAT_BUILD,
    artifacts.COMMANDS,
    projects.COMMANDS,
    models.COMMANDS,
    experiments.COMMANDS,
    (cache,),
):
    for _command in _commands:
        app.add_command(_command)


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
