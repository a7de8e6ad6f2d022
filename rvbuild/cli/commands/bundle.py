"""What is done with bundles besides predicting: they are verified, signed, and written as model repositories.

Nothing that reads projects is imported, except to build the bundle of one.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.cli import report
from rvbuild.cli.terminal import echo
from rvbuild.errors import UsageError
from rvbuild.session import bundles
from rvbuild.stages.bundle.hub.folder import as_bundle, is_repository, require_ours

if TYPE_CHECKING:
    from rvbuild.cli.commands.build import Options

_ONE = "--hf expects one project, or one bundle: rvbuild bundle --hf DIR projects/PROJECT.toml"


def verify(words: Sequence[str], allow_code: bool, verbosity: int, inline: bool) -> int:
    """Verify a bundle: its members, and its self-test with the engines that are installed."""
    gc.enable()  # a stage may run in this process; see `main`
    if len(words) != 1 or not (words[0].endswith(".zip") or is_repository(Path(words[0]))):
        raise UsageError("--verify expects one bundle: rvbuild bundle --verify BUNDLE.zip")
    reporter = report.make(False, verbosity, False)
    try:
        with as_bundle(Path(words[0])) as bundle:
            progress = reporter.task(f"verify {bundle.name}")
            lines = bundles.verify_file(bundle, progress, allow_code=allow_code, inline=inline)
            lines = [line.replace(str(bundle), words[0]) for line in lines]
    finally:
        reporter.close()
    if verbosity >= 0:
        echo("\n".join(lines))
    return 0


def write_for_hub(words: Sequence[str], options: Options, folder: Path) -> int:
    """Build the bundle of one project, and write it as the files of a model repository."""
    from rvbuild.cli.commands.build import build
    from rvbuild.session.projects import load_all, project_paths

    if len(words) > 1:
        raise UsageError(_ONE)
    require_ours(folder)
    status = build("bundle", words, options, None)
    if status or options.dry_run:
        return status
    projects = load_all(project_paths(words), options.overrides)
    if len(projects) > 1:
        raise UsageError(_ONE)
    reporter = report.make(False, options.verbosity, options.as_json)
    try:
        names = bundles.write_repository(projects[0], folder, reporter.task(f"write {folder}"), inline=options.inline)
    finally:
        reporter.close()
    if options.verbosity >= 0 and not options.as_json:
        _tell(folder, names)
    return 0


def rewrite_for_hub(words: Sequence[str], folder: Path, verbosity: int, inline: bool) -> int:
    """Write a bundle that is there as the files of a model repository."""
    if len(words) > 1:
        raise UsageError(_ONE)
    require_ours(folder)
    reporter = report.make(False, verbosity, False)
    try:
        names = bundles.rewrite_repository(Path(words[0]), folder, reporter.task(f"write {folder}"), inline=inline)
    finally:
        reporter.close()
    if verbosity >= 0:
        _tell(folder, names)
    return 0


def _tell(folder: Path, names: Sequence[str]) -> None:
    echo(f"{folder}: {', '.join(names)}")
    echo(f"nothing was uploaded; decide on the licence in README.md, then: hf upload USER/NAME {folder}")


def sign(word: str) -> int:
    """Write the signature of a bundle."""
    from rvbuild.stages.bundle.signature import sign as write_signature
    from rvbuild.stages.bundle.write import MEMBERS

    if not Path(word).is_file():
        raise UsageError(f"no such file: {word}")
    echo(str(write_signature(Path(word), MEMBERS)))
    return 0
