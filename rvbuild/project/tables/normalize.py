"""`train.normalize`: the conversion of values to input, and the normalisation that pretrained weights expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict, Tag

from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, Table, by_type
from rvbuild.settings.normalize import StandardSettings

_KEYS = (("pretrained",), ("model",))


class FiguresTable(Table):
    """The normalisation that weights expect."""

    mean: Annotated[tuple[float, ...], Strict(False)] = Field(description="Mean of each band, for values from 0 to 1.")
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False)] = Field(
        description="Standard deviation of each band, for values from 0 to 1."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find lists of different lengths."""
        if len(self.mean) != len(self.std) or not self.mean:
            yield Finding(
                (), f"expected as many means as standard deviations, found {len(self.mean)} and {len(self.std)}"
            )

    def stage_settings(self) -> StandardSettings:
        """Return the settings."""
        return self.settings_as(StandardSettings)


Normalize: TypeAlias = Annotated[
    Annotated[Literal["auto", "pretrained"], Tag("<named>")] | Annotated[FiguresTable, Tag("<figures>")],
    by_type(
        {str: "<named>", dict: "<figures>", FiguresTable: "<figures>"},
        '"auto", "pretrained" or a table { mean = [...], std = [...] }',
    ),
]


def without_figures(model: str, random: bool, known: bool) -> Iterator[Finding]:
    """Report `pretrained` if the model starts from `random` weights, or their normalisation is not `known`."""
    figures = "give it as { mean = [...], std = [...] }, for values from 0 to 1"
    if random:
        message = (
            f'"pretrained" needs pretrained weights, but the model starts from random ones; remove it, or {figures}'
        )
        yield Finding(("normalize",), message, _KEYS)
    elif not known:
        message = f"the normalisation of the weights of {show(model)} is not known; {figures}"
        yield Finding(("normalize",), message, _KEYS)
