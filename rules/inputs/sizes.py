"""The sizes of scenes, for rules that cut large ones: a worker opens the images, and answers are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.keys.signature import signature
from rvbuild.engine.store.state import State
from rvbuild.settings.image import SceneImageSettings

Question = tuple[Sequence[str], SceneImageSettings]
"""The files of an image, and the settings to read it, without user code."""

AskSizes = Callable[[Sequence[Question]], Sequence[tuple[int, int] | None]]

_NAME = "rvbuild.geo.raster.open:sizes 1"


class Sizes:
    """Finds the sizes of images.

    Parameters
    ----------
    ask : callable
        Opens images.
    state : State or None
        The store of answers, which are valid until a file's size or times change.
    """

    def __init__(self, ask: AskSizes, state: State | None = None) -> None:
        self._ask, self._state = ask, state
        self._answers: dict[str, tuple[int, int] | None] = {}

    def learn(self, questions: Iterable[Question]) -> None:
        """Answer questions, many at a time."""
        keys = {_key(question): question for question in questions}
        stored = {} if self._state is None else self._state.content_digests(keys, _NAME)
        for key, text in stored.items():
            height, width = json.loads(text)
            self._answers[key] = height, width
        new = {key: question for key, question in keys.items() if key not in self._answers}
        if not new:
            return
        answers = dict(zip(new, self._ask(list(new.values())), strict=True))
        self._answers |= answers
        if self._state is not None:
            good = [(key, size) for key, size in answers.items() if size is not None and key == _key(new[key])]
            self._state.remember_content_digests((key, _NAME, json.dumps(size)) for key, size in good)

    def of(self, question: Question) -> tuple[int, int] | None:
        """Return (height, width) of an image; None if it cannot be opened."""
        key = _key(question)
        if key not in self._answers:
            self.learn([question])
        return self._answers[key]


def _key(question: Question) -> str:
    files, settings = question
    # Servers are asked for remote files anyway, before work.
    return digest([[[file, signature(Path(file))] for file in files], settings])
