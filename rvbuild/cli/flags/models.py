"""The flags of the commands about models and bundles that build nothing."""

from __future__ import annotations

import click

from rvbuild.cli.flags.options import as_json


@click.command()
@click.argument("pattern", required=False, default="")
@as_json
def models(pattern: str, as_json: bool) -> int:
    """List the models and encoders that a project can name; PATTERN is a part of the name, or like timm/res*."""
    from rvbuild.cli.commands import models as models_command

    return models_command.models(pattern, as_json)


@click.command()
@click.argument("bundle", metavar="BUNDLE.zip")
def sign(bundle: str) -> int:
    """Sign a bundle with the secret in RVBUILD_BUNDLE_KEY, in a file BUNDLE.zip.sig beside it.

    Where that variable is set, `rvbuild predict BUNDLE.zip` refuses bundles that are not signed with it.
    """
    from rvbuild.cli.commands import bundle as bundle_command

    return bundle_command.sign(bundle)


COMMANDS = (
    models,
    sign,
)
