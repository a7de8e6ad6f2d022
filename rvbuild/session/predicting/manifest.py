"""The manifest of a directory of predictions: what was made from what, as JSON that depends on nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rvbuild.engine.store.record import Record
from rvbuild.files.address import is_url
from rvbuild.files.durable import sync
from rvbuild.session.predicting.folder import MANIFEST, Folder
from rvbuild.session.predicting.plan import STAGE

VERSION = 1


def write(folder: Folder) -> Path:
    """Write the manifest of all predictions that are in a directory, those of earlier runs included; return its path.

    It is replaced as a whole, and only if it changes.
    """
    path = folder.root / MANIFEST
    text = json.dumps({"version": VERSION, "predictions": _predictions(folder)}, indent=1, ensure_ascii=False) + "\n"
    content = text.encode("utf-8", "surrogateescape")
    if path.is_file() and path.read_bytes() == content:
        return path
    staged = folder.own / "tmp" / MANIFEST
    staged.write_bytes(content)
    sync(staged)
    staged.replace(path)
    return path


def _predictions(folder: Folder) -> list[dict[str, Any]]:
    names = sorted(name for name in folder.state.records() if name.startswith(f"{STAGE}:"))
    records = [(name.removeprefix(f"{STAGE}:"), folder.state.record(name)) for name in names]
    return [
        _prediction(folder, name, record)
        for name, record in records
        if record is not None and (folder.root / name).is_dir()  # which the user may have removed
    ]


def _prediction(folder: Folder, name: str, record: Record) -> dict[str, Any]:
    (bundle,) = record.sources["bundle"]
    return {
        "name": name,
        "bundle": _file(folder, *bundle),
        "image": [_file(folder, *source) for source in record.sources["image"]],
        "engine": record.components["settings"]["engine"],
        "key": record.key,
        "files": {file: {"digest": o.digest, "size": o.size} for file, o in sorted(record.outputs.items())},
        "versions": dict(record.packages),
    }


def _file(folder: Folder, shown: str, digest: str) -> dict[str, str]:
    """Return an input: its path relative to the manifest, and the digest of its bytes, or of its state on a server."""
    if is_url(shown):
        return {"url": shown, "state": digest}
    return {"path": Path(os.path.relpath(folder.root / shown, folder.root)).as_posix(), "digest": digest}
