"""A compact U-Net (Ronneberger et al., 2015) that trains from scratch in minutes, with batch normalisation.

`model_args`: `width` (channels of the first level, doubled at each further one), `depth` (levels of resolution; the
last works at 1 / 2^(depth - 1) of the image) and `upsample` (`"bilinear"` or `"transposed"`). Width 16 and depth 4 make
0.5 million parameters. Any image size works: odd levels are pooled as if padded, and cropped again on the way up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.models.arguments import check_names, whole_number
from rvbuild.learn.models.pretrained.weights import load_local, read_weights
from rvbuild.learn.steps.encoder import Encoder, of_module
from rvbuild.settings.train import Arguments

NAMES = ("unet",)

_UPSAMPLE = ("bilinear", "transposed")


class UNet(nn.Module):
    """Maps `(N, bands, H, W)` to `(N, outputs, H, W)` logits, for any H and W of at least 1."""

    def __init__(self, bands: int, outputs: int, width: int = 16, depth: int = 4, upsample: str = "bilinear") -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(
            _double(before, after) for before, after in zip([bands, *widths[:-1]], widths, strict=True)
        )
        self.raise_ = nn.ModuleList(_Raise(2 * after, after, upsample) for after in reversed(widths[:-1]))
        self.up = nn.ModuleList(_double(2 * after, after) for after in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`."""
        skips: list[torch.Tensor] = []
        x = images
        for level, block in enumerate(self.down):
            if level:
                # ceil_mode pools an odd last row or column separately, with the same result as padding.
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            x = block(x)
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.raise_, self.up, strict=True):
            skip = skips.pop()
            x = grow(x)[..., : skip.shape[-2], : skip.shape[-1]]
            x = block(torch.cat([skip, x], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


class _Raise(nn.Module):
    """Doubles height and width, and maps `before` to `after` channels."""

    def __init__(self, before: int, after: int, upsample: str) -> None:
        super().__init__()
        transposed = upsample == "transposed"
        self.conv = nn.ConvTranspose2d(before, after, 2, stride=2) if transposed else nn.Conv2d(before, after, 1)
        self.transposed = transposed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x if self.transposed else functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def build(
    name: str,
    *,
    bands: int,
    outputs: int,
    args: Arguments,
    pretrained: bool | Path,
    note: Callable[[str], None],
) -> nn.Module:
    """Make a U-Net; see `rvbuild.learn.models.build`."""
    check_names(name, args, ("width", "depth", "upsample"))
    upsample = args.get("upsample", "bilinear")
    if not isinstance(upsample, str) or upsample not in _UPSAMPLE:
        raise ModelError(f"train.model_args.upsample: expected one of {', '.join(_UPSAMPLE)}, found {upsample!r}")
    model = UNet(
        bands,
        outputs,
        width=whole_number(name, args, "width", 16, 1, 1024),
        depth=whole_number(name, args, "depth", 4, 1, 8),
        upsample=upsample,
    )
    if pretrained is True:
        note("unet has no pretrained weights: it starts from random ones")
    elif pretrained:
        load_local(model, read_weights(pretrained), pretrained, note, heads=("head",))
    return model


def encoder(model: nn.Module) -> Encoder:
    """Return the encoder: the way down."""
    return of_module(model.get_submodule("down"))
