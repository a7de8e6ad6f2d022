"""Resources of a prediction with a bundle, estimated beforehand: the settings of an untrusted bundle are not limited.

The estimates are lower bounds, so nothing is refused that would have worked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rvbuild.errors import DataError
from rvbuild.files.budget import memory_bytes, size_text
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.windows import MOST
from rvbuild.learn.model_files import ModelInfo
from rvbuild.settings.predict import PredictSettings
from rvbuild.stages.bundle.settings import AnyPredictSettings, BundleSettings

_FLOAT_BYTES = 4
_FEATURES = 4
"""Minimum number of float32 values per pixel in the first layers of a built-in model."""


def require_memory(
    bundle: Path,
    settings: BundleSettings[PredictSettings],
    info: ModelInfo,
    scenes: Sequence[Sequence[Path]],
) -> None:
    """Raise a DataError if the settings of a bundle ask for more memory than there is, or for too many windows.

    Parameters
    ----------
    bundle
        For the message.
    settings, info
        Of the bundle.
    scenes
        The files of each scene.
    """
    predict, side = cast("AnyPredictSettings", settings["predict"]), settings["chip_px"]
    cell_px = predict.get("cell_px")
    window, step = (side, predict["stride_px"]) if cell_px is None else (max(side, cell_px), cell_px)
    there = memory_bytes()
    for files in scenes:
        with open_scene_image(files, settings) as source:
            width, height = source.grid.width, source.grid.height
        windows = -(-width // step) * -(-height // step)
        if windows > MOST:
            name = "stride_px" if cell_px is None else "cell_px"
            raise DataError(
                f"{bundle}: predict.{name} = {step}: {files[0]} of {width} x {height} pixels would have {windows:,} "
                f"windows; expected at most {MOST:,}"
            )
        batch = min(predict["batch_size"], windows)
        needed = batch * info.bands * (window**2 + side**2 * _FLOAT_BYTES)
        if ":" not in info.model:
            needed += batch * side**2 * _FEATURES * _FLOAT_BYTES
        if there is not None and needed > there:
            raise DataError(
                f"{bundle}: chip_px = {side}, predict.batch_size = {predict['batch_size']}: predicting {files[0]} "
                f"needs at least {size_text(needed)} of memory; {size_text(there)} is available"
            )
        # The sums of overlapping windows, over the width of the image.
        overlap = max(0, min(side, height) - predict["stride_px"])
        carried = (len(info.outputs) + 1) * overlap * width * _FLOAT_BYTES
        if there is not None and cell_px is None and "merge_thresh" not in predict and carried > there:
            raise DataError(
                f"{bundle}: chip_px = {side}, predict.stride_px = {predict['stride_px']}: windows that overlap this "
                f"much need {size_text(carried)} of memory over the width of {files[0]}; {size_text(there)} is "
                "available"
            )
