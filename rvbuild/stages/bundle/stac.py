"""A STAC item that describes a bundle's model, with the Machine Learning Model extension (MLM) 1.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rvbuild import tasks
from rvbuild.learn.export.inputs import input_type
from rvbuild.learn.model_files import ONNX, ONNX_WEIGHTS, ModelInfo
from rvbuild.stages.bundle.settings import BundleStageSettings
from rvbuild.stages.bundle.zip import sha256

EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

_IMAGE_AXES = ["batch", "bands", "height", "width"]


def stac_item(
    info: ModelInfo, settings: BundleStageSettings, onnx: Path, weights: Path | None, parameters: int
) -> dict[str, Any]:
    """Return the item as JSON data.

    A model has no place and no time: the geometry is null, and the interval is that of the extension's own examples.

    Parameters
    ----------
    info, settings
        Of the bundle.
    onnx, weights
        The exported network, and the file of its weights if they have one of their own.
    parameters
        The number of its weights.
    """
    portable, side = tasks.get(info.task).PORTABLE, info.chip_px
    colors = {item["name"]: item["color"] for item in settings["classes"]}
    name = f"{info.model} for {', '.join(info.outputs)}"
    bands = [f"band {number}" for number in range(1, info.bands + 1)]
    task, axes = portable.stac_task, list(portable.axes)
    sizes = {"batch": -1, "class": len(info.outputs), "height": side, "width": side}
    output = {
        "name": portable.output,
        "tasks": [task],
        "bands": [],
        "result": {"shape": [sizes.get(axis, -1) for axis in axes], "dim_order": axes, "data_type": "float32"},
        "classification:classes": [
            {
                "value": number,
                "name": class_name,
                "description": class_name,
                "color_hint": colors[class_name].lstrip("#").upper(),
            }
            for number, class_name in enumerate(info.outputs)
        ],
        "post_processing_function": None,
    }
    image = {
        "name": "images",
        "bands": bands,
        "input": {
            "shape": [-1, info.bands, side, side],
            "dim_order": _IMAGE_AXES,
            "data_type": input_type(info.dtype),
        },
        "value_scaling": [{"type": "scale", "value": 255}] * info.bands if info.dtype == "uint8" else None,
        "resize_type": None,
        "pre_processing_function": None,
    }
    digest = sha256(onnx)
    model = {
        "href": f"./{ONNX}",
        "type": "application/octet-stream; application=onnx",
        "title": "The network with its normalisation as ONNX",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "onnx",
        "file:size": onnx.stat().st_size,
        "file:checksum": f"1220{digest}",
    }
    assets = {"model": model}
    if weights is not None:
        model["roles"] = ["mlm:model"]
        assets["weights"] = {
            "href": f"./{ONNX_WEIGHTS}",
            "type": "application/octet-stream",
            "title": f"The weights of the network, which {ONNX} reads from beside it",
            "roles": ["mlm:weights"],
            "file:size": weights.stat().st_size,
            "file:checksum": f"1220{sha256(weights)}",
        }
    assets["card"] = {
        "href": "./README.md",
        "type": "text/markdown",
        "title": "Model card",
        "roles": ["metadata"],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{info.model.replace(':', '-')}-{digest[:16]}",
        "geometry": None,
        "properties": {
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "description": "A model made by rvbuild; README.md beside it describes its data, metrics and limits.",
            "mlm:name": name,
            "mlm:architecture": info.model,
            "mlm:tasks": [task],
            "mlm:framework": "ONNX",
            "mlm:total_parameters": parameters,
            "mlm:pretrained": settings["onnx"]["start"] != "random",
            "mlm:input": [image],
            "mlm:output": [output],
            "mlm:hyperparameters": {"model_args": dict(info.model_args)} if info.model_args else {},
        },
        "links": [],
        "assets": assets,
    }
