"""Users' own metrics: functions of an evaluation, whose results are written to `eval.json` under `own`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rvbuild.errors import DataError, RvbuildError
from rvbuild.language.user_code import load_object
from rvbuild.tasks.evaluation import Counts
from rvbuild.tasks.metrics.tables import figure, table

Figures = dict[str, dict[str, float | None]]
"""`package.module:function` → name → value; None if there are none."""


def own_metrics(names: Sequence[str], evaluation: Mapping[str, object], per_scene: Mapping[str, Counts]) -> Figures:
    """Call the user's metrics.

    Parameters
    ----------
    names
        `eval.metrics`: each is called as `function(evaluation, scenes)` and returns a number, or numbers by name.
    evaluation
        The content of `eval.json`.
    per_scene
        The content of `eval/SCENE.json`, by scene id.

    Raises
    ------
    DataError
        A metric fails, or returns something else.
    """
    return {name: _figures(name, evaluation, per_scene) for name in names}


def section(own: Figures) -> str:
    """Return own metrics as Markdown."""
    rows = [
        [f"{name.rpartition(':')[2]} {key}".removesuffix(" value"), figure(math.nan if value is None else value)]
        for name, values in own.items()
        for key, value in values.items()
    ]
    return "\n## Own metrics\n\n" + table(["metric", "value"], rows) + "\n"


def _figures(name: str, evaluation: Mapping[str, object], per_scene: Mapping[str, Counts]) -> dict[str, float | None]:
    function = load_object(name, "eval.metrics")
    try:
        # Copies: a metric that modifies its arguments does not affect others.
        result = function(copy.deepcopy(dict(evaluation)), copy.deepcopy(dict(per_scene)))
    except RvbuildError:
        raise
    except Exception as error:
        raise DataError(f'eval.metrics: "{name}" failed: {type(error).__name__}: {error}') from error
    values = result if isinstance(result, Mapping) else {"value": result}
    return {_key(name, key): _number(name, value) for key, value in values.items()}


def _key(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise DataError(f'eval.metrics: "{name}" must return a number, or numbers by name; found the name {key!r:.80}')
    return key


def _number(name: str, value: Any) -> float | None:
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f'eval.metrics: "{name}" must return a number, or numbers by name; found {value!r:.80}')
    return value
