"""Write the table of torchvision's weights, `rvbuild/project/networks/torchvision.tsv`, from the installed torchvision.

Each line has a model that starts from weights of torchvision: its name, its number of parameters, the file of the
weights in torch's cache, and its size in bytes.
"""

from __future__ import annotations

from pathlib import Path

from rvbuild.learn import models
from rvbuild.learn.models.expected import weights_of
from rvbuild.project.networks.encoders import OF_TORCHVISION
from rvbuild.project.networks.models import MODELS, SCRATCH_MODELS

TABLE = Path(__file__).parents[1] / "rvbuild/project/networks/torchvision.tsv"
OUTPUTS = 2
"""Classes of the segmentation models and detectors that are counted."""

HEADER = "# written by docs/make_torchvision.py\n# model\tparameters\tfile of weights\tbytes\n"


def line(task: str, name: str) -> str:
    """Return the line of a model."""
    entry = weights_of(name.rpartition("/")[2])
    if name in MODELS["chip_classification"] or name in OF_TORCHVISION:
        parameters = int(entry.meta["num_params"])
    else:
        model = models.build(task, name, bands=3, outputs=OUTPUTS, args={})
        parameters = sum(value.numel() for value in model.parameters())
    size = round(entry.meta["_file_size"] * 2**20)
    return f"{name}\t{parameters}\t{entry.url.rpartition('/')[2]}\t{size}\n"


def main() -> None:
    """Write the table."""
    named = [(task, name) for task, names in MODELS.items() for name in names if name not in SCRATCH_MODELS]
    named += [("", name) for name in OF_TORCHVISION]
    TABLE.write_text(HEADER + "".join(line(task, name) for task, name in named), encoding="utf-8")


if __name__ == "__main__":
    main()
