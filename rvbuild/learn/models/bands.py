"""Which band of pretrained weights each band of the imagery is, where a project names its bands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from rvbuild.errors import DataError, ModelError, nearest
from rvbuild.project.networks import olmoearth
from rvbuild.project.networks.bands import RGB
from rvbuild.settings.train import Arguments

ARGUMENTS = ("bands", "weights_bands")
"""What `train.bands` and `train.weights_bands` are called among the arguments of a model."""

_USUAL = 3

METADATA = "bands"
"""The entry of the metadata of a safetensors file with the names of its bands, as a JSON list."""

_HEADER_BYTES = 100_000_000
"""The header of a safetensors file is no longer, by its format."""


class Bands(int):
    """A number of bands whose names are known.

    Attributes
    ----------
    names : mapping
        Name → position in the imagery.
    of_weights : tuple of str
        The names of the bands of the pretrained weights, in their order.
    """

    names: Mapping[str, int]
    of_weights: tuple[str, ...]

    @classmethod
    def named(cls, count: int, names: Mapping[str, int], of_weights: Sequence[str]) -> Bands:
        """Return a number of bands with their names."""
        bands = cls(count)
        bands.names, bands.of_weights = dict(names), tuple(of_weights)
        return bands

    def taken(self) -> dict[int, int]:
        """Return the position in the imagery → that in the weights, of the bands that both have."""
        return {place: self.of_weights.index(name) for name, place in self.names.items() if name in self.of_weights}


def with_names(bands: int, args: Arguments, pretrained: bool | Path) -> int:
    """Return a number of bands, with their names if the arguments of a model give them.

    Parameters
    ----------
    bands
        Of the imagery.
    args
        Of the model: `bands`, the position of each by name, and `weights_bands`, the names of those of the weights.
    pretrained
        As for `rvbuild.learn.models.build`.

    Raises
    ------
    ModelError
        A name is not one of the bands of the weights, or a position is not one of the imagery.
    """
    names: Any = args.get("bands")
    by_name = str(args.get("encoder", "")).startswith(olmoearth.PREFIX)
    if not names or (pretrained is False and not by_name):
        return bands
    for name, place in names.items():
        if place >= bands:
            raise ModelError(
                f"train.bands: {name} = {place}, but the imagery has {bands} bands: expected 0 to {bands - 1}"
            )
    given: Any = olmoearth.BANDS if by_name else args.get("weights_bands")
    known = given or (_in_metadata(pretrained) if isinstance(pretrained, Path) else None) or RGB
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; expected {', '.join(known)}"
            raise ModelError(f'train.bands: the weights have no band "{name}"{hint}')
    return Bands.named(bands, names, known)


def least_bands(args: Arguments) -> int:
    """Return how many bands images have at least, of which nothing else is known: three, or as many as are named."""
    names: Any = args.get("bands") or {}
    return max([_USUAL, *(int(place) + 1 for place in names.values())])


def taken(bands: int, of_weights: int) -> dict[int, int]:
    """Return which bands of the imagery get the kernel of which band of the weights, by position.

    Those that have the same name; the first ones if there are no names.

    Parameters
    ----------
    bands
        Of the imagery.
    of_weights
        How many bands the first convolution of the weights has.

    Raises
    ------
    ModelError
        The names of the bands of the weights are of another number.
    """
    if not isinstance(bands, Bands):
        return {number: number for number in range(min(bands, of_weights))}
    if len(bands.of_weights) != of_weights:
        raise ModelError(
            f"train.bands: the weights have {of_weights} bands, and the names of {len(bands.of_weights)} are known "
            f"({', '.join(bands.of_weights)}); name all of them, in their order, in train.weights_bands"
        )
    return bands.taken()


def bands_in(state: Mapping[str, Any], conv: nn.Conv2d) -> int:
    """Return how many bands the kernel in a file has that belongs to a first convolution; its own without one."""
    for value in state.values():
        if value.dim() == 4:
            like = (value.shape[0], *value.shape[2:]) == (conv.weight.shape[0], *conv.weight.shape[2:])
            return int(value.shape[1]) if like else conv.in_channels
    return conv.in_channels


def _in_metadata(path: Path) -> list[str] | None:
    """Return the names of bands that a safetensors file states."""
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with path.open("rb") as file:  # a file in a wheel, too
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _HEADER_BYTES)))
        names = json.loads(header.get("__metadata__", {}).get(METADATA, "null"))
    except (OSError, ValueError, AttributeError, TypeError, DataError):
        return None  # whoever reads its tensors says what is wrong
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
