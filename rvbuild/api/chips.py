"""Chips for torch: a dataset of what the chip stage has cut, with targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.hooks import TargetOps
from rvbuild.session.here import Here


class ChipDataset(Dataset[dict[str, Any]]):
    """The chips of a split, in the order of the scenes' ids: a map-style `torch.utils.data.Dataset`.

    `Project.dataset` makes one. Each item is a dict of tensors:

    * `image`: (C, H, W) in the dtype of the imagery, raw values, 0 where it is not valid.
    * `valid`: (C, H, W) bool: where there are data.
    * the target. Segmentation: `labels`, (H, W) uint8 class ids. Detection: `boxes`, (n, 4) float32 x0, y0, x1, y1 in
      pixels, and `classes`, (n,) uint8. Chip classification: `classes`, () uint8.

    It can be sent to the processes of a `DataLoader`, for which `collate` makes batches.

    Attributes
    ----------
    bands, size_px : int
        Bands of an image, and its side.
    classes : list of str
        The name of each class id.
    class_counts : numpy.ndarray
        (n_classes,) int64: occurrences of each class id in all chips: pixels, boxes or chips.

    Examples
    --------
    >>> import rvbuild
    >>> chips = rvbuild.open("projects/p.toml").dataset("train")
    >>> sample = chips[0]
    >>> sample["image"].shape, sample["labels"].shape
    (torch.Size([3, 32, 32]), torch.Size([32, 32]))
    """

    def __init__(self, chips: Chips, ops: TargetOps, here: Here) -> None:
        self._here = here  # first: what follows may need the user's code where it is unpickled
        self._chips, self._ops = chips, ops
        self.bands, self.size_px = chips.bands, chips.size_px
        self.classes, self.class_counts = list(chips.classes), chips.class_counts

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one chip; see the class."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} chips; found the index {index}")
        with self._here():
            sample = self._chips[index % len(self)]
        valid = np.ones(sample.image.shape, dtype=bool) if sample.valid is None else sample.valid
        return {
            "image": torch.from_numpy(np.array(sample.image)),
            "valid": torch.from_numpy(np.array(valid)),
            **{name: torch.from_numpy(np.array(value)) for name, value in sample.target.items()},
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of items: `image` and `valid`, (N, C, H, W), and the targets as the task batches them.

        Segmentation: `labels`, (N, H, W). Detection: `boxes` and `classes`, lists of N tensors. Chip classification:
        `classes`, (N,).
        """
        own = ("image", "valid")
        targets = [{name: value.numpy() for name, value in s.items() if name not in own} for s in samples]
        return {**{name: torch.stack([s[name] for s in samples]) for name in own}, **self._ops.collate(targets)}
