"""The `[draft]` table: a model in closed form on the features of a frozen encoder, and its map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Strict

from rvbuild.errors import nearest
from rvbuild.project.networks import RANDOM
from rvbuild.project.tasks import SPECS
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, PathText, Pixels, Table, no_effect

TIMM = re.compile(r"timm/[a-z0-9_]+(\.[a-z0-9_]+)?")
"""A model of timm, perhaps with the tag of its weights."""

_FAMILIES = ("mobilenet_v2", "mobilenet_v3", "resnet", "resnext", "wide_resnet", "efficientnet", "convnext", "densenet")
"""How the names of models begin that can be encoders: their layers are applied one after the other."""

ENCODERS = (
    RANDOM,
    *(name for name in SPECS["chip_classification"].models if name.startswith(_FAMILIES)),
)
"""The encoders that have a name."""

_SHOWN = 12


class DraftTable(Table):
    """How drafts are made: the encoder, and the blocks that a label edit recomputes."""

    not_settings = ("weights",)

    encoder: str = Field(
        RANDOM,
        description="The frozen encoder: random, fixed random filters at several scales, which need no weights and are "
        "weaker; a classification model of torchvision, such as mobilenet_v2 or resnet18; or one of timm, such as "
        "timm/resnet18 (pip install 'rvbuild[timm]').",
    )
    weights: PathText | None = Field(
        None,
        description="The weights of the encoder: a .safetensors or .pth file. Default: those of torchvision or timm, "
        "downloaded once.",
    )
    bands: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = Field(
        None,
        description="The three bands that a model sees, counted from 0 among those of the scene. "
        "Default: the first three; of fewer, the last is repeated. Every band gives its mean and contrast anyway.",
    )
    stride_px: Literal[2, 4, 8] = Field(4, description="The side of a cell: features and scores have this resolution.")
    block_px: Pixels = Field(
        256, description="The side of a block: an edit of labels sums the blocks again that it touches."
    )
    folds: int = Field(
        5, ge=2, le=20, description="How many parts of blocks are left out in turn, to choose what is decided by data."
    )
    scores: bool = Field(True, description="Whether scores.tif is written: the probabilities of the classes in cells.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown encoders, and keys that have no effect with this one."""
        if self.encoder.startswith("timm"):
            if not TIMM.fullmatch(self.encoder):
                text = f"expected the name of a model of timm, such as timm/resnet18, found {show(self.encoder)}"
                yield Finding(("encoder",), text)
        elif self.encoder not in ENCODERS:
            hint = nearest(self.encoder, ENCODERS)
            listed = ", ".join(ENCODERS[:_SHOWN]) + (", …" if len(ENCODERS) > _SHOWN else "")
            yield Finding(("encoder",), f"unknown encoder {show(self.encoder)}{hint or f'; known: {listed}'}")
        elif self.encoder == RANDOM:
            for field in ("weights", "bands"):
                if self.is_set(field):
                    yield no_effect(field, f"with encoder = {show(RANDOM)}", "encoder")
        if self.bands is not None and len(self.bands) != 3:
            yield Finding(("bands",), f"expected three bands, found {len(self.bands)}")
        if self.block_px % (8 * self.stride_px):
            text = f"expected a multiple of 8 cells ({8 * self.stride_px} px), found {self.block_px}"
            yield Finding(("block_px",), text, (("stride_px",),))
