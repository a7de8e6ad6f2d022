"""The engines that compute exported networks, without torch: onnxruntime and OpenVINO."""
