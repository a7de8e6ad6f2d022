"""OlmoEarth's encoders as one map of features: vision transformers for the bands of Sentinel-2.

Of what they can take, they are given one image without its date: the middle of a year stands in its place. Bands that
the imagery does not have are zeros, as in their training, which left out bands at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.models.bands import Bands
from rvbuild.learn.models.pretrained import hub
from rvbuild.learn.models.pretrained.matching import match
from rvbuild.learn.models.pretrained.weights import load_state, read_weights
from rvbuild.project.networks.olmoearth import BANDS, EXTRA, WEIGHTS, hub_id, version_and_size

_MODALITY = "sentinel2_l2a"

_DATE = (15, 6, 2023)
"""Day, month from 0, year."""

_FINE_PX, _COARSE_PX = 4, 8
"""The sides of patches: each is a token, and attention costs the square of their number."""

_MOST_FINE = 128
"""The largest side of chips with fine patches, in pixels."""


class Tokens(nn.Module):
    """Maps `(N, bands, H, W)` to a list of one map `(N, C, H / patch, W / patch)`.

    Parameters
    ----------
    encoder
        Of the package.
    sources
        For each of `BANDS`, its position in the imagery; None where the imagery does not have it.
    patch_px
        The side of patches; H and W are multiples of it.
    """

    def __init__(self, encoder: nn.Module, sources: Sequence[int | None], patch_px: int) -> None:
        super().__init__()
        self.encoder = encoder
        self._places = [len(sources) if place is None else place for place in sources]
        self._missing = len(sources)
        self._patch_px = patch_px

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of `images`, normalised by their own statistics."""
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

        count, _, height, width = images.shape
        # The encoders were trained with mean 0.5 and standard deviation 0.25.
        scaled = images * 0.25 + 0.5
        zeros = torch.zeros_like(scaled[:, 0])
        bands = [zeros if place == self._missing else scaled[:, place] for place in self._places]
        sample = MaskedOlmoEarthSample(
            timestamps=torch.tensor([[_DATE]], device=images.device).expand(count, 1, 3),
            sentinel2_l2a=torch.stack(bands, dim=-1)[:, :, :, None],
            sentinel2_l2a_mask=torch.zeros(count, height, width, 1, 1, device=images.device),
        )
        masked = self.encoder(sample, patch_size=self._patch_px, fast_pass=True)["tokens_and_masks"]
        tokens: torch.Tensor = getattr(masked, _MODALITY)[:, :, :, 0].mean(dim=3)
        return [tokens.permute(0, 3, 1, 2).contiguous()]


def make(
    name: str, bands: int, chip_px: int | None, pretrained: bool | Path, note: Callable[[str], None]
) -> tuple[Tokens, int, int]:
    """Make an encoder, and return it with the channels and the stride of its map.

    Raises
    ------
    ModelError
        The package is not installed, the bands have no names, or the weights cannot be used.
    """
    if not isinstance(bands, Bands):
        raise ModelError(f"train.bands: {name} must know the bands of the imagery, such as {{ B04 = 0, B03 = 1 }}")
    package = require(name)
    version, size = version_and_size(name)
    device = torch.get_default_device()
    with torch.device("cpu"):  # on the meta device it cannot be made
        made = package.OlmoEarthPretrain_v1(size, version, supported_modality_names=[_MODALITY])
    encoder: Any = made.model.encoder.to(device)
    # What compares whole images in its own training is not used here, and would have no gradient.
    encoder.project_and_aggregate = nn.Identity()
    if pretrained is not False:
        path = Path(fetch(name)) if pretrained is True else pretrained
        content = {key: value for key, value in read_weights(path).items() if key.startswith("encoder.")}
        own = encoder.state_dict()
        load_state(encoder, match(own, content or read_weights(path), path, note), strict=False)
    places = {source: place for place, source in bands.taken().items()}
    patch_px = _FINE_PX if chip_px is None or chip_px <= _MOST_FINE else _COARSE_PX
    tokens = Tokens(encoder, [places.get(number) for number in range(len(BANDS))], patch_px)
    return tokens, int(encoder.embedding_size), patch_px


def require(name: str) -> Any:
    """Return the package of the encoders, or raise a ModelError with the way to install it."""
    try:
        with torch.device("cpu"):  # modules keep tensors, which must not be on the meta device
            import olmoearth_pretrain_minimal as package
    except ImportError as error:
        raise ModelError(
            f"\"{name}\" needs the package olmoearth-pretrain-minimal; install it with: pip install '{EXTRA}'"
        ) from error
    return package


def require_reachable(name: str) -> None:
    """Raise a ModelError as `fetch` does if the weights are not here and their server does not have them."""
    require(name)
    if not hub.is_here(hub_id(name), WEIGHTS):
        url = f"https://huggingface.co/{hub_id(name)}/resolve/main/{WEIGHTS}"
        hub.require_reachable(url, lambda error: _not_downloaded(name, error))


def fetch(name: str) -> str:
    """Return the path of the pretrained weights of an encoder, downloaded once.

    Raises
    ------
    ModelError
        The download failed; the message says what to do.
    """
    try:
        from huggingface_hub import hf_hub_download

        return str(hf_hub_download(hub_id(name), WEIGHTS))
    except Exception as error:  # the libraries of the hub have errors of many kinds
        raise _not_downloaded(name, error) from error


def _not_downloaded(name: str, error: Exception) -> ModelError:
    """Return the error that says what to do without the weights of an encoder."""
    return hub.not_downloaded(name, hub_id(name), WEIGHTS, error)
