"""The networks of other packages that a project can name, and what is known of them without importing these."""

from __future__ import annotations

TIMM, TORCHVISION = "timm/", "torchvision/"
"""The prefixes of names."""

RANDOM = "random"
"""The encoder of drafts that has no weights."""

EXTRA = "rvbuild[timm]"
"""The extra that brings timm and segmentation-models-pytorch."""

SIZES, SCALES = (2, 16), (0.1, 4.0)
"""How many networks an ensemble may have, and their scales."""

LOOKS = 8
"""At how many scales one of them may look."""
