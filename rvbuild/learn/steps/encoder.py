"""The encoder of a network: the part that pretrained weights are of, and its layers from the image to the head."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rvbuild.learn.batchnorm import tracked_layers

_SEQUENCES = ("blocks", "layers", "layer", "stages", "features")
"""What networks call the parts that consist of layers one after the other."""


@dataclass(frozen=True)
class Encoder:
    """The encoder of a network.

    Attributes
    ----------
    modules
        Its parts, which hold no part of the head.
    own
        Parameters of modules that hold the head, too, such as the class token of a transformer.
    beside
        Encoders of other networks of an ensemble, whose layers are as far from the image.
    """

    modules: tuple[nn.Module, ...]
    own: tuple[nn.Parameter, ...] = ()
    beside: tuple[Encoder, ...] = ()

    def parameters(self) -> list[nn.Parameter]:
        """Return all its parameters, each once."""
        return [parameter for layer in self.layers() for parameter in layer]

    def batchnorms(self) -> list[_BatchNorm]:
        """Return its batch normalisations that keep running statistics."""
        own = [layer for module in self.modules for layer in tracked_layers(module)]
        return [*own, *(layer for other in self.beside for layer in other.batchnorms())]

    def layers(self) -> list[list[nn.Parameter]]:
        """Return its parameters by layer, from the image to the head, each once.

        A layer is a block of the network, such as a residual block, or a convolution outside of all blocks.
        Normalisations outside of blocks belong to the layer before them, and parameters such as position embeddings to
        the first layer.
        """
        layers: list[list[nn.Parameter]] = []
        first = list(self.own)
        for module in self.modules:
            _walk(module, layers, first)
        layers = [[*first, *layers[0]], *layers[1:]] if layers else [first]
        known: set[int] = set()
        unique = []
        for layer in layers:
            own = {id(parameter): parameter for parameter in layer if id(parameter) not in known}
            unique.append(list(own.values()))
            known.update(own)
        every = [[layer for layer in unique if layer], *(other.layers() for other in self.beside)]
        return [[*itertools.chain(*layers)] for layers in itertools.zip_longest(*every, fillvalue=[])]


def side_by_side(encoders: Sequence[Encoder]) -> Encoder:
    """Return the encoders of the networks of an ensemble as one, with the layers of each."""
    first, *others = encoders
    return Encoder(first.modules, first.own, (*first.beside, *others))


def of_module(module: nn.Module) -> Encoder:
    """Return a module of a network as its encoder."""
    parts = [child for child in module.children() if _has_weights(child)]
    while len(parts) == 1 and not list(module.parameters(recurse=False)) and list(parts[0].children()):
        module = parts[0]  # a wrapper around a network is no layer
        parts = [child for child in module.children() if _has_weights(child)]
    return Encoder(tuple(module.children()) or (module,), tuple(module.parameters(recurse=False)))


def all_but(model: nn.Module, heads: Sequence[nn.Module]) -> Encoder:
    """Return everything of a network but some layers, in the order of its parts."""
    own: list[nn.Parameter] = []
    modules = list(_outside(model, {id(layer) for head in heads for layer in head.modules()}, own))
    return Encoder(tuple(modules), tuple(own))


def _outside(module: nn.Module, heads: set[int], own: list[nn.Parameter]) -> Iterator[nn.Module]:
    own.extend(module.parameters(recurse=False))
    for child in module.children():
        if id(child) in heads:
            continue
        if any(id(part) in heads for part in child.modules()):
            yield from _outside(child, heads, own)
        else:
            yield child


def _walk(module: nn.Module, layers: list[list[nn.Parameter]], first: list[nn.Parameter]) -> None:
    """Add the layers of a module to `layers`, and parameters outside of layers to `first`."""
    parameters = list(module.parameters())
    if _is_sequence(module):
        first.extend(module.parameters(recurse=False))
        for child in module.children():
            _walk(child, layers, first)
    elif layers and not _has_weights(module):  # a normalisation
        layers[-1].extend(parameters)
    elif parameters:
        layers.append(parameters)


def _is_sequence(module: nn.Module) -> bool:
    """Tell whether a module consists of layers, rather than being one."""
    for name, child in module.named_children():
        if name in _SEQUENCES and any(any(True for _ in part.children()) for part in child.children()):
            return True
    # A convolution with its normalisation and activation is one layer.
    listed = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return listed and sum(map(_has_weights, module.children())) > 1


def _has_weights(module: nn.Module) -> bool:
    """Tell whether a module has more than the scales and offsets of normalisations."""
    return any(parameter.dim() > 1 for parameter in module.parameters())
