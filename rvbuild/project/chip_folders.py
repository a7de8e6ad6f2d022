"""The folders of pre-cut chips of the user."""

from __future__ import annotations

from collections.abc import Mapping

from rvbuild.settings.area import Split

CHIP_SPLITS: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "validation": ("valid", "val", "validation")}
"""Split → valid names of its folder."""
