"""What `model` and `encoder` of `[train]` can name, as `rvbuild models` lists it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rvbuild.project.networks import TIMM, olmoearth, timm
from rvbuild.project.networks.encoders import OF_TORCHVISION
from rvbuild.project.networks.models import DECODERS, MODELS, SCRATCH_MODELS


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
    weights : dict, optional
        Pretrained weights with their licences, the default first; None where the package has one set of its own.
    """

    name: str
    uses: tuple[str, ...]
    parameters: int | None = None
    weights: dict[str, str] | None = None


def listed(pattern: str = "") -> list[Named]:
    """Return the names that match a pattern: a part of the name, or a pattern of the shell such as `timm/res*`.

    >>> [named.name for named in listed("deeplabv3plus")]
    ['deeplabv3plus']
    """
    text = pattern.lower()
    glob = any(mark in text for mark in "*?[")
    return [named for named in _all() if (fnmatchcase(named.name, text) if glob else text in named.name)]


def _all() -> Iterator[Named]:
    uses: dict[str, list[str]] = {}
    for task, names in MODELS.items():
        for name in names:
            uses.setdefault(name, []).append(task)
    for task, names in DECODERS.items():
        for name in names:
            uses.setdefault(name, []).append(f"{task} + encoder")
    with_encoder = {name for names in DECODERS.values() for name in names}
    for name, of_name in uses.items():
        scratch = name in SCRATCH_MODELS or name in with_encoder
        yield Named(name, tuple(of_name), weights={} if scratch else None)
    for name in OF_TORCHVISION:
        yield Named(name, ("encoder",))
    for name, parameters in olmoearth.PARAMETERS.items():
        yield Named(name, ("encoder",), parameters, {"weights.pth": olmoearth.LICENCE})
    for network in timm.networks().values():
        roles = ("chip_classification", "encoder") if network.strides else ("chip_classification",)
        yield Named(TIMM + network.name, roles, network.parameters, dict(network.weights))
