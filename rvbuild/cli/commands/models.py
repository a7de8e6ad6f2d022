"""The command `models`: what `model` and `encoder` of `[train]` can name."""

from __future__ import annotations

from dataclasses import asdict

from rvbuild.cli.report import print_json
from rvbuild.cli.terminal import echo
from rvbuild.errors import UsageError, counted
from rvbuild.project.networks import EXTRA, TIMM
from rvbuild.project.networks.listing import Named, listed


def models(pattern: str, as_json: bool) -> int:
    """Print the names that match a pattern, with parameters and the licences of pretrained weights."""
    names = listed(pattern)
    if as_json:
        print_json({"models": [asdict(named) for named in names]}, indent=2)
        return 0
    if not names:
        raise UsageError(
            f"models {pattern}: no name matches; expected a part of a name, or a pattern such as timm/res*"
        )
    shown = names if pattern else [named for named in names if not named.name.startswith(TIMM)]
    width = max(len(named.name) for named in shown)
    for named in shown:
        echo(f"{named.name:{width}}  {_size(named)}  {', '.join(named.uses)}{_weights(named)}")
    if len(shown) < len(names):
        hidden = counted(len(names) - len(shown), "network")
        echo(f"and {hidden} of timm ({EXTRA}): `rvbuild models timm/` lists all, `rvbuild models convnext` some")
    return 0


def _size(named: Named) -> str:
    return f"{named.parameters / 1e6:7.1f} M" if named.parameters is not None else " " * 9


def _weights(named: Named) -> str:
    if named.weights is None:
        return "; weights of torchvision"
    if not named.weights:
        return "; no weights of its own"
    return "; " + ", ".join(f"{tag} ({licence})" for tag, licence in named.weights.items())
