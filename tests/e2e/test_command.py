"""The command as a newcomer meets it: help, mistakes, exit statuses, starters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_every_command_has_help(space):
    out = space.process("--help").out
    for command in (
        "analyze",
        "chip",
        "train",
        "predict",
        "eval",
        "bundle",
        "report",
        "build",
        "status",
        "why",
        "graph",
        "clean",
    ):
        assert f"\n  {command} " in out
    assert space.process("predict", "--help").status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predicted"], 'did you mean "predict"'),
        (["chip", "nowhere.toml"], "nowhere.toml: no such project file"),
        (["chip", "data/a.tif"], "not a project file"),
        (["chip", "--scene", "aa"], "--scene aa: chip has no such scene"),
        (["chip", "-j", "0"], "-j"),
        (["why", "chop"], 'did you mean "chip"'),
        (["clean", "trian"], 'did you mean "train"'),
        (["predict", "x.zip", "data/a.tif"], "-o DIR"),
        (["predict", "x.zip", "data/a.tif", "-o", "out"], "no such file: x.zip"),
        (["chip", "x.zip"], "a bundle is for `rvbuild predict`"),
        (["chip", "--set", "chip.size_px=big"], "chip.size_px"),
        (["new", "a/b"], "a project's name is a file name"),
        (["new", "p"], "already exists"),
        (["new"], "rvbuild new parcels"),
        (["new", "--example"], "examples: atlanta_buildings, "),
        (["new", "--example", "yellowstone_crown"], 'did you mean "yellowstone_crowns"?'),
    ],
)
def test_a_mistake_is_one_message_and_status_2(space, words, message):
    result = space.rvbuild(*words)
    assert result.status == 2, result.out
    assert message in result.err
    assert "Traceback" not in result.err


def test_all_mistakes_of_a_project_file_at_once(space):
    space.edit("size_px = 32", "sise_px = 32")
    space.edit("epochs = 2", 'epochs = "two"')
    space.edit('validation = ["c"]', 'validation = ["c", "a"]')
    result = space.rvbuild("check")
    assert result.status == 2
    lines = result.err.splitlines()
    assert any(line.endswith('chip.sise_px: unknown key; did you mean "size_px"?') for line in lines)
    assert any("train.epochs" in line and line.startswith("projects/p.toml:") for line in lines)
    assert any("scenes" in line and '"a"' in line for line in lines)


def test_missing_data_are_all_listed_with_the_scene(space):
    (space.root / "data/a.tif").unlink()
    (space.root / "data/c.geojson").unlink()
    result = space.rvbuild("build")
    assert result.status == 2
    assert "data/a.tif (scene a)" in result.err
    assert "data/c.geojson (scene c)" in result.err
    assert space.rvbuild("chip", "--scene", "b").status == 0  # what does not need them still works


def test_check_says_good(space):
    result = space.rvbuild("check")
    assert (result.status, result.err) == (0, "")
    assert "projects/p.toml: good" in result.out


def test_new_writes_a_project_that_loads(space):
    result = space.rvbuild("new", "parcels")
    assert result.status == 0
    text = (space.root / "projects/parcels.toml").read_text()
    assert "[scenes]" in text
    checked = space.rvbuild("check", "projects/parcels.toml")
    assert "unknown key" not in checked.err
    assert all(
        "no such file" in line or ":" not in line[:30] or line.startswith(" ") for line in checked.err.splitlines()
    )


def test_new_leaves_a_dodo_file_alone(space):
    (space.root / "dodo.py").write_text("# mine\n")
    assert space.rvbuild("new", "parcels").status == 0
    assert (space.root / "dodo.py").read_text() == "# mine\n"


def test_new_suggests_a_command_that_a_shell_reads(tmp_path, monkeypatch, capsys):
    from rvbuild.cli.commands import new as writing

    monkeypatch.chdir(tmp_path)
    assert writing.new("my $fields", "chip_classification") == 0
    assert capsys.readouterr().out.endswith("then `rvbuild check 'projects/my $fields.toml'`\n")


def test_schema_is_json(space):
    schema = json.loads(space.rvbuild("schema").out)
    assert "chip" in schema["properties"]


def test_status_without_projects_says_what_to_do(tmp_path):
    from .conftest import Space

    empty = Space(tmp_path)
    result = empty.rvbuild("status")
    assert result.status == 0
    assert "rvbuild new" in result.out


def test_two_projects_in_one_call(space):
    text = (space.root / "projects/p.toml").read_text()
    (space.root / "projects/q.toml").write_text(text.replace("size_px = 32", "size_px = 40"))
    result = space.rvbuild("chip", "--json")
    assert {a["project"] for a in result.json["artifacts"]} == {"p", "q"}
    assert result.status == 0


def test_a_sealed_run_loads_nothing(built):
    script = (
        "import sys; sys.argv = ['rvbuild', 'build', 'projects/p.toml']\n"
        "from rvbuild.cli import main; status = main()\n"
        "heavy = {'numpy', 'torch', 'torchvision', 'rasterio', 'fiona', 'doit', 'pydantic', 'click'}\n"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    assert built.process("build", "projects/p.toml").status == 0
    run = subprocess.run([sys.executable, "-c", script], cwd=built.root, capture_output=True, text=True, env=os.environ)
    assert run.stdout.startswith("nothing to do (14 artifacts up to date)\n")
    assert run.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("edit", ["source", "output", "project", "world file", "sidecar", "environment"])
def test_the_seal_breaks_when_anything_changes(built, edit, monkeypatch):
    text = built.project.read_text()
    built.project.write_text(text.replace("data/{id}.tif", "${WHERE:-data}/{id}.tif"))
    sidecar = built.root / "data/a.tif.aux.xml"
    sidecar.write_text("<PAMDataset><Metadata/></PAMDataset>")
    from rvbuild.cli.commands import build as building
    from rvbuild.engine.plan import seal

    path = built.root / "projects/p.toml"
    words = ["chip", str(path)]
    monkeypatch.chdir(built.root)
    assert building.build("chip", words[1:], building.Options(verbosity=-1, inline=True), words) == 0
    where = Path(seal.path_of(built.root / "cache", words))
    assert seal.holds(where, words)
    if edit == "source":
        (built.root / "data/b.tif").touch()
    elif edit == "output":
        (built.root / "cache/p/chip/a/index.json").unlink()
    elif edit == "project":
        path.write_text(path.read_text() + "\n")
    elif edit == "sidecar":
        with sidecar.open("w") as file:  # in place, so that the folder stays as it is
            file.write("<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform></PAMDataset>")
    elif edit == "world file":
        Path(built.root / "data/a.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    else:
        os.environ["WHERE"] = "elsewhere"
    try:
        assert seal.holds(where, words) is None
    finally:
        os.environ.pop("WHERE", None)


def test_a_world_file_that_appears_while_a_run_ends_breaks_its_seal(built, monkeypatch):
    from rvbuild.cli.commands import build as building
    from rvbuild.engine.plan import seal

    write, words = seal.write, ["chip", str(built.root / "projects/p.toml")]
    (built.root / "data/a.tfw").unlink(missing_ok=True)

    def too_late(*arguments, **more):
        (built.root / "data/a.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
        write(*arguments, **more)

    monkeypatch.setattr(seal, "write", too_late)
    monkeypatch.chdir(built.root)
    assert building.build("chip", words[1:], building.Options(verbosity=-1, inline=True), words) == 0
    where = Path(seal.path_of(built.root / "cache", words))
    assert where.exists()
    assert seal.holds(where, words) is None


def test_plain_doit_has_the_same_tasks_and_state(built):
    import rvbuild

    shutil.copy(Path(rvbuild.__file__).parents[1] / "dodo.py", built.root / "dodo.py")

    def doit(*words: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "doit", *words], cwd=built.root, capture_output=True, text=True, env=os.environ
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    listed = doit("list", "--all", "--status")
    assert "U infer:p:c" in listed
    assert "U predict:p:c" in listed
    assert "U train:p" in listed
    assert "up-to-date" in doit("info", "eval:p")
    assert "built" not in doit("run", "predict:p")
    (built.root / "cache/p/eval/eval.md").unlink()
    assert "restored p eval" in doit("run", "eval:p")
    assert built.rvbuild("build", "--json").did("built") == set()


def test_a_project_whose_data_are_elsewhere_is_left_out_of_what_is_asked_of_all(built):
    import rvbuild

    text = built.project.read_text().replace('train = ["a", "b"]', 'train = { files = "far/{id}.tif" }')
    assert "far" in text
    other = built.root / "projects/q.toml"
    other.write_text(text)
    result = built.rvbuild("status")
    assert result.status == 0 and "left out: projects/q.toml:" in result.err
    assert "no file matches far/*.tif" in result.err and "14 fresh" in result.out
    assert built.rvbuild("status", "projects/q.toml").status == 2
    assert built.rvbuild("build").status == 2, "what is built is said by name or complete"
    shutil.copy(Path(rvbuild.__file__).parents[1] / "dodo.py", built.root / "dodo.py")
    doit = [sys.executable, "-m", "doit", "list"]
    run = subprocess.run(doit, cwd=built.root, capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0 and "train" in run.stdout
    other.write_text("[project]\n")
    run = subprocess.run(doit, cwd=built.root, capture_output=True, text=True, env=os.environ)
    assert run.returncode != 0 and "projects/q.toml: scenes: missing" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_bundle_predicts_as_the_stage_does(built):
    result = built.process("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", "out")
    assert result.status == 0, result.err
    stages = {p.removeprefix("predict/c/"): data for p, data in built.shown().items() if p.startswith("predict/c/")}
    del stages["raw_labels.tif"]  # what the others are derived from
    assert {p.name: p.read_bytes() for p in (built.root / "out/c").iterdir()} == stages
    assert {p.name for p in (built.root / "out").iterdir()} == {"c", "manifest.json", ".rvbuild"}
    bundle = ("predict", "cache/p/bundle/p.zip")
    again = built.rvbuild(*bundle, "data/c.tif", "-o", "out", "-j", "2", "--json", inline=False)
    assert (again.status, again.did("fresh"), again.json["summary"]["built"]) == (0, {"predict:c"}, 0)
    refused = built.rvbuild(*bundle, "data/c.tif", "-o", "out", "--scene", "c")
    assert refused.status == 2 and "--scene applies to project files, not to a bundle" in refused.err
    (built.root / "data/bad.tif").write_text("no image")
    failed = built.rvbuild(*bundle, "data/*.tif", "-o", "out", "-n")
    assert failed.status == 0 and "missing    predict:bad" in failed.out and "predict:c" not in failed.out
    failed = built.rvbuild(*bundle, "data/bad.tif", "data/c.tif", "-o", "out", inline=False)
    assert (failed.status, "1 fresh, 1 failed" in failed.out) == (1, True), failed.out + failed.err
    assert "bad.tif: cannot be opened" in failed.out and "Traceback" not in failed.out + failed.err


def test_a_user_model_is_an_input(space):
    (space.root / "mymodels.py").write_text(
        "from torch import nn\n\n"
        "def tiny(in_channels, num_classes, width=4):\n"
        "    first = nn.Conv2d(in_channels, width, 3, padding=1)\n"
        "    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(width, num_classes, 1))\n"
    )
    space.edit('model = "unet"\nmodel_args = { width = 2, depth = 1 }', 'model = "mymodels:tiny"')
    assert space.rvbuild("predict", inline=False).status == 0
    path = space.root / "mymodels.py"
    path.write_text("# a remark\n" + path.read_text())
    assert space.rvbuild("status", "--json").did("stale") == set()
    path.write_text(path.read_text().replace("width=4", "width=5"))
    states = space.rvbuild("status", "--json")
    assert "train" in states.did("stale")
    assert states.reasons("train") == ["code changed: mymodels.py"]
    assert space.rvbuild("predict", inline=False).status == 0


def test_a_start_script_without_a_guard_is_not_run_again_in_workers(space):
    script = space.root / "start.py"
    script.write_text("import sys\nfrom rvbuild.cli import main\nsys.exit(main())\n")
    done = subprocess.run(
        [sys.executable, str(script), "analyze", "projects/p.toml"],
        cwd=space.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 built" in done.stdout
