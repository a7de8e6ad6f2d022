"""Networks as ONNX: how they are exported, by torch, and how they are run, without it."""
