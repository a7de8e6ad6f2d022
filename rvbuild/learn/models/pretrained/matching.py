"""Weights of files under the names of a network: by name, or in order where a file names them differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from rvbuild.errors import ModelError
from rvbuild.learn.models.pretrained.weights import PRETRAINED, State

_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.", "network.", "features.", "body.")
"""What files put before the names of a network."""

LEAST_SHARE = 0.9
"""Of the values of a network without its head, a file must hold as many."""

_COUNTER = "num_batches_tracked"
_SHOWN = 3


def match(own: Mapping[str, torch.Tensor], state: State, path: Path, note: Callable[[str], None]) -> State:
    """Return the tensors of a file that fit a network, under its names.

    Parameters
    ----------
    own
        The tensors of the network.
    state
        Those of the file.
    path
        Of the file, for messages.
    note
        Is told how many tensors are taken, and how.

    Raises
    ------
    ModelError
        The file lacks more than a tenth of the network.
    """
    taken, how = _by_name(own, state), "by name"
    if _share(own, taken) < LEAST_SHARE:
        in_order = _in_order(own, state)
        if _share(own, in_order) > _share(own, taken):
            taken, how = in_order, "in their order, by shape"
    count = sum(not name.endswith(_COUNTER) for name in own)
    used = sum(not name.endswith(_COUNTER) for name in taken)
    if _share(own, taken) < LEAST_SHARE:
        raise ModelError(
            f"{PRETRAINED}: {path} does not hold the weights of this network: {used} of {count} tensors fit. "
            f"The network has {_some(own)}; the file has {_some(state)}"
        )
    lacking = [name for name in own if name not in taken and not name.endswith(_COUNTER)]
    text = f"{path.name}: {used} of {count} tensors are taken {how}"
    note(f"{text}; not in the file: {_names(lacking)}" if lacking else text)
    return taken


def _by_name(own: Mapping[str, torch.Tensor], state: State) -> State:
    """Return the tensors of equal name and shape, with the prefix left out that finds most."""
    best: State = {}
    for prefix in ("", *_PREFIXES, "encoder.model.", "encoder.model.net."):
        named = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        taken = {name: value for name, value in named.items() if name in own and _fits(own[name], value)}
        if len(taken) > len(best):
            best = taken
    return best


def _in_order(own: Mapping[str, torch.Tensor], state: State) -> State:
    """Return the tensors in the order of the file, as long as shapes agree."""
    names = [name for name in own if not name.endswith(_COUNTER)]
    # Counters of batches are whole numbers without axes, whatever a file calls them.
    values = [value for value in state.values() if value.dim() or value.is_floating_point()]
    taken: State = {}
    for name, value in zip(names, values, strict=False):
        if not _fits(own[name], value):
            break
        taken[name] = value
    return taken


def _fits(own: torch.Tensor, value: torch.Tensor) -> bool:
    return own.shape == value.shape


def _share(own: Mapping[str, torch.Tensor], taken: State) -> float:
    """Return the share of the values of a network that are taken; its last layer does not count, if it is not taken."""
    counted = [name for name in own if not name.endswith(_COUNTER)]
    last = counted[-1].rpartition(".")[0] if counted else ""
    head = {name for name in counted if name.rpartition(".")[0] == last and name not in taken}
    total = sum(own[name].numel() for name in counted if name not in head)
    return sum(own[name].numel() for name in taken if not name.endswith(_COUNTER)) / max(total, 1)


def _some(state: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(state.items())[:_SHOWN]) + ", …"


def _names(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
