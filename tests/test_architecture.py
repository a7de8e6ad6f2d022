"""The house rules that no linter knows: who imports whom, what stays unloaded, how long a module may be."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"numpy", "torch", "torchvision", "rasterio", "fiona"}
PIXELS = HEAVY | {"shapely", "PIL", "safetensors", "affine", "pyproj"}

# The rooms of the house from top to bottom: a module imports from its own room and from those below.
HOUSE = (
    *("dodo", "__main__", "cli", "view", "api", "session", "data", "checks", "rules"),
    *("stages", "review", "tasks", "learn", "geo", "project", "engine"),
    *("settings", "language", "files", "process", "cores", "errors", "progress", "units"),
)
WORK = {"stages", "review", "tasks", "learn", "geo"}
STRANGERS = {
    **{room: {"engine"} for room in WORK},  # whoever computes does not know that results are kept
    "project": {"engine"},
    "engine": {"project", "settings"},
    "data": {"checks", "rules", "stages", "tasks", "learn", "project", "engine"},
}
"""Rooms that a room has no business in, although they are below."""

MOST_LINES = 400
MOST_MODULES = 16


def modules() -> Iterator[tuple[str, Path]]:
    """Yield dotted name and path of every module of ours."""
    for package in ("rvbuild", "rvbuild/rules"):  # a symbolic link, which rglob does not follow
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
    yield "dodo", ROOT / "dodo.py"


MODULES = dict(modules())


def room_of(module: str) -> str:
    """Return the room that a module is in; the package itself is `rvbuild`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "rvbuild" and len(parts) > 1 else parts[0]


def imports(module: str, path: Path) -> set[str]:
    """Return every module that a module imports, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if module == "rvbuild":  # it tells type checkers what it imports when that is first used
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                modules.add(name if name in MODULES else source)
    return modules


def of_ours(module: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    return {name for name in imports(module, MODULES[module]) if name.split(".")[0] in {"rvbuild", "dodo"}}


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    room = room_of(module)
    if room == "rvbuild":
        assert of_ours(module) == set()
        return
    below = {"rvbuild", *HOUSE[HOUSE.index(room) :]} - STRANGERS.get(room, set())
    assert {name for name in of_ours(module) if room_of(name) not in below} == set()


@pytest.mark.slow
def test_no_modules_import_each_other():
    graph = {module: of_ours(module) - {module} for module in MODULES}
    while graph:
        ends = {module for module, imported in graph.items() if not imported & set(graph)}
        assert ends, f"circles among {sorted(graph)}"
        graph = {module: imported for module, imported in graph.items() if module not in ends}


def test_folders_are_small_enough_to_be_read():
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if room_of(name) in {"project", "engine", "rules", "settings"})
)
def test_the_declaring_and_the_building_part_know_no_pixels(module):
    assert {name.split(".")[0] for name in imports(module, MODULES[module])} & PIXELS == set()


@pytest.mark.slow
def test_fiona_stays_behind_one_reader_and_one_writer():
    users = {module for module, path in MODULES.items() if "fiona" in {n.split(".")[0] for n in imports(module, path)}}
    assert users == {"rvbuild.geo.vector.files", "rvbuild.geo.write.layer"}


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_is_short_and_says_what_it_is(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.endswith("__main__")))
def test_module_can_be_imported(module):
    importlib.import_module(module)


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(n for n in MODULES if room_of(n) in WORK))
def test_work_never_prints_nor_unpickles(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "print" not in {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    assert not {"pickle", "dill", "joblib"} & imports(module, MODULES[module])
    for call in calls:
        if ast.unparse(call.func) == "torch.load":
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get("weights_only") == "True"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room_of(name) == "stages"))
def test_stages_do_not_ask_which_task_it_is(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    constants = {
        constant.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.MatchValue)
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant)
    }
    assert constants & {"semantic_segmentation", "object_detection", "chip_classification"} == set()


@pytest.mark.slow
def test_lists_of_names_stand_once():
    """The formats that are written are listed in one module, the tasks in one of each room that has a part for each."""
    listed: dict[str, set[str]] = {"fgb": set(), "object_detection": set()}
    for module, path in MODULES.items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in {node.value for node in nodes if isinstance(node, ast.Constant)} & set(listed):
            listed[name].add(module)
    assert listed == {
        "fgb": {"rvbuild.files.formats"},
        "object_detection": {
            *("rvbuild.project.tasks.detection", "rvbuild.project.applied"),
            *("rvbuild.learn.models", "rvbuild.rules.golden"),
        },
    }


def test_each_stage_has_a_rule():
    from rvbuild.rules import RULES
    from rvbuild.stages.names import STAGES

    assert tuple(RULES) == STAGES


def loaded(code: str, *arguments: str, cwd: Path = ROOT) -> set[str]:
    """Run code in a new process and return the heavy packages that it has loaded at its end."""
    watch = "import atexit, sys\natexit.register(lambda: print('\\nloaded:', *sys.modules, file=sys.stderr))\n"
    done = subprocess.run(
        [sys.executable, "-c", watch + code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name.split(".")[0] for name in re.findall(r"^loaded: (.*)$", done.stderr, re.MULTILINE)[-1].split()}


RUN = "import sys\nfrom rvbuild.cli import main\nsys.argv[0] = 'rvbuild'\nsys.exit(main())\n"


def test_importing_the_package_loads_nothing():
    assert loaded("import rvbuild") & (PIXELS | {"doit", "pydantic", "click", "rich"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("build", "--help"), ("schema",)])
def test_help_loads_no_pixels(arguments):
    assert loaded(RUN, *arguments) & HEAVY == set()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a workspace with one project whose imagery has two scenes of 64 pixels, as `analyze` needs it."""
    import numpy as np
    import rasterio
    from affine import Affine

    folder = tmp_path_factory.mktemp("workspace")
    (folder / "projects").mkdir()
    for scene in ("a", "b"):
        rng = np.random.default_rng(ord(scene))
        profile = {
            "driver": "GTiff",
            "width": 64,
            "height": 64,
            "dtype": "uint8",
            "crs": "EPSG:32633",
            "transform": Affine(1, 0, 500000, 0, -1, 5800000),
        }
        with rasterio.open(folder / f"{scene}.tif", "w", count=3, **profile) as image:
            image.write(rng.integers(0, 256, (3, 64, 64), dtype=np.uint8))
        with rasterio.open(folder / f"{scene}_label.tif", "w", count=1, **profile) as labels:
            labels.write(rng.integers(0, 2, (1, 64, 64), dtype=np.uint8))
    (folder / "projects" / "tiny.toml").write_text(
        """
[project]
task = "semantic_segmentation"
[classes]
field = "#00ff00"
road = "#808080"
[scenes]
train = ["a"]
validation = ["b"]
[scene]
image = "{id}.tif"
labels = { raster = "{id}_label.tif", encoding = "id" }
[chip]
size_px = 32
[train]
pretrained = false
""",
    )
    return folder


@pytest.mark.slow
def test_planning_and_a_run_with_nothing_to_do_load_no_pixels(workspace):
    assert loaded(RUN, "status", cwd=workspace) & HEAVY == set()
    assert loaded(RUN, "chip", "projects/tiny.toml", cwd=workspace)
    for arguments in (
        ("chip", "projects/tiny.toml"),
        ("status", "projects/tiny.toml"),
        ("why", "chip:a", "projects/tiny.toml"),
        ("why", "train", "projects/tiny.toml"),
        ("graph", "projects/tiny.toml"),
        ("build", "--dry-run", "projects/tiny.toml"),
        ("check", "projects/tiny.toml"),
    ):
        assert loaded(RUN, *arguments, cwd=workspace) & HEAVY == set(), arguments


@pytest.mark.slow
def test_a_sealed_run_loads_neither_doit_nor_pydantic(workspace):
    loaded(RUN, "chip", "projects/tiny.toml", cwd=workspace)
    assert loaded(RUN, "chip", "projects/tiny.toml", cwd=workspace) & (HEAVY | {"doit", "pydantic"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        *("analyze.scene", "analyze.merge", "chip.stage", "evaluate.scene", "evaluate.merge"),
        *("bundle.write", "report.scene", "report.page"),
    ],
)
def test_stages_that_do_not_compute_with_models_load_no_torch(stage: str) -> None:
    script = (
        f"import sys, rvbuild.stages.{stage}, rvbuild.tasks\n"
        "for task in rvbuild.tasks.NAMES: rvbuild.tasks.get(task)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
