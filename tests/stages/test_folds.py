"""What the models of folds give together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import IdRasterWriter, ScoreRasterWriter
from rvbuild.progress import Silent
from rvbuild.stages.folds import maps, summary
from rvbuild.stages.folds.soup import mean_state
from rvbuild.tasks.segmentation import join
from rvbuild.tasks.segmentation.merge import RAW_LABELS, SCORES
from rvbuild.tasks.settings import DeriveSettings

CLASSES = [{"id": i, "name": name, "color": "#ff0000"} for i, name in enumerate(("a", "b", "null"))]


def test_weights_have_their_mean_and_counts_the_largest() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "half": torch.tensor([0.5], dtype=torch.float16), "n": torch.tensor(3)},
        {"w": torch.tensor([2.0, 4.0]), "half": torch.tensor([1.5], dtype=torch.float16), "n": torch.tensor(5)},
        {"w": torch.tensor([6.0, 0.0]), "half": torch.tensor([1.0], dtype=torch.float16), "n": torch.tensor(4)},
    ]
    mean = mean_state(states)
    assert mean["w"].tolist() == [3.0, 2.0] and mean["w"].dtype == torch.float32
    assert mean["half"].tolist() == [1.0] and mean["half"].dtype == torch.float16
    assert mean["n"].item() == 5 and mean["n"].dtype == torch.int64
    assert all(torch.equal(mean_state(states[:1])[name], value) for name, value in states[0].items())
    tiny = 2.0**-24  # the mean in float32 would depend on the order
    assert mean_state([{"w": torch.tensor([v])} for v in (1.0, tiny, tiny)])["w"].equal(
        mean_state([{"w": torch.tensor([v])} for v in (tiny, tiny, 1.0)])["w"]
    )


@pytest.mark.parametrize("other", [{"v": torch.zeros(2)}, {"w": torch.zeros(3)}])
def test_different_networks_have_no_mean(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ModelError, match="no mean"):
        mean_state([{"w": torch.zeros(2)}, other])


def _evaluation(folder: Path, fold: int, overall: object, metrics: object) -> Path:
    path = folder / f"{fold}.json"
    path.write_text(
        json.dumps({"summary": {"overall": overall}, "overall": [{"class_name": "tree", "metrics": metrics}]})
    )
    return path


def test_metrics_that_a_fold_lacks_are_left_out_of_mean_and_deviation(tmp_path: Path) -> None:
    files = [
        _evaluation(tmp_path, 0, {"mean_iou": 0.5, "labelled_px": 9}, {"iou": 0.4}),
        _evaluation(tmp_path, 1, {"mean_iou": 0.7, "labelled_px": 9}, {"iou": None}),
        _evaluation(tmp_path, 2, {"mean_iou": 0.6, "labelled_px": 8}, {}),
    ]
    summary.run({f"eval/{n}": [path] for n, path in enumerate(files)}, {"folds": 3}, tmp_path, Silent())
    content = json.loads((tmp_path / "folds.json").read_text())
    overall = content["overall"]["mean_iou"]
    assert overall["values"] == [0.5, 0.7, 0.6]
    assert overall["mean"] == pytest.approx(0.6) and overall["std"] == pytest.approx(0.1)
    assert content["classes"]["tree"]["iou"] == {"mean": 0.4, "std": None, "values": [0.4, None, None]}
    table = (tmp_path / "folds.md").read_text()
    assert "| mean_iou | 0.5 | 0.7 | 0.6 | 0.600 ± 0.100 |" in table
    assert "| tree iou | 0.4 | – | – | 0.400 |" in table and "labelled_px" not in table
    files[0].write_text("{}")
    with pytest.raises(DataError, match="is no evaluation"):
        summary.run({f"eval/{n}": [path] for n, path in enumerate(files)}, {"folds": 3}, tmp_path, Silent())


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_blocks_of_any_size_give_the_same_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are joined in blocks, so that memory does not grow with the width of a scene."""
    grid = Grid(40, 70, from_origin(0, 40, 1, 1), CRS.from_epsg(32633))
    random, parts = np.random.default_rng(0), []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        known = np.zeros((40, 70), dtype=np.bool_)
        known[:, 35 * number : 35 * (number + 1)] = True
        ids = np.where(known, random.integers(0, 2, known.shape), 255).astype(np.uint8)
        scores = np.where(known, random.integers(1, 9, (2, 40, 70)), 0 if kind == "uint8" else np.nan).astype(kind)
        with IdRasterWriter(folder / RAW_LABELS, grid, temp=folder) as writer:
            writer.write(0, ids)
        with ScoreRasterWriter(folder / SCORES, grid, CLASSES[:2], kind, temp=folder) as writer:
            writer.write_encoded(0, scores, known)
        parts.append({name: folder / name for name in (RAW_LABELS, SCORES)})
    results = []
    for rows, cols in ((40, 70), (16, 32)):
        monkeypatch.setattr(join, "ROWS", rows)
        monkeypatch.setattr(join, "COLS", cols)
        outputs = tmp_path / f"joined-{rows}"
        outputs.mkdir()
        join.join(parts, {"classes": CLASSES, "null_id": 2}, outputs, Silent())  # type: ignore[typeddict-item]
        results.append([(outputs / name).read_bytes() for name in (RAW_LABELS, SCORES)])
    assert results[0] == results[1]


def test_a_pixel_of_two_folds_is_an_error(tmp_path: Path) -> None:
    grid = Grid(4, 4, from_origin(0, 4, 1, 1), CRS.from_epsg(32633))
    paths = []
    for name in ("x", "y"):
        folder = tmp_path / name
        folder.mkdir()
        with IdRasterWriter(folder / RAW_LABELS, grid, temp=folder) as writer:
            writer.write(0, np.zeros((4, 4), dtype=np.uint8))
        paths.append(folder / RAW_LABELS)
    settings: DeriveSettings = {"task": "semantic_segmentation", "classes": [], "null_id": 0, "predict": {}}  # type: ignore[typeddict-item]
    with pytest.raises(DataError, match="in two folds"):
        maps.run({f"raw/{n}": [path] for n, path in enumerate(paths)}, settings, tmp_path, Silent())
