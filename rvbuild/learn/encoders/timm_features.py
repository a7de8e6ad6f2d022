"""Backbones of timm, which gives the maps of a model at its strides itself (`features_only`)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rvbuild.errors import ModelError, nearest
from rvbuild.learn.encoders.network import MAX_STRIDE_PX, PROBE_PX
from rvbuild.learn.models.pretrained.weights import DRAFTED, read_weights
from rvbuild.project.networks import EXTRA


class TimmFeatures:
    """The maps of a model of timm; a `Network`.

    Parameters
    ----------
    name
        Of the model in timm, perhaps with the tag of its weights, such as `resnet18.a1_in1k`.
    weights
        The file of its weights; None for those of timm's hub, which are downloaded once.
    note
        Receives lines for the user.

    Raises
    ------
    ModelError
        timm is not installed or has no such model, the model gives no maps of images of any size, or the weights cannot
        be read or downloaded, or are not of the model.
    """

    def __init__(self, name: str, weights: Path | None, note: Callable[[str], None]) -> None:
        timm = require_timm(name)
        state = None if weights is None else read_weights(weights, DRAFTED)
        self._model = _created(timm, name, weights, state, note).eval()
        cfg = timm.get_pretrained_cfg(name)
        self.mean: tuple[float, ...] = (0.485, 0.456, 0.406)
        self.std: tuple[float, ...] = (0.229, 0.224, 0.225)
        if cfg is not None and len(cfg.mean) == 3:
            self.mean, self.std = tuple(map(float, cfg.mean)), tuple(map(float, cfg.std))
        self.channels = dict[int, int]()
        self._numbers = dict[int, int]()
        try:
            with torch.inference_mode():
                results = list(self._model(torch.zeros(1, 3, PROBE_PX, PROBE_PX)))
        except (AssertionError, RuntimeError, ValueError, IndexError) as error:
            raise ModelError(
                f'draft.encoder: timm\'s "{name}" does not take images of any size ({error}); choose a convolutional '
                "model, such as timm/resnet18"
            ) from error
        for number, values in enumerate(results):
            stride = PROBE_PX // values.shape[-1] if values.dim() == 4 and values.shape[-2] == values.shape[-1] else 0
            if 1 < stride <= MAX_STRIDE_PX and not stride & stride - 1 and stride * values.shape[-1] == PROBE_PX:
                self.channels[stride], self._numbers[stride] = values.shape[1], number
        if not self.channels:
            raise ModelError(f'draft.encoder: timm\'s "{name}" gives no maps at strides of up to {MAX_STRIDE_PX} px')

    def maps(self, values: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each stride and its maps; see `Network`."""
        results = self._model(values)
        for stride, number in self._numbers.items():
            yield stride, results[number][0]


def require_timm(name: str) -> Any:
    """Return the package timm.

    Raises
    ------
    ModelError
        It is not installed, or has no such model, or no such weights of it.
    """
    try:
        import timm
    except ImportError:
        raise ModelError(f"draft.encoder: \"timm/{name}\" needs the package timm: pip install '{EXTRA}'") from None
    model, sep, tag = name.partition(".")
    if model not in timm.list_models():
        raise ModelError(f'draft.encoder: timm has no model "{model}"{nearest(model, timm.list_models())}')
    known = [each.partition(".")[2] for each in timm.list_pretrained(f"{model}.*")] if sep else []
    if sep and tag not in known:
        raise ModelError(
            f'draft.encoder: timm has no weights "{tag}" of "{model}"{nearest(tag, known)}; known: '
            f"{', '.join(known) or 'none'}"
        )
    return timm


def _created(
    timm: Any, name: str, weights: Path | None, state: dict[str, torch.Tensor] | None, note: Callable[[str], None]
) -> torch.nn.Module:
    """Return a model that gives maps, with its weights."""
    options: dict[str, Any] = {"features_only": True, "pretrained": True}
    if state is None:
        note(f"weights of timm's {name}: from the hub, downloaded once")
    else:
        options["pretrained_cfg_overlay"] = {"state_dict": state}
    try:
        with _no_bars():
            model: torch.nn.Module = timm.create_model(name, **options)
    except Exception as error:  # of servers, files and networks: timm declares none
        text = " ".join(str(error).split())[:300]
        if state is not None:
            raise ModelError(
                f'draft.weights: {weights}: expected the weights of timm\'s "{name}": {text or type(error).__name__}'
            ) from error
        hub = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
        place = f"model.safetensors of {hub} on the Hugging Face Hub" if hub else "its weights"
        raise ModelError(
            f'draft.encoder: the weights of timm\'s "{name}" could not be downloaded ({text or type(error).__name__}); '
            f'download {place} by other means and name the file: `weights = "path/to/model.safetensors"`; or use the '
            'encoder that needs none: `encoder = "random"`'
        ) from error
    if not all(math.isfinite(float(value.float().abs().sum())) for value in model.state_dict().values()):
        raise ModelError(f"draft.weights: {weights or name}: holds values that are not finite")
    return model


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of downloads: stages print nothing."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
