"""Writes docs/project_file.md from the schema of project files; a test fails while the two differ.

Run it from the repository after a change of the schema: `python docs/make_reference.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvbuild.project.schema import json_schema

PAGE = Path(__file__).with_name("project_file.md")

HEAD = """\
# The project file: all keys

<!-- Written by docs/make_reference.py from the schema. Edit the descriptions in rvbuild/project/. -->

A project is one TOML file. `rvbuild check` finds what is wrong with it, `rvbuild schema` prints its JSON Schema for
editors, `rvbuild new NAME` writes a commented one to start from, and `--set table.key=value` overrides a key for one
call.

Paths are relative to the workspace: the directory that holds `projects/`, or else the directory of the file itself.
In a path, `{id}` is the scene's id, `${NAME}` an environment variable, and `${NAME:-default}` one with a default.
Sizes carry their unit in their name: `_px` is pixels, `_units` the units of the scene's CRS. Unknown keys are errors.
"""

TABLES = (
    ("[project]", "ProjectTable", ""),
    (
        "[classes]",
        "ClassTable",
        'A line for each class: `name = "#rrggbb"`, or `name = { color = "#rrggbb" }`. The order gives the ids 0, 1, '
        "2 … that `labels.tif` holds. If no class has the name of the null class, one is added as the last.",
    ),
    ("[scenes]", "ScenesTable", ""),
    ('train = { files = "…" }', "PatternTable", "The ids of the scenes, from the names of their files."),
    ("validation = { … }, test = { … }", "SplitTable", "A part of the training scenes, chosen by the seed."),
    ("[scene]", "SceneTable", "What every scene has. `[scenes.by_id.ID]` takes the same keys for one scene."),
    ("image = { … }", "ImageTable", "A table where a path or a list of paths is not enough."),
    ("files = [{ … }]", "LayerTable", ""),
    ('transform = [{ kind = "cast" }]', "CastTable", ""),
    ('transform = [{ kind = "reclass" }]', "ReclassTable", ""),
    ('transform = [{ kind = "nodata" }]', "NodataTable", ""),
    ('transform = [{ kind = "nan" }]', "NanTable", ""),
    ('transform = [{ kind = "expression" }]', "ExpressionTable", ""),
    ('transform = [{ kind = "function" }]', "FunctionTable", ""),
    ('transform = [{ kind = "stats" }]', "StatsTable", ""),
    ('transform = [{ kind = "min_max" }]', "MinMaxTable", ""),
    ('transform = [{ kind = "percentile" }]', "PercentileTable", ""),
    ("labels = { raster = … }", "RasterLabelsTable", ""),
    ("labels = { vector = … }", "VectorLabelsTable", ""),
    ("buffer_px = { … }", "BufferTable", ""),
    *((f"labels = {{ {kind} = … }}", f"{kind.title()}Table", "") for kind in ("coco", "voc", "csv")),
    ("aoi = { … }", "AoiTable", "A part of an area of interest; a path or a list of paths is enough for whole files."),
    ("[analyze]", "AnalyzeTable", ""),
    ("[chip]", "ChipTable", ""),
    ("keep = { … }", "KeepTable", ""),
    ("[train]", "TrainTable", ""),
    ("chips = { … }", "ChipsTable", "A folder of chips with labels, in place of scenes to train on."),
    ("normalize = { … }", "FiguresTable", "What the weights expect of their input."),
    ("[predict]", "PredictTable", ""),
    ("vectors = [{ … }]", "VectorOutputTable", ""),
    ("[eval]", "EvalTable", ""),
    ("[bundle]", "BundleTable", ""),
    ("[draft]", "DraftTable", ""),
    ("[review]", "ReviewTable", ""),
    ("[suggest]", "SuggestTable", ""),
)


ALIKE = {"SceneChipTable"}
"""Tables with the keys of another: `[chip]`."""


def page() -> str:
    """Return the whole page."""
    definitions = json_schema()["$defs"]
    left = set(definitions) - {name for _, name, _ in TABLES} - ALIKE
    assert not left, f"tables of the schema that the page leaves out: {sorted(left)}"
    return HEAD + "".join(_section(title, _table(definitions[name]), text) for title, name, text in TABLES)


def _table(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the object among the forms that a key can take."""
    if "properties" in definition:
        return definition
    return next(form for form in definition["anyOf"] if "properties" in form)


def _section(title: str, table: dict[str, Any], text: str) -> str:
    level = "##" if title.startswith("[") else "###"
    intro = text or table.get("description", "")
    lines = [
        f"\n{level} `{title}`\n",
        *([f"{intro}\n"] if intro else []),
        "| key | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *_rows(table)]) + "\n"


def _rows(table: dict[str, Any]) -> Iterator[str]:
    for key, entry in table["properties"].items():
        if key in table.get("required", ()):
            default = "required"
        elif entry.get("default") is None:
            default = ""
        else:
            default = f"`{json.dumps(entry['default'], ensure_ascii=False)}`"
        meaning = str(entry.get("description", "")).replace("|", "\\|")
        yield f"| `{key}` | {default} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
