"""Detectors: torchvision's heads on its own backbones, or on any encoder."""
