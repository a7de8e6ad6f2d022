"""Weights of classes: in the loss, and in the choice of chips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Tag

from rvbuild.project.toml.table import Context, Finding, by_type

ClassWeights: TypeAlias = Annotated[
    Annotated[Literal["none", "balanced"], Tag("<named>")]
    | Annotated[dict[str, Annotated[float, Field(ge=0)]], Tag("<weights>")],
    by_type({str: "<named>", dict: "<weights>"}, '"none", "balanced" or a table { class = weight }'),
]
Sampling: TypeAlias = Annotated[
    Annotated[Literal["all", "balanced"], Tag("<named>")]
    | Annotated[dict[str, Annotated[float, Field(ge=0)]], Tag("<weights>")],
    by_type({str: "<named>", dict: "<weights>"}, '"all", "balanced" or a table { class = weight }'),
]


def check_weights(
    key: str, weights: str | Mapping[str, float], consequence: str, context: Context
) -> Iterator[Finding]:
    """Find unknown classes, and weights that are all 0.

    Parameters
    ----------
    key, weights
        The key, and its value.
    consequence
        What happens if every class weighs 0.
    context
        Of the table.
    """
    if isinstance(weights, str):
        return
    for name in weights:
        problem = context.class_problem(name, null=False)
        if problem:
            yield Finding((key, name), problem)
    trained = [name for name in context.classes if name != context.null]
    if trained and not any(weights.get(name, 1.0) for name in trained):
        yield Finding((key,), f"every class weighs 0, so {consequence}")
