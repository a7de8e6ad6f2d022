"""The flags of `rvbuild cache …`."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Inspect, clean, verify and share the store of earlier results."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(as_json: bool) -> int:
    """Show the content of the store, the part in the workspace, and the space that gc could free."""
    from rvbuild.cli.commands import store as store_command

    return store_command.stats(as_json)


@cache.command()
@click.option("--max-size", metavar="SIZE", help="Remove results until the store has at most this size, such as 10GB.")
@click.option("--older-than", metavar="AGE", help="Remove results that were not used for this long, such as 30d.")
@click.option("-n", "--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@click.option("--grace", metavar="AGE", help="Keep everything younger than this; default: 10min.")
def gc(max_size: str | None, older_than: str | None, dry_run: bool, grace: str | None) -> int:
    """Free space: remove unusable data, and with a limit also earlier results, the cheapest to rebuild first.

    The results in the workspace are never removed. Without a limit, no earlier result is removed.
    """
    from rvbuild.cli.commands import store as store_command

    return store_command.gc(max_size, older_than, dry_run, grace)


@cache.command()
def verify() -> int:
    """Check every content by its digest; exit status 1 if something is damaged or missing."""
    from rvbuild.cli.commands import store as store_command

    return store_command.verify()


@cache.command()
@click.argument("words", nargs=-1, metavar="[URL]")
@click.option("--all", "everything", is_flag=True, help="Also send earlier results.")
def push(words: tuple[str, ...], everything: bool) -> int:
    """Send the results in the workspace to a remote store: a directory, or an address such as s3://bucket/path.

    Without URL, the environment variable RVBUILD_REMOTE gives the address.
    """
    from rvbuild.cli.commands import push as push_command

    return push_command.push(words, everything)


@cache.command()
@click.argument("words", nargs=-1, metavar="[URL] [PROJECT.toml]…")
@click.option("--all", "everything", is_flag=True, help="Download all results, whether or not they are needed now.")
def pull(words: tuple[str, ...], everything: bool) -> int:
    """Fetch the results that the projects need now from a remote store, so that the next build restores them.

    Without URL, the environment variable RVBUILD_REMOTE gives the address.
    """
    from rvbuild.cli.commands import push as push_command

    return push_command.pull(words, everything)


@cache.command()
def adopt() -> int:
    """Accept a cache from another machine or an earlier rvbuild as your own, with all results in its store.

    Only do this if you created the cache or trust its author: the origin of its results is not checked.
    """
    from rvbuild.cli.commands import store as store_command

    return store_command.adopt()
