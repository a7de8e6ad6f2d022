"""The names of stages as users write them, and the stages that each name stands for. Nothing heavy is imported here."""

from __future__ import annotations

from rvbuild.stages.names import COMMANDS, PARTS, on_request

STAGES = tuple(COMMANDS)
"""The stages that have a command."""
BUILDING = (*STAGES, "build")
CLEANED = (*STAGES, "data", "folds")
"""The stages that `clean` accepts."""


def stages_of(word: str) -> tuple[str, ...]:
    """Return the stages that a command or the name of a stage stands for.

    >>> stages_of("predict"), stages_of("infer"), stages_of("eval")
    (('export', 'strips', 'infer', 'predict', 'mosaic'), ('strips', 'infer'), ('eval',))
    """
    return PARTS.get(word, (word,))


def belongs(stage: str, word: str) -> bool:
    """Tell whether the artifacts of a stage are built by a command.

    >>> belongs("infer", "predict"), belongs("train", "build"), belongs("draft", "build")
    (True, True, False)
    """
    return not on_request(stage) if word == "build" else stage in stages_of(word)
