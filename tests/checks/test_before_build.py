"""What is looked at before a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.project.load import load
from rvbuild.session.build import Order, planned
from rvbuild.session.checking import findings
from tests.api.conftest import write_workspace


class _Silent:
    def note(self, line: str) -> None:
        pass


def test_encoders_of_drafts_that_run_side_by_side_have_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_workspace(tmp_path / "ws", "segmentation")
    (tmp_path / "ws/weights.pth").write_bytes(b"weights")
    file.write_text(f'{file.read_text()}\n[draft]\nencoder = "resnet18"\nweights = "weights.pth"\n')
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    monkeypatch.setattr(findings, "cores", lambda: 4)
    with planned([load(file)], Order("draft", inline=True, trust=True), _Silent()) as work:  # type: ignore[arg-type]
        memory = findings.check_build(work.session, work.closure, work.closure, False, 2, lambda _: None)
    assert len(memory) == 3
    assert len(set(memory.values())) == 1
