"""The outputs of other artifacts and the files that an artifact reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rvbuild.engine.keys.artifact import Product, Source, digest, matcher


def selected(item: Product, outputs: Iterable[str]) -> list[str]:
    """Return the names among `outputs` that `item` reads, sorted."""
    return sorted(filter(matcher((*item.files, *item.unkeyed)), outputs))


def product_digest(item: Product, outputs: Mapping[str, tuple[str, int]]) -> str:
    """Return the digest of the `outputs`, name -> (digest, size), that are part of the key through `item`."""
    return digest(sorted([name, outputs[name][0]] for name in filter(matcher(item.files), outputs)))


def files_of(source: Source, i: int) -> tuple[Path, ...]:
    """Return the `i`-th file of `source` and its sidecars."""
    return (source.files[i], *source.sidecars_of(i))
