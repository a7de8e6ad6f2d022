"""What a user declares: the project file, its schema, and every error in it at once.

`load` reads a file and returns a `Project`, which the rules turn into artifacts. Nothing here knows pixels: this
package imports neither numpy nor torch nor rasterio, and no file is looked for before `missing_files` is asked.
"""

from rvbuild.project.load import load
from rvbuild.project.missing import missing_files
from rvbuild.project.model import ClassDef, ImageSource, LayeredLabels, Project, RasterLabels, Scene, VectorLabels
from rvbuild.project.scenes.splits import Split
from rvbuild.project.schema import json_schema
from rvbuild.project.starter import starter

__all__ = [
    "ClassDef",
    "ImageSource",
    "LayeredLabels",
    "Project",
    "RasterLabels",
    "Scene",
    "Split",
    "VectorLabels",
    "json_schema",
    "load",
    "missing_files",
    "starter",
]
