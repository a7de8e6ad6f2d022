"""Encoders with weights: frozen networks of torchvision or timm.

The last result at each stride up to 16 px counts, pooled or interpolated to cells, beside the mean and the contrast of
each band in a cell. Of more than `MOST_CHANNELS` at one stride, fixed random sums are taken: the closed-form model
grows with the square of the number of features, and overfits with too many.

A network sees three bands: those that `bands` names, or else the first three; of fewer, the last is repeated. It
computes with one thread, however many run side by side: sums over threads are rounded differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rvbuild.errors import ModelError
from rvbuild.learn.encoders.encoder import Floats, signs
from rvbuild.learn.encoders.network import Network
from rvbuild.learn.encoders.pooling import enlarged, pooled

MOST_CHANNELS = 96


class Backbone:
    """The features of a network.

    Parameters
    ----------
    name
        Of the network, for the names of features.
    network
        The network.
    bands
        How many bands images have.
    shown
        The three bands that the network sees.
    stride_px
        The side of a cell.

    Raises
    ------
    ModelError
        There is no such band.
    """

    multiple_px = 32
    margin_px = 64

    def __init__(self, name: str, network: Network, bands: int, shown: Sequence[int] | None, stride_px: int) -> None:
        self._stride, self._network = stride_px, network
        self._shown = list(shown) if shown is not None else [min(band, bands - 1) for band in range(3)]
        if max(self._shown) >= bands:
            raise ModelError(f"draft.bands: there is no band {max(self._shown)}; the image has bands 0 to {bands - 1}")
        counts = {stride: min(count, MOST_CHANNELS) for stride, count in sorted(network.channels.items())}
        self.names = (
            *(f"{what} {band}" for what in ("mean", "contrast") for band in range(bands)),
            *(f"{name} {n} at {stride} px" for stride, count in counts.items() for n in range(count)),
        )
        self.sides_px = (
            *(1 for _ in range(2 * bands)),
            *(stride for stride, count in counts.items() for _ in range(count)),
        )

    def __call__(self, image: Floats) -> Floats:
        """Return the features of an image; see `rvbuild.learn.encoders.encoder.Encoder`."""
        mean = pooled(image, self._stride)
        contrast = np.sqrt(np.maximum(pooled(image * image, self._stride) - mean * mean, 0))
        return np.concatenate([mean, contrast, *(maps for _, maps in sorted(self._answers(image).items()))])

    def _answers(self, image: Floats) -> dict[int, Floats]:
        """Return for each stride its features (F, H / stride of a cell, W / stride of a cell)."""
        torch.set_num_threads(1)  # of this thread
        values = torch.from_numpy(image[self._shown].copy())
        mean, std = (torch.tensor(figures).view(3, 1, 1) for figures in (self._network.mean, self._network.std))
        values = values.sub_(mean).div_(std)[None]
        with torch.inference_mode():
            return {stride: self._in_cells(stride, maps.numpy()) for stride, maps in self._network.maps(values)}

    def _in_cells(self, stride: int, maps: Floats) -> Floats:
        channels = maps.reshape(len(maps), -1)
        if len(maps) > MOST_CHANNELS:
            channels = signs((MOST_CHANNELS, len(maps)), stride) @ channels
        cells = channels.reshape(-1, *maps.shape[1:])
        if stride <= self._stride:
            return pooled(cells, self._stride // stride)
        return enlarged(cells, stride // self._stride)
