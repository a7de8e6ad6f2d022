"""The house rules that no linter knows: who imports whom, what stays unloaded, how long a module may be."""

import ast
import functools
import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
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

LOAD = "torch.load"
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


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Return a module as a tree."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@functools.cache
def nodes_of(module: str) -> tuple[ast.AST, ...]:
    """Return all nodes of the tree of a module."""
    return tuple(ast.walk(tree_of(module)))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Return every module that a module imports, at its top or inside a function."""
    path, nodes = MODULES[module], nodes_of(module)
    if module == "rvbuild":  # it tells type checkers what it imports when that is first used
        body = [node for node in tree_of(module).body if not isinstance(node, ast.If)]
        nodes = tuple(ast.walk(ast.Module(body, [])))
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                modules.add(name if name in MODULES else source)
    return frozenset(modules)


def packages(module: str) -> set[str]:
    """Return the packages that a module imports from."""
    return {name.split(".")[0] for name in imports(module)}


def of_ours(module: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    return {name for name in imports(module) if name.split(".")[0] in {"rvbuild", "dodo"}}


def modules_in(*rooms: str) -> list[str]:
    """Return the modules of some rooms."""
    return [module for module in MODULES if room_of(module) in rooms]


def offenders(modules: Iterable[str], offences: Callable[[str], Collection[object]]) -> dict[str, Collection[object]]:
    """Return the modules that break a rule, with what is wrong in each."""
    return {module: wrong for module in modules if (wrong := offences(module))}


@pytest.mark.slow
def test_imports_go_down():
    def above(module: str) -> set[str]:
        room = room_of(module)
        if room == "rvbuild":
            return of_ours(module)
        below = {"rvbuild", *HOUSE[HOUSE.index(room) :]} - STRANGERS.get(room, set())
        return {name for name in of_ours(module) if room_of(name) not in below}

    assert offenders(MODULES, above) == {}


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


@pytest.mark.slow
def test_the_declaring_and_the_building_part_know_no_pixels():
    modules = modules_in("project", "engine", "rules", "settings")
    assert offenders(modules, lambda module: packages(module) & PIXELS) == {}


@pytest.mark.slow
def test_fiona_stays_behind_one_reader_and_one_writer():
    users = {module for module in MODULES if "fiona" in packages(module)}
    assert users == {"rvbuild.geo.vector.files", "rvbuild.geo.write.vectors.layer"}


@pytest.mark.slow
def test_modules_are_short_and_say_what_they_are():
    def wrong(module: str) -> list[str]:
        lines = MODULES[module].read_text(encoding="utf-8").count("\n")
        long = [f"{lines} lines"] if lines > MOST_LINES else []
        return [*long, *([] if ast.get_docstring(tree_of(module)) else ["no docstring"])]

    assert offenders(MODULES, wrong) == {}


@pytest.mark.slow
def test_modules_can_be_imported():
    for module in MODULES:
        if not module.endswith("__main__"):
            importlib.import_module(module)


@pytest.mark.slow
def test_work_never_prints_nor_unpickles():
    def wrong(module: str) -> set[str]:
        calls = [(ast.unparse(node.func), node) for node in nodes_of(module) if isinstance(node, ast.Call)]
        words = [{word.arg: ast.unparse(word.value) for word in node.keywords} for name, node in calls if name == LOAD]
        unsafe = {LOAD for given in words if given.get("weights_only") != "True"}
        return {"print"} & {name for name, _ in calls} | {"pickle", "dill", "joblib"} & imports(module) | unsafe

    assert offenders(modules_in(*WORK), wrong) == {}


@pytest.mark.slow
def test_stages_do_not_ask_which_task_it_is():
    tasks = {"semantic_segmentation", "object_detection", "chip_classification"}

    def asked(module: str) -> set[str]:
        compared = [node for node in nodes_of(module) if isinstance(node, ast.Compare | ast.MatchValue)]
        constants = [node for part in compared for node in ast.walk(part) if isinstance(node, ast.Constant)]
        return {node.value for node in constants} & tasks

    assert offenders(modules_in("stages"), asked) == {}


@pytest.mark.slow
def test_lists_of_names_stand_once():
    """The formats that are written are listed in one module, the tasks in one of each room that has a part for each."""
    listed: dict[str, set[str]] = {"fgb": set(), "object_detection": set()}
    for module in MODULES:
        for name in {node.value for node in nodes_of(module) if isinstance(node, ast.Constant)} & set(listed):
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
    """Run code in a new process and return the packages that it has loaded at its end."""
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
RUN_EACH = """
import sys
from rvbuild.cli import main
for line in sys.argv[1:]:
    sys.argv = ["rvbuild", *line.split()]
    try:
        status = main()
    except SystemExit as exit:
        status = exit.code or 0
    loaded = HEAVY & set(sys.modules)
    assert not status and not loaded, (line, status, loaded)
"""


def run_each(*lines: str, cwd: Path = ROOT) -> None:
    """Run command lines one after another in a process, and see that none of them fails or loads heavy packages."""
    loaded(RUN_EACH.replace("HEAVY", repr(HEAVY)), *lines, cwd=cwd)


def test_importing_the_package_loads_nothing():
    assert loaded("import rvbuild") & (PIXELS | {"doit", "pydantic", "click", "rich"}) == set()


@pytest.mark.slow
def test_help_loads_no_pixels():
    run_each("--help", "--version", "build --help", "schema")


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
    project = "projects/tiny.toml"
    run_each("status", f"chip {project}", cwd=workspace)  # workers load what they compute with
    run_each(
        f"chip {project}",
        "status",
        f"why chip:a {project}",
        f"why train {project}",
        f"graph {project}",
        f"build --dry-run {project}",
        f"check {project}",
        cwd=workspace,
    )


@pytest.mark.slow
def test_a_sealed_run_loads_neither_doit_nor_pydantic(workspace):
    loaded(RUN, "chip", "projects/tiny.toml", cwd=workspace)
    assert loaded(RUN, "chip", "projects/tiny.toml", cwd=workspace) & (HEAVY | {"doit", "pydantic"}) == set()


@pytest.mark.slow
def test_stages_that_do_not_compute_with_models_load_no_torch() -> None:
    stages = (
        *("analyze.scene", "analyze.merge", "chip.stage", "evaluate.scene", "evaluate.merge"),
        *("bundle.write", "report.scene", "report.page"),
    )
    script = (
        "import importlib, sys, rvbuild.tasks\n"
        "for task in rvbuild.tasks.NAMES: rvbuild.tasks.get(task)\n"
        f"for stage in {stages}:\n"
        "    importlib.import_module(f'rvbuild.stages.{stage}')\n"
        "    assert 'torch' not in sys.modules, stage\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
