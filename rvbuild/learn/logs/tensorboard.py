"""The epochs of a training as events of TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvbuild.learn.logs.epochs import figures
from rvbuild.learn.selection import Epoch


class TensorBoard:
    """A run of TensorBoard in a directory.

    Files of events only grow. A training that continues writes a new file that begins with the instruction to purge
    what was written before; TensorBoard then shows each epoch once.
    """

    name = "the log for TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Continue after these epochs."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self._folder, purge_step=0)
        for line in lines:
            self._write(line)
        self._writer.flush()

    def add(self, line: Epoch) -> None:
        """Add an epoch."""
        self._write(line)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the file of events."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, line: Epoch) -> None:
        for name, value in figures(line).items():
            self._writer.add_scalar(name, value, line["epoch"])
