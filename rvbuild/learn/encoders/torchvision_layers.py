"""Classification models of torchvision, applied layer by layer. The last result at each stride counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.encoders.network import MAX_STRIDE_PX, PROBE_PX
from rvbuild.learn.models.pretrained.weights import DRAFTED, State, fetch, load_state, read_weights


class TorchvisionLayers:
    """The layers of a model of torchvision; a `Network`.

    Parameters
    ----------
    name
        Of the model.
    weights
        The file of its weights; None for torchvision's own, which are downloaded once.
    note
        Receives lines for the user.

    Raises
    ------
    ModelError
        The weights cannot be read or downloaded, or are not of the model.
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, name: str, weights: Path | None, note: Callable[[str], None]) -> None:
        model: nn.Module = torchvision.models.get_model(name, weights=None)
        _load(model, name, weights, note)
        self._layers = _layers(model, name).eval()
        values, self._strides = torch.zeros(1, 3, PROBE_PX, PROBE_PX), dict[int, int]()
        self.channels = dict[int, int]()
        with torch.inference_mode():
            for number, layer in enumerate(self._layers):
                values = layer(values)
                stride = PROBE_PX // values.shape[-1] if values.dim() == 4 and values.shape[-1] else 0
                if 1 < stride <= MAX_STRIDE_PX:
                    self._strides[stride], self.channels[stride] = number, values.shape[1]

    def maps(self, values: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each stride and its maps; see `Network`."""
        wanted = {number: stride for stride, number in self._strides.items()}
        for number, layer in enumerate(self._layers[: max(wanted) + 1]):
            values = layer(values)
            if number in wanted:
                yield wanted[number], values[0]


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
    load_state(model, {key: state[key] for key in own if key in state}, strict=False)
    if not all(math.isfinite(float(value.float().abs().sum())) for value in state.values()):
        raise ModelError(f"draft.weights: {weights}: holds values that are not finite")
