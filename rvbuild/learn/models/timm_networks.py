"""Networks of timm: created for any number of bands and any side, with pretrained weights of timm or of a file."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.models.bands import Bands, bands_in, taken
from rvbuild.learn.models.first_conv import first_conv
from rvbuild.learn.models.pretrained.hub import WEIGHTS, is_here, not_downloaded, require_reachable
from rvbuild.learn.models.pretrained.matching import match
from rvbuild.learn.models.pretrained.weights import State, load_state, read_weights
from rvbuild.project.networks import EXTRA, TIMM
from rvbuild.project.networks.timm import find, with_weights

_BANDS = 3

QUARTERS = 4

_MULTIPLES = (1, 14, 16, 32, 64)
"""Sides that are tried are multiples of these."""


def require(name: str) -> Any:
    """Return the package timm, or raise a ModelError with the way to install it."""
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"\"{name}\" needs the package timm; install it with: pip install '{EXTRA}'") from error
    if not timm.is_model(name.removeprefix(TIMM).partition(".")[0]):
        raise ModelError(f'timm {timm.__version__} has no network "{name.removeprefix(TIMM)}"; update the package timm')
    return timm


@functools.cache
def quarters(name: str) -> Sequence[int]:
    """Return the layers at each quarter of the depth of a network whose layers all have one stride; else none."""
    strides = find(name).strides
    if len(set(strides)) != 1:
        return ()
    with torch.device("meta"):
        layers = len(require(name).create_model(name.removeprefix(TIMM).partition(".")[0]).feature_info)
    return tuple(layers * part // QUARTERS - 1 for part in range(1, QUARTERS + 1)) if layers >= QUARTERS else ()


def figures(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each band that the weights of a network expect."""
    cfg = require(name).get_pretrained_cfg(with_weights(name).removeprefix(TIMM))
    return tuple(cfg.mean), tuple(cfg.std)


def require_weights(name: str, download: bool) -> None:
    """Raise a ModelError if the pretrained weights of a network are not here and cannot be downloaded.

    Parameters
    ----------
    name
        `timm/NAME` or `timm/NAME.WEIGHTS`.
    download
        Whether to download them; otherwise their server is only asked for them.
    """
    timm, full = require(name), with_weights(name)
    if download:
        _with_own_weights(timm, full, {})
        return
    cfg = timm.get_pretrained_cfg(full.removeprefix(TIMM))
    if cfg.hf_hub_id and is_here(cfg.hf_hub_id, WEIGHTS, "pytorch_model.bin"):
        return
    url = f"https://huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.url
    require_reachable(url, lambda error: _not_downloaded(full, error))


def make(
    name: str,
    chip_px: int | None,
    bands: int,
    options: Mapping[str, Any],
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> tuple[nn.Module, int | None]:
    """Make a network, and return the side that images must be resized to for it; None if they fit as they are.

    Parameters
    ----------
    name
        `timm/NAME` or `timm/NAME.WEIGHTS`.
    chip_px
        The side of images; None if it is unknown.
    bands
        Of the imagery.
    options
        Arguments of `timm.create_model`.
    pretrained, note
        As for `rvbuild.learn.models.build`.
    """
    timm = require(name)
    short = name.removeprefix(TIMM).partition(".")[0]
    sized, side = _fitted(short, tuple(options.items()), chip_px)
    options = {**options, **sized}
    model: nn.Module = timm.create_model(short, pretrained=False, in_chans=bands, **options)
    if pretrained is False:
        return model, side
    if pretrained is True:
        if not find(name).weights:
            note(f"{name} has no pretrained weights: it starts from random ones")
            return model, side
        state, of_weights = _with_own_weights(timm, with_weights(name), sized).state_dict(), _BANDS
    else:
        # The weights are those of the whole network: its features have other names.
        whole = timm.create_model(short, pretrained=False, in_chans=_BANDS, **sized)
        content = read_weights(pretrained)
        of_weights = bands_in(content, first_conv(whole)[1]) if isinstance(bands, Bands) else _BANDS
        if of_weights != _BANDS:
            whole = timm.create_model(short, pretrained=False, in_chans=of_weights, **sized)
        state = _from_file(whole, content, pretrained, note)
    kernels: frozenset[str] = frozenset()
    if isinstance(bands, Bands):
        with torch.device("meta"):
            other = timm.create_model(short, pretrained=False, in_chans=bands + 1, **options)
        shapes = {key: value.shape for key, value in other.state_dict().items()}
        kernels = frozenset(key for key, value in model.state_dict().items() if value.shape != shapes[key])
    _transfer(model, state, bands, of_weights, kernels, name, note)
    return model, side


@functools.cache
def _fitted(
    short: str, items: tuple[tuple[str, Any], ...], chip_px: int | None
) -> tuple[Mapping[str, int], int | None]:
    """Return the arguments that make a network for images of a side, and the side to resize them to, or None.

    Networks do not tell which sides they take. So shapes are computed on torch's meta device: of the side itself and
    the next larger multiples; then of networks that are made for these sides. Else images get the network's own side.
    """
    if chip_px is None:
        return {}, None
    timm, options = require(short), dict(items)
    try:
        with torch.device("meta"):
            plain = timm.create_model(short, **options).eval()
    except Exception:  # it cannot be created there: nothing is known of it
        return {}, None
    patch = min(plain.feature_info.reduction()) if options.get("features_only") else 1
    # Patches of 14 px silently leave out the rest of a side that is no multiple of 14.
    multiples = [px for px in _MULTIPLES if px % patch == 0] or _MULTIPLES
    sides = sorted({px * -(-chip_px // px) for px in multiples})
    for side in sides:
        if _takes(plain, side):
            return {}, None if side == chip_px else side
    for side in sides:
        try:
            with torch.device("meta"):
                sized = timm.create_model(short, **options, img_size=side).eval()
        except Exception:
            continue
        if _takes(sized, side):
            return {"img_size": side}, side
    return {}, timm.get_pretrained_cfg(short).input_size[-1]


def _takes(network: nn.Module, side: int) -> bool:
    """Tell whether a network on the meta device takes images of a side."""
    try:
        with torch.no_grad():
            network(torch.empty(1, _BANDS, side, side, device="meta"))
    except Exception:  # each network refuses sides in its own way
        return False
    return True


def _with_own_weights(timm: Any, name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return a whole network with pretrained weights of timm, downloaded once."""
    full = name.removeprefix(TIMM)
    try:
        model: nn.Module = timm.create_model(full, pretrained=True, in_chans=_BANDS, **options)
    except Exception as error:  # the libraries of the hub have errors of many kinds
        raise _not_downloaded(name, error) from error
    return model


def _not_downloaded(name: str, error: Exception) -> ModelError:
    """Return the error that says what to do without the weights of a network."""
    return not_downloaded(name, name, WEIGHTS, error)


def _from_file(whole: nn.Module, state: State, path: Path, note: Callable[[str], None]) -> State:
    """Return the tensors of a file under the names that they have in a whole network."""
    # timm renames the tensors of other sources, and resizes position embeddings.
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            converted = convert(dict(state), whole)
            state = {key: value for key, value in converted.items() if isinstance(value, torch.Tensor)}
        except Exception:  # made for known files only
            pass
    return match(whole.state_dict(), state, path, note)


def _transfer(
    model: nn.Module,
    state: State,
    bands: int,
    of_weights: int,
    kernels: Container[str],
    name: str,
    note: Callable[[str], None],
) -> None:
    """Load the tensors of a whole network into one for other bands, or into its features, in place.

    Parameters
    ----------
    model, state
        The network, and the tensors.
    bands, of_weights
        Of the network, and of the tensors.
    kernels
        The names of tensors that have a part for each band, whether or not shapes differ.
    name, note
        What `note` is told is about this network.
    """
    own = model.state_dict()
    known = {_plain(key): value for key, value in state.items()}
    loaded: State = {}
    for key, value in own.items():
        found = known.get(_plain(key.removeprefix("model.")))
        if found is None or _plain(key) in loaded:
            continue
        if found.shape == value.shape and key not in kernels:
            loaded[key] = found
        elif (widened := _other_bands(found, value, bands, of_weights)) is not None:
            loaded[key] = widened
    load_state(model, loaded, strict=False)
    new = [key for key in own if key not in loaded and not key.endswith("num_batches_tracked")]
    if new:
        shown = ", ".join(new[:3]) + (", …" if len(new) > 3 else "")
        note(f"{name}: {len(new)} of {len(own)} tensors start from random weights: {shown}")


def _plain(name: str) -> str:
    """Return a name of a tensor without the difference between a network and its features: `stages.0`, `stages_0`."""
    return name.replace(".", "_")


def _other_bands(old: torch.Tensor, new: torch.Tensor, bands: int, of_weights: int) -> torch.Tensor | None:
    """Return a kernel for other bands: those that there are, and random ones of further bands.

    A kernel of blocks of pixels has the bands of each pixel side by side. None if it is not a kernel of that kind.
    """
    if old.dim() != 4 or old.shape[0] != new.shape[0] or old.shape[2:] != new.shape[2:]:
        return None
    pixels = old.shape[1] // of_weights
    if old.shape[1] != pixels * of_weights or new.shape[1] != pixels * bands:
        return None
    kept = taken(bands, of_weights)
    further = [place for place in range(bands) if place not in kept]
    kernel = new.clone().reshape(new.shape[0], pixels, bands, *new.shape[2:])
    if further:
        # As in a convolution of the further bands alone: the scale of random weights depends on their number.
        kernel[:, :, further] *= (bands / len(further)) ** 0.5
    kernels = old.reshape(old.shape[0], pixels, of_weights, *old.shape[2:])
    kernel[:, :, [*kept]] = kernels[:, :, [*kept.values()]]
    return kernel.reshape(new.shape)
