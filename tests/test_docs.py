"""The documentation says what the code does."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rvbuild.cli.app import app
from rvbuild.project.load import load
from rvbuild.project.tasks.augmentations import AUGMENTATIONS
from rvbuild.project.tasks.losses import LOSSES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

OF_THE_SITE = {"index.md", "changelog.md", "contributing.md", "security_policy.md"}
"""Pages that show what lies at the top of the repository."""


def test_the_reference_of_the_project_file_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/make_reference.py"


@pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: loss.name)
def test_every_loss_is_described_with_its_defaults(loss):
    text = (ROOT / "docs/losses.md").read_text(encoding="utf-8")
    arguments = ", ".join(f"`{name} = {argument.default}`" for name, argument in loss.arguments.items())
    assert re.search(rf"^\| `{loss.name}` \| ({re.escape(arguments)} )?\| ", text, re.MULTILINE), "its row of the table"
    assert re.search(rf"^- `{loss.name}`: ", text, re.MULTILINE), "its formula"


@pytest.mark.parametrize("spec", AUGMENTATIONS.values(), ids=lambda spec: spec.name)
def test_every_augmentation_is_described_with_its_defaults(spec):
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    arguments = ", ".join(
        f"`{name} = {argument.default:g}` ({argument.about})" for name, argument in spec.arguments.items()
    )
    assert f"| `{spec.name}` | {arguments} | {spec.about} |".replace("|  |", "| |") in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


LABELS = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/labels.md").read_text(encoding="utf-8"), re.DOTALL)


def test_examples_of_training_options_are_right(tmp_path):
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    options, ensemble, shards = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    text = '[project]\ntask = "semantic_segmentation"\n[classes]\nroad = "#888"\nground = "#0f0"\n'
    scene = '[scenes]\ntrain = ["a"]\n[scene]\nimage = "{id}.tif"\nlabels = { raster = "{id}_label.tif" }\n'
    (tmp_path / "p.toml").write_text(text + scene + options)
    assert load(tmp_path / "p.toml").train.freeze == 2
    (tmp_path / "p.toml").write_text(text + scene + ensemble)
    assert load(tmp_path / "p.toml").train.ensemble == (0.5, 0.5, 0.5, 0.5)
    (tmp_path / "p.toml").write_text(text + scene + shards)
    assert load(tmp_path / "p.toml").train.shards == 4


@pytest.mark.parametrize("number", range(len(LABELS)))
def test_examples_of_labels_are_right(tmp_path, number):
    text = '[project]\ntask = "semantic_segmentation"\n[classes]\nroad = "#888"\nbuilding = "#f00"\nground = "#0f0"\n'
    scene = '[scene]\nimage = "{id}.tif"\nlabels = { raster = "{id}_label.tif" }\n'
    text += LABELS[number]
    text += scene if "[scene]" not in text else '[scenes]\ntrain = ["a"]\n'
    (tmp_path / "p.toml").write_text(text)
    assert load(tmp_path / "p.toml").scenes


def test_every_test_named_in_the_comparison_exists():
    text = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|benchmarks)/[^`:]+)(?:::(\w+))?`", text)
    assert len(named) > 100
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8") or not test, f"{path}::{test}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert all("`tests/" in row or "`benchmarks/" in row for row in rows), "every row names its proof"


def test_the_readme_names_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - OF_THE_SITE
    assert {name for name in pages if f"](docs/{name})" not in text} == set()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """Every page is in the navigation, and every link and anchor leads somewhere."""
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run([*build, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert 'href="guide.html"' in front and 'href="changelog.html"' in front, "links of README.md lead to pages"


def test_the_readme_names_every_command():
    named = set(re.findall(r"^rvbuild ([a-z|]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word for words in named for word in words.split("|")} == set(app.commands)
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


@pytest.mark.parametrize("project", sorted((ROOT / "projects").glob("*.toml")), ids=lambda path: path.stem)
def test_example_projects_are_right(project):
    # Their own tests make data for those that find scenes by files; here ids stand for them.
    overrides = ['scenes.train=["1", "2", "3"]'] if "train      = { files" in project.read_text() else []
    loaded = load(project, overrides)
    assert loaded.name == project.stem
    assert {scene.split for scene in loaded.scenes} >= {"train", "validation"}


def test_the_project_in_the_readme_is_right(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "potsdam.toml").write_text(text)
    assert [c.name for c in load(tmp_path / "potsdam.toml").classes][:2] == ["car", "building"]
