"""The wheel: nothing but `rvbuild` at the top of site-packages, and it works away from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import rvbuild

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


def test_the_installed_command_works_in_an_empty_directory(target, tmp_path):
    # -S: without site-packages' .pth files, one of which leads back into the checkout.
    packages = str(Path(click.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), packages])}
    environment.pop("VIRTUAL_ENV", None)

    def rvbuild_command(*arguments):
        script = str(target / "bin" / "rvbuild")
        return run(sys.executable, "-S", script, *arguments, cwd=tmp_path, env=environment)

    where = run(sys.executable, "-S", "-c", "import rvbuild; print(rvbuild.__file__)", cwd=tmp_path, env=environment)
    assert Path(where.strip()).is_relative_to(target)
    assert rvbuild.__version__ in rvbuild_command("--version")
    rvbuild_command("status")
    rvbuild_command("new", "parcels")
    assert "14 missing" in rvbuild_command("status", "projects/parcels.toml"), "by the rules inside the wheel"
