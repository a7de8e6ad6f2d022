"""Encoders with weights: the layers of torchvision's classification models, frozen.

The last result at each stride up to 16 px counts, pooled or interpolated to cells, beside the mean and the contrast of
each band in a cell. Of more than `MOST_CHANNELS` at one stride, fixed random sums are taken: the closed-form model
grows with the square of the number of features, and overfits with too many.

A model of torchvision sees three bands: those that `bands` names, or else the first three; of fewer, the last is
repeated. It computes with one thread, however many run side by side: sums over threads are rounded differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.encoders.encoder import Floats, signs
from rvbuild.learn.encoders.pooling import enlarged, pooled
from rvbuild.learn.models.weights import DRAFTED, State, fetch, read_weights

MAX_STRIDE_PX = 16

MOST_CHANNELS = 96

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the three bands, as the weights of torchvision expect them."""


class Backbone:
    """The features of a model of torchvision.

    Parameters
    ----------
    name
        Of the model.
    weights
        The file of its weights; None for torchvision's own, which are downloaded once.
    bands
        How many bands images have.
    shown
        The three bands that the model sees.
    stride_px
        The side of a cell.
    note
        Receives lines for the user.

    Raises
    ------
    ModelError
        The weights cannot be read or downloaded, or are not of the model.
    """

    multiple_px = 32
    margin_px = 64

    def __init__(
        self,
        name: str,
        weights: Path | None,
        bands: int,
        shown: Sequence[int] | None,
        stride_px: int,
        note: Callable[[str], None],
    ) -> None:
        self._stride = stride_px
        self._shown = list(shown) if shown is not None else [min(band, bands - 1) for band in range(3)]
        if max(self._shown) >= bands:
            raise ModelError(f"draft.bands: there is no band {max(self._shown)}; the image has bands 0 to {bands - 1}")
        model: nn.Module = torchvision.models.get_model(name, weights=None)
        _load(model, name, weights, note)
        self._layers = _layers(model, name).eval()
        self._strides = self._find_strides()
        self.names = (
            *(f"{what} {band}" for what in ("mean", "contrast") for band in range(bands)),
            *(f"{name} {n} at {stride} px" for stride, (_, count) in self._strides.items() for n in range(count)),
        )
        self.sides_px = (
            *(1 for _ in range(2 * bands)),
            *(stride for stride, (_, count) in self._strides.items() for _ in range(count)),
        )

    def __call__(self, image: Floats) -> Floats:
        """Return the features of an image; see `rvbuild.learn.encoders.encoder.Encoder`."""
        mean = pooled(image, self._stride)
        contrast = np.sqrt(np.maximum(pooled(image * image, self._stride) - mean * mean, 0))
        found = [mean, contrast]
        for stride, maps in self._answers(image):
            channels = maps.reshape(len(maps), -1)
            if len(maps) > MOST_CHANNELS:
                channels = signs((MOST_CHANNELS, len(maps)), stride) @ channels
            cells = channels.reshape(-1, *maps.shape[1:])
            if stride <= self._stride:
                found.append(pooled(cells, self._stride // stride))
            else:
                found.append(enlarged(cells, stride // self._stride))
        return np.concatenate(found)

    def _find_strides(self) -> Mapping[int, tuple[int, int]]:
        """Return for each stride the layer with its last result, and the number of features that it gives."""
        side = 2 * self.multiple_px
        values = torch.zeros(1, 3, side, side)
        found: dict[int, tuple[int, int]] = {}
        with torch.inference_mode():
            for number, layer in enumerate(self._layers):
                values = layer(values)
                stride = side // values.shape[-1] if values.dim() == 4 and values.shape[-1] else 0
                if 1 < stride <= MAX_STRIDE_PX:
                    found[stride] = number, min(values.shape[1], MOST_CHANNELS)
        return found

    def _answers(self, image: Floats) -> Iterator[tuple[int, Floats]]:
        """Yield each stride and its result (N, H / stride, W / stride)."""
        wanted = {number: stride for stride, (number, _) in self._strides.items()}
        torch.set_num_threads(1)  # of this thread
        values = torch.from_numpy(image[self._shown].copy())
        values = values.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))[None]
        with torch.inference_mode():
            for number, layer in enumerate(self._layers[: max(wanted) + 1]):
                values = layer(values)
                if number in wanted:
                    yield wanted[number], values[0].numpy()


def _layers(model: nn.Module, name: str) -> nn.Sequential:
    """Return the layers of a model that are applied one after the other."""
    features = getattr(model, "features", None)
    if isinstance(features, nn.Sequential):
        return features
    if isinstance(model, torchvision.models.ResNet):
        return nn.Sequential(*list(model.children())[:-2])
    raise ModelError(f'draft.encoder: "{name}" is not made of layers one after the other; choose another model')


def _load(model: nn.Module, name: str, weights: Path | None, note: Callable[[str], None]) -> None:
    """Load the weights of a model; the head, which is not used, may be missing."""
    if weights is None:
        state: State = fetch(torchvision.models.get_model_weights(name).DEFAULT.url, note, DRAFTED)
    else:
        state = read_weights(weights, DRAFTED)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(("classifier", "fc."))}
    lacking = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in own if key in state and state[key].shape != own[key].shape]
    if lacking or wrong:
        count, key = len(lacking or wrong), (lacking or wrong)[0]
        how = "lacks" if lacking else "has in another shape"
        raise ModelError(
            f'draft.weights: {weights}: expected the weights of torchvision\'s "{name}"; the file {how} '
            f"{count} of {len(own)} tensors, for example {key}"
        )
    model.load_state_dict({key: state[key] for key in own if key in state}, strict=False)
    if not all(math.isfinite(float(value.float().abs().sum())) for value in state.values()):
        raise ModelError(f"draft.weights: {weights}: holds values that are not finite")
