"""Writes the table of timm's networks, rvbuild/project/networks/timm.tsv; run it after an update of timm.

    python docs/make_timm.py [OUTPUT]

Each network is created on torch's meta device, which has shapes and no values.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import timm
import torch

TABLE = Path(__file__).resolve().parent.parent / "rvbuild" / "project" / "networks" / "timm.tsv"

HEADER = "name\tparameters\tstrides\tweights"


def row(name: str) -> str:
    """Return the line of a network: its parameters, the strides of its feature maps, and weights with licences."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
        try:
            strides = timm.create_model(name, features_only=True).feature_info.reduction()
        except Exception:  # timm raises errors of many kinds for networks without feature maps
            strides = []
    shown = ",".join(str(stride) for stride in strides)
    return "\t".join([name, str(count), shown or "-", weights(name) or "-"])


def weights(name: str) -> str:
    """Return the pretrained weights of a network with their licences, the default first."""
    default = timm.get_pretrained_cfg(name)
    first = f"{name}.{default.tag}" if default is not None else ""
    names = sorted(timm.list_pretrained(f"{name}.*"), key=lambda full: full != first)
    cfgs = [timm.get_pretrained_cfg(full) for full in names]
    return " ".join(f"{cfg.tag}:{cfg.license or 'unknown'}" for cfg in cfgs)


def main(output: Path) -> None:
    """Write the table."""
    warnings.simplefilter("ignore")
    with output.open("w", encoding="utf-8") as file:
        print(f"# timm {timm.__version__}; made by docs/make_timm.py", HEADER, sep="\n", file=file)
        for name in timm.list_models():
            print(row(name), file=file, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE)
