"""A compact convolutional network that classifies chips, for training from scratch in seconds to minutes.

`model_args`: `width` (channels of the first level, doubled at each further one) and `depth` (levels of resolution, each
with two convolutions; the last works at 1 / 2^(depth - 1) of the chip). The last level is averaged over the chip. Width
16 and depth 4 make 0.3 million parameters. Any chip size works.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from rvbuild.learn.models.arguments import check_names, whole_number
from rvbuild.learn.models.pretrained.weights import load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, all_but
from rvbuild.settings.train import Arguments

NAMES = ("cnn",)


class CNN(nn.Module):
    """Maps `(N, bands, H, W)` to `(N, outputs)` logits, for any H and W of at least 1."""

    def __init__(self, bands: int, outputs: int, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = bands
        for level in range(depth):
            after = width * 2**level
            if level:
                # ceil_mode pools an odd last row or column on its own, so that small chips work too.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for channels in (before, after):
                layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
            before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        logits: torch.Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> nn.Module:
    """Make the network; see `rvbuild.learn.models.build`."""
    check_names(name, args, ("width", "depth"))
    model = CNN(
        bands,
        outputs,
        width=whole_number(name, args, "width", 16, 1, 1024),
        depth=whole_number(name, args, "depth", 4, 1, 8),
    )
    if pretrained is True:
        note("cnn has no pretrained weights: it starts from random ones")
    elif pretrained:
        load_local(model, read_weights(pretrained), pretrained, note, heads=("head",))
    return model


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: all but the last layer."""
    return all_but(model, [model.get_submodule("head")])
