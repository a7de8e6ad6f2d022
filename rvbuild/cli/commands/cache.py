"""The flags of `rvbuild cache …`."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Look at the store of earlier results, free space in it, check it, share it."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(as_json: bool) -> int:
    """Show what the store holds, what the workspace shows of it, and what gc could free."""
    from rvbuild.cli.commands import store as caching

    return caching.stats(as_json)


@cache.command()
@click.option("--max-size", metavar="SIZE", help="Remove results until the store has at most this size, such as 10GB.")
@click.option("--older-than", metavar="AGE", help="Remove results that were not used for this long, such as 30d.")
@click.option("-n", "--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@click.option("--grace", metavar="AGE", help="Keep everything younger than this; default: 10min.")
def gc(max_size: str | None, older_than: str | None, dry_run: bool, grace: str | None) -> int:
    """Free space: what nobody can use, and with a limit earlier results, those that are cheap to rebuild first.

    What the workspace shows is never removed. Without a limit no earlier result is lost.
    """
    from rvbuild.cli.commands import store as caching

    return caching.gc(max_size, older_than, dry_run, grace)


@cache.command()
def verify() -> int:
    """Check every content by its digest; exit status 1 if something is damaged or gone."""
    from rvbuild.cli.commands import store as caching

    return caching.verify()


@cache.command()
@click.argument("words", nargs=-1, metavar="[URL]")
@click.option("--all", "everything", is_flag=True, help="Also send earlier results.")
def push(words: tuple[str, ...], everything: bool) -> int:
    """Send what the workspace shows to a store elsewhere: a directory, or an address such as s3://bucket/path.

    Without URL, the environment variable RVBUILD_REMOTE says where.
    """
    from rvbuild.cli.commands import push as sharing

    return sharing.push(words, everything)


@cache.command()
@click.argument("words", nargs=-1, metavar="[URL] [PROJECT.toml]…")
@click.option("--all", "everything", is_flag=True, help="Download all results, whether or not they are needed now.")
def pull(words: tuple[str, ...], everything: bool) -> int:
    """Fetch from a store elsewhere what the projects need now, so that the next build restores it.

    Without URL, the environment variable RVBUILD_REMOTE says from where.
    """
    from rvbuild.cli.commands import push as sharing

    return sharing.pull(words, everything)


@cache.command()
def adopt() -> int:
    """Take a cache that was made elsewhere, or by an earlier rvbuild, with all results in its store.

    Only for a cache that you made yourself, or whose maker you trust: nobody checks what its results were made from.
    """
    from rvbuild.cli.commands import store as caching

    return caching.adopt()
