"""Make for geospatial deep learning: exact incremental builds of TOML projects.

`docs/api.md` describes the public names, which are imported when they are first used.
"""

__version__ = "0.1.0"

__all__ = [
    "ArtifactResult",
    "ArtifactStatus",
    "Backend",
    "BuildError",
    "Cause",
    "ChipArrays",
    "ChipDataset",
    "ClassDef",
    "DataError",
    "Did",
    "Evaluation",
    "Explanation",
    "Fitted",
    "Grid",
    "Model",
    "ModelError",
    "ModelSpec",
    "Pixels",
    "Prediction",
    "Project",
    "ProjectError",
    "Run",
    "RvbuildError",
    "Scene",
    "StageError",
    "State",
    "Stored",
    "UsageError",
    "Window",
    "__version__",
    "fit",
    "load_model",
    "open",
]

_PLACES = {
    "ArtifactResult": "rvbuild.api.runs",
    "ArtifactStatus": "rvbuild.engine.plan.artifact_status",
    "Backend": "rvbuild.learn.backend",
    "BuildError": "rvbuild.api.runs",
    "Cause": "rvbuild.session.status",
    "ChipArrays": "rvbuild.learn.backend",
    "ChipDataset": "rvbuild.api.chips",
    "ClassDef": "rvbuild.project.model",
    "DataError": "rvbuild.errors",
    "Did": "rvbuild.engine.run.outcome",
    "Evaluation": "rvbuild.api.evaluation",
    "Explanation": "rvbuild.session.status",
    "Fitted": "rvbuild.learn.fit",
    "Grid": "rvbuild.geo.grid",
    "Model": "rvbuild.api.model",
    "ModelError": "rvbuild.errors",
    "ModelSpec": "rvbuild.learn.backend",
    "Pixels": "rvbuild.api.scene",
    "Prediction": "rvbuild.api.model",
    "Project": "rvbuild.api.project",
    "ProjectError": "rvbuild.errors",
    "Run": "rvbuild.api.runs",
    "RvbuildError": "rvbuild.errors",
    "Scene": "rvbuild.api.scene",
    "StageError": "rvbuild.errors",
    "State": "rvbuild.engine.plan.decide",
    "Stored": "rvbuild.session.status",
    "UsageError": "rvbuild.errors",
    "Window": "rvbuild.geo.windows",
    "fit": "rvbuild.learn.fit",
    "load_model": "rvbuild.api.model",
    "open": "rvbuild.api.project:open_project",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvbuild.api.chips import ChipDataset
    from rvbuild.api.evaluation import Evaluation
    from rvbuild.api.model import Model, Prediction, load_model
    from rvbuild.api.project import Project
    from rvbuild.api.project import open_project as open
    from rvbuild.api.runs import ArtifactResult, BuildError, Run
    from rvbuild.api.scene import Pixels, Scene
    from rvbuild.engine.plan.artifact_status import ArtifactStatus
    from rvbuild.engine.plan.decide import State
    from rvbuild.engine.run.outcome import Did
    from rvbuild.errors import DataError, ModelError, ProjectError, RvbuildError, StageError, UsageError
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.windows import Window
    from rvbuild.learn.backend import Backend, ChipArrays, ModelSpec
    from rvbuild.learn.fit import Fitted, fit
    from rvbuild.project.model import ClassDef
    from rvbuild.session.status import Cause, Explanation, Stored


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, there = place.partition(":")
    try:
        value: object = getattr(import_module(module), there or name)
    except ModuleNotFoundError as error:
        if error.name not in ("pydantic", "tomli", "torch"):
            raise
        raise ImportError(
            f"rvbuild.{name} needs {error.name}, which is not installed; rvbuild-runtime only predicts with bundles. "
            "Install all of it with `pip install rvbuild`, in an environment of its own"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
