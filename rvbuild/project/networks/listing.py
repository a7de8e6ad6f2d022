"""What `model` and `encoder` of `[train]` can name, as `rvbuild models` lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rvbuild.project.networks import TIMM, caches, olmoearth, timm, torchvision
from rvbuild.project.networks.bands import RGB
from rvbuild.project.networks.encoders import OF_TORCHVISION
from rvbuild.project.networks.models import DECODERS, MODELS, SCRATCH_MODELS

OF_TORCHVISION_TERMS = "torchvision's terms"

_BYTES = 4
"""Of a parameter in a file."""


@dataclass(frozen=True)
class Weights:
    """Pretrained weights.

    Attributes
    ----------
    name : str
        What names them behind the name of the network, or the file.
    licence : str
        Of the weights.
    size : int
        Of the file, in bytes; estimated from the number of parameters if `exact` is false.
    exact : bool
        Whether the size is that of a file.
    here : str, optional
        The path of the file, if it is on this machine.
    """

    name: str
    licence: str
    size: int
    exact: bool
    here: str | None


@dataclass(frozen=True)
class Named:
    """A name of a network.

    Attributes
    ----------
    name : str
        As project files write it.
    uses : tuple of str
        The tasks that it is a model of, with ` + encoder` where it needs one, and `encoder`.
    parameters : int, optional
        Number of parameters, where a table has it.
    bands : tuple of str
        The bands of its pretrained weights, in their order; empty if it has none. Networks take any number of bands.
    weights : tuple of Weights
        The default first; empty if it has none.
    """

    name: str
    uses: tuple[str, ...]
    parameters: int | None = None
    bands: tuple[str, ...] = ()
    weights: tuple[Weights, ...] = ()


def listed(pattern: str = "") -> list[Named]:
    """Return the names that match a pattern: a part of the name, or a pattern of the shell such as `timm/res*`.

    >>> [named.name for named in listed("deeplabv3plus")]
    ['deeplabv3plus']
    """
    text = pattern.lower()
    glob = any(mark in text for mark in "*?[")

    def matches(name: str) -> bool:
        return fnmatchcase(name, text) if glob else text in name

    return [*_of_tasks(matches), *_encoders(matches)]


def _of_tasks(matches: Callable[[str], bool]) -> Iterator[Named]:
    uses: dict[str, list[str]] = {}
    for task, names in MODELS.items():
        for name in names:
            uses.setdefault(name, []).append(task)
    for task, names in DECODERS.items():
        for name in names:
            uses.setdefault(name, []).append(f"{task} + encoder")
    with_encoder = {name for names in DECODERS.values() for name in names}
    for name, of_name in uses.items():
        if matches(name):
            scratch = name in SCRATCH_MODELS or name in with_encoder
            yield Named(name, tuple(of_name)) if scratch else _of_torchvision(name, tuple(of_name))


def _encoders(matches: Callable[[str], bool]) -> Iterator[Named]:
    for name in filter(matches, OF_TORCHVISION):
        yield _of_torchvision(name, ("encoder",))
    for name, parameters in olmoearth.PARAMETERS.items():
        if matches(name):
            here = caches.hub_file(olmoearth.hub_id(name), (olmoearth.WEIGHTS,))
            weights = _weights(olmoearth.WEIGHTS, olmoearth.LICENCE, parameters * _BYTES, False, here)
            yield Named(name, ("encoder",), parameters, olmoearth.BANDS, (weights,))
    for network in timm.networks().values():
        if matches(name := TIMM + network.name):
            roles = ("chip_classification", "encoder") if network.strides else ("chip_classification",)
            weights_of = tuple(
                _weights(tag, licence, network.parameters * _BYTES, False, caches.hub_file(f"{name}.{tag}"))
                for tag, licence in network.weights.items()
            )
            yield Named(name, roles, network.parameters, RGB if weights_of else (), weights_of)


def _of_torchvision(name: str, uses: tuple[str, ...]) -> Named:
    entry = torchvision.weights().get(name)
    if entry is None:
        return Named(name, uses)
    weights = _weights(entry.file, OF_TORCHVISION_TERMS, entry.size, True, caches.torch_file(entry.file))
    return Named(name, uses, entry.parameters, RGB, (weights,))


def _weights(name: str, licence: str, size: int, exact: bool, here: Path | None) -> Weights:
    if here is None:
        return Weights(name, licence, size, exact, None)
    return Weights(name, licence, here.stat().st_size, True, str(here))
