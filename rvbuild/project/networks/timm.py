"""timm's networks: a table of what timm has, so that a project is checked without importing it.

`docs/make_timm.py` writes the table. A network is named `timm/NAME`, or `timm/NAME.WEIGHTS` with certain pretrained
weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rvbuild.errors import nearest
from rvbuild.project.networks import TIMM

_TABLE = Path(__file__).with_suffix(".tsv")


@dataclass(frozen=True)
class Network:
    """A network of timm.

    Attributes
    ----------
    name : str
        In timm.
    parameters : int
        Number of parameters, with the head of its default weights.
    strides : tuple of int
        Of its feature maps, in pixels; empty if it has none and cannot be an encoder.
    weights : mapping
        Pretrained weights with their licences; the first are the default.
    """

    name: str
    parameters: int
    strides: tuple[int, ...]
    weights: Mapping[str, str]


@functools.cache
def networks() -> Mapping[str, Network]:
    """Return timm's networks by name, without the prefix."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()[2:]
    return {network.name: network for network in map(_read, lines)}


def find(name: str) -> Network:
    """Return a network by its full name, `timm/NAME` or `timm/NAME.WEIGHTS`; `problem` tells whether there is one."""
    return networks()[name.removeprefix(TIMM).partition(".")[0]]


def problem(name: str, *, encoder: bool) -> str | None:
    """Return why a name is not one of a network of timm that can be used, or None.

    Parameters
    ----------
    name
        Begins with `timm/`.
    encoder
        Whether it is to be an encoder, or else a classifier.

    Examples
    --------
    >>> problem("timm/resnet81", encoder=True)
    'timm has no network "resnet81"; did you mean "timm/resnet18"?'
    """
    short, _, weights = name.removeprefix(TIMM).partition(".")
    network = networks().get(short)
    if network is None:
        usable = [TIMM + other.name for other in networks().values() if other.strides or not encoder]
        hint = nearest(TIMM + short, usable) or "; `rvbuild models` lists them"
        return f'timm has no network "{short}"{hint}'
    if encoder and not network.strides:
        return f'timm\'s "{short}" cannot be an encoder: it gives no feature maps'
    if "." in name and weights not in network.weights:
        known = ", ".join(network.weights) or "none"
        return f'timm\'s "{short}" has no weights "{weights}"{nearest(weights, network.weights) or f"; it has {known}"}'
    return None


def with_weights(name: str) -> str:
    """Return a name with that of the weights: those that it names, or else the default; unchanged if it has none.

    >>> with_weights("timm/resnet18")
    'timm/resnet18.a1_in1k'
    """
    weights = find(name).weights
    return name if "." in name or not weights else f"{name}.{next(iter(weights))}"


def licence(name: str) -> str:
    """Return the licence of the pretrained weights of a full name."""
    tag = with_weights(name).partition(".")[2]
    return find(name).weights.get(tag, "unknown")


def _read(line: str) -> Network:
    name, parameters, strides, weights = line.split("\t")
    pairs = [] if weights == "-" else [entry.rsplit(":", 1) for entry in weights.split(" ")]
    return Network(
        name=name,
        parameters=int(parameters),
        strides=() if strides == "-" else tuple(int(stride) for stride in strides.split(",")),
        weights={tag: licence for tag, licence in pairs},
    )
