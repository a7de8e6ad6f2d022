"""Logs of a training in files: one that grows by a JSON line for each epoch, and a table."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from rvbuild.learn.logs.epochs import figures
from rvbuild.learn.selection import Epoch


def as_text(lines: Sequence[Epoch]) -> str:
    """Return epochs as the content of a `log.jsonl`."""
    return "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in lines)


class GrowingFile:
    """A `log.jsonl` that grows.

    What it already holds of this training stays as it is, so that `tail -f` goes on after an interruption: only what a
    kill has left out or cut off is put right. The log of another training is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file: BinaryIO | None = None

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Continue after these epochs."""
        wanted = as_text(lines).encode()
        # Never through a link that somebody has left there.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, 0o666), "r+b")
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise OSError("it is not a plain file")
        before = self._file.read()
        kept = before if wanted.startswith(before) else wanted if before.startswith(wanted) else b""
        self._file.truncate(len(kept))
        self._file.seek(len(kept))
        self._write(wanted[len(kept) :])

    def add(self, line: Epoch) -> None:
        """Append an epoch."""
        self._write(as_text([line]).encode())

    def close(self, finished: bool) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, content: bytes) -> None:
        assert self._file is not None
        self._file.write(content)
        self._file.flush()


class CsvFile:
    """A table with a row for each epoch and a column for each figure, written anew after each epoch."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._lines: list[Epoch] = []

    def begin(self, lines: Sequence[Epoch]) -> None:
        """Continue after these epochs."""
        self._lines = list(lines)
        self._write()

    def add(self, line: Epoch) -> None:
        """Add a row."""
        self._lines.append(line)
        self._write()

    def close(self, finished: bool) -> None:
        """Do nothing: it is complete after each epoch."""

    def _write(self) -> None:
        rows = [{"epoch": line["epoch"], **figures(line)} for line in self._lines]
        columns = list(dict.fromkeys(["epoch", *(name for row in rows for name in row)]))
        text = io.StringIO()
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        part = self._path.with_name(f"{self._path.name}.part")
        part.unlink(missing_ok=True)
        with part.open("x", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
        part.replace(self._path)
