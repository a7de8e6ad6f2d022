"""torchvision's pretrained weights: a table of what there is, so that it can be listed without importing it.

`docs/make_torchvision.py` writes the table.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).with_suffix(".tsv")


@dataclass(frozen=True)
class Weights:
    """What a model of torchvision starts from.

    Attributes
    ----------
    parameters : int
        Of the model.
    file : str
        The name of the file of weights: of the model, or of its backbone.
    size : int
        Of the file, in bytes.
    """

    parameters: int
    file: str
    size: int


@functools.cache
def weights() -> Mapping[str, Weights]:
    """Return the weights of torchvision's models and encoders by name."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()[2:]
    rows = [line.split("\t") for line in lines]
    return {name: Weights(int(parameters), file, int(size)) for name, parameters, file, size in rows}
