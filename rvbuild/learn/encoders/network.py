"""What gives an encoder its maps: a network with weights, at several strides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch

MAX_STRIDE_PX = 16
"""Maps of larger strides do not count."""

PROBE_PX = 64
"""The side of the image that shows which maps a network gives."""


class Network(Protocol):
    """A frozen network whose maps are features."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of its three bands, as its weights expect them; in (0, 1)."""

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviations of the bands."""

    @property
    def channels(self) -> Mapping[int, int]:
        """Stride in pixels → number of maps that count, by stride."""

    def maps(self, values: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each stride of `channels` and its maps (N, H / stride, W / stride) of an image (1, 3, H, W)."""
