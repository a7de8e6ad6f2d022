"""Chips for torch: a dataset of the chips that the chip stage has cut, with targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.hooks import TargetOps
from rvbuild.session.process_context import ProcessContext


class ChipDataset(Dataset[dict[str, Any]]):
    """The chips of a split, in the order of the scenes' ids: a map-style `torch.utils.data.Dataset`.

    `Project.dataset` returns one. Each item is a dict of tensors:

    * `image`: (C, H, W) in the dtype of the imagery, raw values, 0 where it is not valid.
    * `valid`: (C, H, W) bool: where there are data.
    * the target. Segmentation: `labels`, (H, W) uint8 class ids. Detection: `boxes`, (n, 4) float32 x0, y0, x1, y1 in
      pixels, and `classes`, (n,) uint8. Chip classification: `classes`, () uint8.

    It can be pickled for the processes of a `DataLoader`; `collate` creates batches.

    Attributes
    ----------
    bands, size_px : int
        Number of bands of an image, and its side.
    classes : list of str
        The name of each class id.
    class_counts : numpy.ndarray
        (n_classes,) int64: number of pixels, boxes or chips of each class id, in all chips.

    Examples
    --------
    >>> import rvbuild
    >>> chips = rvbuild.open("projects/p.toml").dataset("train")
    >>> sample = chips[0]
    >>> sample["image"].shape, sample["labels"].shape
    (torch.Size([3, 32, 32]), torch.Size([32, 32]))
    """

    def __init__(self, chips: Chips, ops: TargetOps, context: ProcessContext) -> None:
        self._context = context  # first: unpickling the other attributes may need the user's code
        self._chips, self._ops = chips, ops
        self.bands, self.size_px = chips.bands, chips.size_px
        self.classes, self.class_counts = list(chips.classes), chips.class_counts

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one chip; see the class."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} chips; found the index {index}")
        with self._context():
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
        image_names = ("image", "valid")
        targets = [{name: value.numpy() for name, value in s.items() if name not in image_names} for s in samples]
        return {**{name: torch.stack([s[name] for s in samples]) for name in image_names}, **self._ops.collate(targets)}
