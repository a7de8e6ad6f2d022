"""The metadata of ONNX files that QGIS Deepness and GeoDeep read: every value is JSON text."""

from __future__ import annotations

import json
from typing import Any

from rvbuild import tasks
from rvbuild.learn.model_files import ModelInfo
from rvbuild.stages.bundle.settings import BundleStageSettings


def metadata_of(info: ModelInfo, settings: BundleStageSettings) -> dict[str, str]:
    """Return the metadata of an exported network, by name.

    Normalisation is inside the graph, so means are 0 and standard deviations 1.
    """
    predict, side = settings["predict"], info.chip_px
    content: dict[str, Any] = {
        "class_names": {str(number): name for number, name in enumerate(info.outputs)},
        "tiles_size": side,
        "tiles_overlap": round(100 * max(0, side - predict["stride_px"]) / side),
        "standardization_mean": [0.0] * info.bands,
        "standardization_std": [1.0] * info.bands,
        **tasks.get(info.task).PORTABLE.qgis(predict),
    }
    return {name: json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in content.items()}
