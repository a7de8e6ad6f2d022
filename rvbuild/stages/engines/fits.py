"""Which engines can compute a model of which imagery."""

from __future__ import annotations

from rvbuild.learn.export.inputs import input_type
from rvbuild.stages.names import ExportedEngine


def misfit(engine: ExportedEngine, dtype: str) -> str:
    """Return why an engine cannot compute a model of imagery of a type; empty if it can."""
    if engine == "openvino" and input_type(dtype) == "float64":
        return f"OpenVINO computes in float32, which cannot hold the values of {dtype} imagery"
    return ""
