"""What the disk holds now: the content of a source, and whether outputs are as they were put in place."""

from __future__ import annotations

from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact, Source, digest
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.store.fingerprint import Fingerprints
from rvbuild.engine.store.state import Output, Record


def content_of(prints: Fingerprints, source: Source, i: int) -> str | None:
    """Return the digest of the `i`-th file of `source` with its sidecars, or None if there is no such file."""
    value = prints.digest(source.files[i])
    if value is None or not source.sidecars or not source.sidecars[i]:
        return value
    return digest([value, sorted([label, prints.digest(path)] for label, path in source.labelled(i))])


def damage(root: Path, prints: Fingerprints, artifact: Artifact, record: Record) -> tuple[list[str], dict[str, Output]]:
    """Return a phrase for each output of `record` that is missing or was edited, and those that were only touched.

    Parameters
    ----------
    root
        The directory that the paths of outputs are relative to.
    prints
        The digests of files.
    artifact
        The artifact, which says where its outputs are now.
    record
        Its record.

    Returns
    -------
    phrases : list of str
    touched : dict
        Name -> output with its new signature.
    """
    phrases, touched, start = [], {}, f"{root}/"
    for name, output in record.outputs.items():
        if output.path != artifact.shown(name):
            phrases.append(f"{output.path} is now shown as {artifact.shown(name)}")
            continue
        path = f"{start}{output.path}"
        now = signature(path)
        if now is None:
            phrases.append(f"{output.path} is missing")
            continue
        if output.is_as_placed(now):
            continue
        if now.size != output.size or prints.digest(path) != output.digest:
            phrases.append(f"{output.path} was edited")
            continue
        ctime_ns = None if output.ctime_ns is None else now.ctime_ns
        touched[name] = output._replace(mtime_ns=now.mtime_ns, inode=now.inode, ctime_ns=ctime_ns)
    return phrases, touched
