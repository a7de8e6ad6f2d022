"""The names of stages as users write them, and the stages that each name stands for. Nothing heavy is imported here."""

from __future__ import annotations

from rvbuild.stages.names import COMMANDS, PARTS

STAGES = tuple(COMMANDS)
"""The stages that have a command."""
BUILDING = (*STAGES, "build")
CLEANED = (*STAGES, "data")
"""The stages that `clean` accepts."""


def stages_of(word: str) -> tuple[str, ...]:
    """Return the stages that a command or the name of a stage stands for.

    >>> stages_of("predict"), stages_of("infer"), stages_of("eval")
    (('infer', 'predict', 'mosaic'), ('infer',), ('eval',))
    """
    return PARTS.get(word, (word,))
