"""An evaluation as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvbuild.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Evaluation:
    """The content of an `eval.json`. `Project.evaluation` reads it.

    Attributes
    ----------
    overall : list of dict
        One entry for each class, over all scenes: `class_id`, `class_name`, and `metrics` by name.
    per_scene : dict
        Scene id → entries as in `overall`.
    summary : dict
        Averages over all classes, `overall` and by scene.
    data : dict
        The whole file.

    Examples
    --------
    >>> import rvbuild
    >>> evaluation = rvbuild.open("projects/p.toml").evaluation()
    >>> [entry["class_name"] for entry in evaluation.overall]
    ['building', 'ground', 'null', 'average']
    """

    overall: list[dict[str, Any]]
    per_scene: dict[str, list[dict[str, Any]]]
    summary: dict[str, Any]
    data: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each class, over all scenes and for each: `scene` (None: all), names and metrics."""
        groups = [(None, self.overall), *self.per_scene.items()]
        return [
            {
                "scene": scene,
                **{key: value for key, value in entry.items() if key != "metrics" and not isinstance(value, dict)},
                **entry["metrics"],
            }
            for scene, entries in groups
            for entry in entries
        ]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return `rows` as a table.

        Raises
        ------
        UsageError
            The package pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("Evaluation.to_dataframe needs the package pandas: pip install pandas") from None
        return pandas.DataFrame(self.rows())


def read_evaluation(path: Path) -> Evaluation:
    """Read an `eval.json`.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(data["overall"], data["per_scene"], data["summary"], data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as an evaluation ({error!r}); build eval again") from error
