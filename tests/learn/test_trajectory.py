import subprocess
import sys

import pytest

from rvbuild.learn.trajectory import resume_ignores


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_epochs_do_not_matter_to_endless_schedules(schedule):
    assert set(resume_ignores(schedule)) == {"workers", "epochs", "patience", "select"}


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_epochs_matter_to_the_others(schedule):
    assert set(resume_ignores(schedule)) == {"workers", "patience", "select"}


def test_planning_imports_nothing_heavy():
    program = (
        "import sys, rvbuild.learn.trajectory\n"
        "assert not {'torch', 'numpy', 'torchvision', 'safetensors'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
