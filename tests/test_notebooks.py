"""The notebooks of the documentation run from top to bottom, with the public interface and small data."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import rvbuild
from rvbuild.data.samples import make_potsdam

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
OTHERS = {"numpy", "PIL", "tempfile"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout in small: the notebooks, the project that they open, and its data."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "docs/notebooks", root / "docs/notebooks")
    (root / "projects").mkdir()
    shutil.copy(ROOT / "projects/potsdam.toml", root / "projects")
    make_potsdam(root / "data/potsdam", size_px=192, scenes=("2_10", "2_11", "2_12"))
    return root


def run(path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> list[dict[str, Any]]:
    """Run a notebook in its directory; return its outputs."""
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(home / variable))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # or else it warns
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(nbformat.from_dict(notebook))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_the_public_interface_alone(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    nodes = list(ast.walk(ast.parse(code)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported <= OTHERS | {"rvbuild"}
    names = {n.attr for n in nodes if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "rvbuild"}
    assert names and names <= set(rvbuild.__all__)
    assert not any(isinstance(node, ast.Attribute) and node.attr.startswith("_") for node in nodes)


@pytest.mark.slow
def test_the_notebooks_run(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [path.stem for path in NOTEBOOKS] == ["explore", "predict"]
    for name, count, last in (("explore", 2, "analyze:2_10: missing"), ("predict", 1, "labels.tif")):
        outputs = run(workspace / f"docs/notebooks/{name}.ipynb", monkeypatch, tmp_path)
        assert not [output for output in outputs if output.get("name") == "stderr"], outputs
        data = [output.get("data", {}) for output in outputs]
        assert len([each for each in data if "image/png" in each]) == count
        assert last in json.dumps(outputs[-1])
