"""Rasters as an input, with the files that belong to them."""

from __future__ import annotations

from pathlib import Path

from rvbuild.engine.keys.artifact import Source
from rvbuild.rules.inputs import sidecars
from rvbuild.rules.inputs.companions import Companions


def rasters(role: str, files: tuple[Path, ...], companions: Companions) -> Source:
    """Return rasters as an input, digested by their bytes and those of the files that belong to them."""
    beside = [companions.of_raster(file) for file in files]
    if not any(beside):
        return Source(role, files)
    sorted_out = [sidecars.sort(members) for members in beside]
    sidecar_files = tuple(counted for counted, _ in sorted_out)
    ignored = tuple(other for _, others in sorted_out for other in others)
    return Source(role, files, sidecar_files if any(sidecar_files) else (), ignored_sidecars=ignored)
