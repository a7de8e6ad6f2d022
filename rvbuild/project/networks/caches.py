"""Whether pretrained weights are on this machine: the caches of torch and of the Hugging Face hub, looked up by path.

Neither library is imported, and nothing is asked of a server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

HUB_NAMES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin", "open_clip_model.safetensors")
"""What files of weights are called in the repositories of timm's networks."""


def torch_file(name: str) -> Path | None:
    """Return the file of weights of torchvision if it has been downloaded.

    Parameters
    ----------
    name
        Of the file.
    """
    home = os.environ.get("TORCH_HOME") or _cache_home() / "torch"
    path = Path(home).expanduser() / "hub" / "checkpoints" / name
    return path if path.is_file() else None


def hub_file(repository: str, names: Sequence[str] = HUB_NAMES) -> Path | None:
    """Return a file of a repository of the Hugging Face hub if it has been downloaded.

    Parameters
    ----------
    repository
        Such as `timm/resnet18.a1_in1k`.
    names
        Of the file; the first one that is there.
    """
    snapshots = _hub() / f"models--{repository.replace('/', '--')}" / "snapshots"
    try:
        versions = sorted(snapshots.iterdir())
    except OSError:
        return None
    return next((path for version in versions for name in names if (path := version / name).is_file()), None)


def _hub() -> Path:
    """Return the cache of the hub, as huggingface_hub finds it."""
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if cache:
        return Path(cache).expanduser()
    return Path(os.environ.get("HF_HOME") or _cache_home() / "huggingface").expanduser() / "hub"


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
