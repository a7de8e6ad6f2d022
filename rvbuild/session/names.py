"""The names of stages as people write them, and which stages each one means. Nothing heavy is imported here."""

from __future__ import annotations

from rvbuild.stages.names import COMMANDS, PARTS, on_request

STAGES = tuple(COMMANDS)
"""The stages that have a command, as people name them."""
BUILDING = (*STAGES, "build")
CLEANED = (*STAGES, "data")
"""What `clean` knows: what builds make, and what is made when it is asked for."""


def stages_of(word: str) -> tuple[str, ...]:
    """Return the stages of the artifacts that a command or the name of a stage means.

    >>> stages_of("predict"), stages_of("infer"), stages_of("eval")
    (('infer', 'predict', 'mosaic'), ('infer',), ('eval',))
    """
    return PARTS.get(word, (word,))


def belongs(stage: str, word: str) -> bool:
    """Tell whether the artifacts of a stage are built by a command.

    >>> belongs("infer", "predict"), belongs("train", "build"), belongs("draft", "build")
    (True, True, False)
    """
    return not on_request(stage) if word == "build" else stage in stages_of(word)
