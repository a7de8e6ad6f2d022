"""The wheel: nothing but `rvbuild` at the top of site-packages, and it works away from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import click
import pytest

import rvbuild

from .e2e.conftest import write_workspace

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Return an empty folder into which the wheel of this checkout was installed without its dependencies."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("target")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels), cwd=ROOT)
    (wheel,) = wheels.glob("rvbuild-*.whl")
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(folder))
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))
    return folder


def test_only_rvbuild_is_installed_at_the_top(target):
    names = {path.name for path in target.iterdir()}
    assert names == {"rvbuild", f"rvbuild-{rvbuild.__version__}.dist-info", "bin"}
    assert [path.name for path in (target / "bin").iterdir()] == ["rvbuild"]


def test_the_whole_package_is_in_the_wheel(target):
    for package, inside in (("rvbuild", "rvbuild"), ("rules", "rvbuild/rules")):
        sources = {path.relative_to(ROOT / package) for path in (ROOT / package).rglob("*.py")}
        installed = {path.relative_to(target / inside) for path in (target / inside).rglob("*.py")}
        assert sources <= installed
    assert (target / "rvbuild" / "dodo.py").is_file()
    assert (target / "rvbuild" / "py.typed").is_file()
    assert list((target / f"rvbuild-{rvbuild.__version__}.dist-info").rglob("LICENSE"))


def test_programs_that_use_an_install_are_type_checked(target, tmp_path):
    """Types of the installed package count, because of `py.typed`: what is used wrongly is an error."""
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "rvbuild").symlink_to(target / "rvbuild")
    program = tmp_path / "program.py"
    program.write_text(
        "import rvbuild\nproject = rvbuild.open('projects/p.toml')\n"
        "version: str = rvbuild.__version__\nname: str = project.name\nwrong: int = project.name\n"
    )
    python = ("--python-executable", str(tmp_path / "venv/bin/python"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *python, str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition(" (")[0] for line in lines] == ["program.py:5: error: Incompatible types in assignment"]


@pytest.fixture(scope="module")
def environment(target, tmp_path_factory):
    """Return variables for `python -S`: the wheel and its dependencies are there, and nothing of the checkout."""
    packages = tmp_path_factory.mktemp("packages")
    for entry in Path(click.__file__).parents[1].iterdir():
        if entry.suffix != ".pth" and not entry.name.startswith(("rvbuild", "_rvbuild", "__editable__")):
            (packages / entry.name).symlink_to(entry)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(packages)]), "RVBUILD_THREADS": "1"}
    variables.pop("VIRTUAL_ENV", None)
    return variables


@pytest.fixture(scope="module", params=["wheel", "zip archive"])
def installed(request, target, environment, tmp_path_factory):
    """Return a function that runs the installed command in a directory."""
    script, variables = str(target / "bin" / "rvbuild"), environment
    if request.param == "zip archive":
        script = str(tmp_path_factory.mktemp("archive") / "rvbuild.pyz")
        (target / "__main__.py").write_text("import sys\nfrom rvbuild.cli import main\nsys.exit(main())\n")
        zipapp.create_archive(target, script)
        (target / "__main__.py").unlink()
        variables = {**environment, "PYTHONPATH": environment["PYTHONPATH"].partition(os.pathsep)[2]}
    return lambda directory, *arguments: run(sys.executable, "-S", script, *arguments, cwd=directory, env=variables)


def checkout(directory, *arguments):
    variables = {**os.environ, "RVBUILD_THREADS": "1"}
    return run(sys.executable, "-m", "rvbuild", *arguments, cwd=directory, env=variables)


def states(text):
    return {a["state"] for a in json.loads(text)["artifacts"]}


def content(workspace):
    folder = workspace / "cache" / "p"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a workspace with a project that trains in a second, not built yet."""
    return write_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def built_by_the_checkout(workspace, tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout") / "ws"
    shutil.copytree(workspace, root)
    checkout(root, "build", "-q", "-j", "1")
    return root


def test_what_the_checkout_built_is_fresh_everywhere(installed, built_by_the_checkout):
    assert states(installed(built_by_the_checkout, "status", "--json")) == {"fresh"}
    assert "nothing to do" in installed(built_by_the_checkout, "build", "-j", "1")


def test_every_install_builds_the_same_bytes(installed, workspace, built_by_the_checkout, tmp_path):
    root = tmp_path / "ws"
    shutil.copytree(workspace, root)
    installed(root, "build", "-q", "-j", "1")
    assert states(checkout(root, "status", "--json")) == {"fresh"}
    assert content(root) == content(built_by_the_checkout)


def test_code_of_stages_is_found_among_our_own_files(target, environment, tmp_path):
    script = (
        "import importlib, sys; from rvbuild.engine.keys import installed\n"
        "from rvbuild.rules import lock\n"
        "opened = []; sys.addaudithook(lambda event, values: event == 'open' and opened.append(str(values[0])))\n"
        "print([lock.code_digest(stage, 'semantic_segmentation') for stage in ('chip', 'train', 'report')])\n"
        "print([name for name in opened if not name.startswith(sys.argv[1])])"
    )
    output = run(sys.executable, "-S", "-c", script, str(target), cwd=tmp_path, env=environment)
    first, other = output.splitlines()
    assert other == "[]"
    assert first == run(sys.executable, "-c", script, str(ROOT), cwd=ROOT).splitlines()[0]


def test_the_installed_command_works_in_an_empty_directory(installed, target, environment, tmp_path):
    where = run(sys.executable, "-S", "-c", "import rvbuild; print(rvbuild.__file__)", cwd=tmp_path, env=environment)
    assert Path(where.strip()).is_relative_to(target)
    assert rvbuild.__version__ in installed(tmp_path, "--version")
    installed(tmp_path, "status")
    installed(tmp_path, "new", "parcels")
    assert "14 missing" in installed(tmp_path, "status", "projects/parcels.toml"), "by the rules inside the wheel"


def test_a_new_workspace_has_the_tasks_of_doit(installed, environment, tmp_path):
    installed(tmp_path, "new", "parcels")
    listed = run(sys.executable, "-S", "-m", "doit", "list", "--all", cwd=tmp_path, env=environment)
    assert "predict:parcels:c" in listed


def test_the_examples_are_installed(installed, tmp_path):
    written = installed(tmp_path, "new", "--example", "yellowstone_crowns")
    assert "python -m rvbuild.data fetch yellowstone" in written
    example = ROOT / "projects" / "yellowstone_crowns.toml"
    assert (tmp_path / "projects" / "yellowstone_crowns.toml").read_text() == example.read_text()
