"""The device of a model: `auto`, `cpu`, `cuda`, or one GPU."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import wrong

_NAMES = ("auto", "cpu", "cuda")
_CARD = "cuda:(0|[1-9][0-9]{0,2})"


def _device(value: str) -> str:
    if value in _NAMES or re.fullmatch(_CARD, value):
        return value
    return wrong(f'expected "auto", "cpu", "cuda", or one card such as "cuda:1", found {show(value)}' + _hint(value))


def _hint(value: str) -> str:
    return nearest(value, _NAMES) or ""


def kind(device: str) -> str:
    """Return a device without the number of its card.

    >>> kind("cuda:1"), kind("auto")
    ('cuda', 'auto')
    """
    return device.partition(":")[0]


Device: TypeAlias = Annotated[
    str,
    AfterValidator(_device),
    # The number of the GPU is not part of keys and bundles.
    PlainSerializer(kind, return_type=str),
    WithJsonSchema({"anyOf": [{"enum": list(_NAMES)}, {"type": "string", "pattern": f"^{_CARD}$"}]}),
]
