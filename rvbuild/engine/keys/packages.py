"""The versions of packages that are recorded with every artifact."""

from __future__ import annotations

import functools
from importlib import metadata

RECORDED = ("numpy", "torch", "torchvision", "rasterio", "fiona", "shapely", "safetensors")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the recorded packages, without importing them."""
    installed = {}
    for name in RECORDED:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
