"""What infer, predict and eval hand to one another, by task."""

from __future__ import annotations

import pytest

from rvbuild import tasks
from rvbuild.project.tasks import SPECS


def test_every_task_declares_the_module_that_does_it():
    for spec in SPECS.values():
        assert tuple(tasks.get(spec.name).RAW) == spec.raw
        assert set(spec.scratch) <= set(spec.models)


@pytest.mark.parametrize("task", SPECS)
def test_every_setting_is_in_one_slice_or_has_no_effect(task, tmp_path):
    from rvbuild.project.load import load

    cell = ", cell_px = 16" if task == "chip_classification" else ""
    boxes = task == "object_detection"
    labels = '{ voc = "{id}.xml" }' if boxes else f'{{ raster = "{{id}}_l.tif"{cell} }}'
    model = "fcos_resnet18_fpn" if boxes else "cnn" if cell else "unet"
    project = tmp_path / "p.toml"
    project.write_text(
        f'''project.task = "{task}"
classes = {{ a = "#ff0000", b = "#00ff00" }}
scenes = {{ train = ["t"], validation = ["v"] }}
scene = {{ image = "{{id}}.tif", labels = {labels} }}
train.model = "{model}"
'''
    )
    table = load(project).predict
    inferred, derived = table.infer_settings(), table.derive_settings()
    assert set(inferred) & set(derived) == ({"scores"} if task == "semantic_segmentation" else set()), "styled too"
    without = {"stride_px", "blend", "vectors"} if cell else {"blend", "vectors", "scores", "rgb"} if boxes else set()
    assert set(inferred) | set(derived) | without == set(table.stage_settings())
    assert {"score_thresh", "merge_thresh", "boxes"} == set(derived) if boxes else {"rgb"} <= set(derived)
    assert {"batch_size", "device"} <= set(inferred)
