"""torchvision's classification networks, from AlexNet to Swin and MaxViT, for any number of bands and classes.

`model_args`: `vit_*` and `maxvit_t` take `image_size`, the side of the chips that they are made for (224), a multiple
of the patch size, or of 32. Auxiliary outputs are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from rvbuild.errors import ModelError
from rvbuild.learn.models.arguments import check_names, whole_number
from rvbuild.learn.models.bands import bands_in
from rvbuild.learn.models.first_conv import adapt_bands, first_conv
from rvbuild.learn.models.pretrained.matching import match
from rvbuild.learn.models.pretrained.weights import State, fetch, load_local, load_state, read_weights
from rvbuild.learn.steps.encoder import Encoder, all_but
from rvbuild.project.tasks.classification import TORCHVISION
from rvbuild.settings.train import Arguments

NAMES = TORCHVISION

_IMAGE_SIZE = 224
"""Image size of transformers with a fixed size, also of their pretrained weights."""

_SECOND_WEIGHTS = frozenset(
    ["efficientnet_b1", "mobilenet_v2", "mobilenet_v3_large", "resnet50", "resnet101", "resnet152"]
    + ["resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"]
    + [name for name in NAMES if name.startswith("regnet_")]
)
"""The networks of which torchvision has a second, better version of weights. A list, and not torchvision's newest, so
that a new torchvision gives the same start."""

_OTHER_WEIGHTS = {"regnet_y_128gf": "IMAGENET1K_SWAG_LINEAR_V1", "vit_h_14": "IMAGENET1K_SWAG_LINEAR_V1"}

_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..+)")
"""How weights of 2017 name the layers of DenseNets: `norm.1` is now `norm1`."""


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> nn.Module:
    """Make one of torchvision's networks; see `rvbuild.learn.models.build`.

    A weights file may hold the network for another number of classes: its last layer is then left out.
    """
    model, size_px = _make(name, outputs, args)
    if pretrained is False:
        adapt_bands(model, bands, trained=False)
        return model
    if isinstance(pretrained, Path):
        state, path, tell = read_weights(pretrained), pretrained, note
    else:
        url = weights_url(name)
        # torchvision's files have its own thousand classes: no need to say so at every training.
        state, path, tell = fetch(url, note), Path(url), lambda _: None
    state = _current_names(state)
    if name.startswith("vit_"):
        patch_px = first_conv(model)[1].kernel_size[0]
        state = _resized(state, size_px, patch_px, path)
    kernel = state.get(first_conv(model)[0] + ".weight")
    if kernel is not None and kernel.dim() == 4:
        # A file for three bands is loaded unchanged; then the first convolution is adapted if needed.
        adapt_bands(model, kernel.shape[1], trained=False)
    load_local(model, state, path, tell, heads=(last_layer(model),))
    adapt_bands(model, bands, trained=True)
    return model


def bare(
    name: str,
    pretrained: bool | Path = False,
    note: Callable[[str], None] = lambda _: None,
    any_bands: bool = False,
) -> nn.Module:
    """Return a network of torchvision for three bands, whose head is not to be used.

    A weights file may name its tensors differently, as long as it has them in the network's order. With `any_bands` the
    network is for as many bands as the file.
    """
    net, _ = _make(name, 1, {})
    if pretrained is False:
        return net
    if isinstance(pretrained, Path):
        state = _current_names(read_weights(pretrained))
        if any_bands:
            adapt_bands(net, bands_in(state, first_conv(net)[1]), trained=False)
        head = last_layer(net)
        body = {key: value for key, value in net.state_dict().items() if not key.startswith(f"{head}.")}
        load_state(net, match(body, state, pretrained, note), strict=False)
    else:
        url = weights_url(name)
        state = _current_names(fetch(url, note))
        load_local(net, state, Path(url), lambda _: None, heads=(last_layer(net),))
    return net


def last_layer(model: nn.Module) -> str:
    """Return the dotted name of the output layer: the last linear or convolutional one."""
    names: list[str] = [n for n, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return names[-1]


def weights(name: str) -> Any:
    """Return torchvision's weights entry of a network."""
    version = _OTHER_WEIGHTS.get(name, "IMAGENET1K_V2" if name in _SECOND_WEIGHTS else "IMAGENET1K_V1")
    return models.get_model_weights(name)[version]


def weights_url(name: str) -> str:
    """Return where torchvision's weights of a network are."""
    return str(weights(name).url)


def _make(name: str, outputs: int, args: Arguments) -> tuple[nn.Module, int]:
    """Return a network with random weights, and its chip size if that is fixed."""
    fixed = name.startswith(("vit_", "maxvit_"))
    check_names(name, args, ("image_size",) if fixed else ())
    options: dict[str, Any] = {"weights": None, "num_classes": outputs}
    size_px = whole_number(name, args, "image_size", _IMAGE_SIZE, 1, 1 << 14)
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        _require_multiple(name, size_px, int(name.rsplit("_", 1)[1]))
        options["image_size"] = size_px
    elif name == "maxvit_t":
        _require_multiple(name, size_px, 32)
        return _maxvit(size_px, outputs), size_px
    model: nn.Module = models.get_model(name, **options)
    return model, size_px


def _maxvit(size_px: int, outputs: int) -> nn.Module:
    """Return torchvision's `maxvit_t` for any image size.

    There, windows are always 7 pixels of the features: a 32nd of 224, which is the paper's rule.
    """
    model: nn.Module = models.MaxVit(
        input_size=(size_px, size_px),
        stem_channels=64,
        partition_size=size_px // 32,
        block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2],
        head_dim=32,
        stochastic_depth_prob=0.2,
        num_classes=outputs,
    )
    return model


def _require_multiple(name: str, size_px: int, step: int) -> None:
    if size_px % step:
        raise ModelError(
            f'train.model_args.image_size: "{name}" needs a multiple of {step}, found {size_px}; '
            "chip.size_px must have the same value"
        )


def _current_names(state: State) -> State:
    return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}


def _resized(state: State, size_px: int, patch_px: int, path: Path) -> State:
    """Return the weights of a vision transformer for another image size: its position embeddings interpolated."""
    if "encoder.pos_embedding" not in state:
        return state
    try:
        return dict(interpolate_embeddings(size_px, patch_px, state))
    except ValueError as error:
        raise ModelError(f"train.pretrained: {path}: its position embeddings cannot be resized: {error}") from error


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: all but the last layer."""
    return all_but(model, [model.get_submodule(last_layer(model))])
