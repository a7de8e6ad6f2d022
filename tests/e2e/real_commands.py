"""The command itself with everything imported that its stages need, to be forked and killed."""

from __future__ import annotations

import os
import signal

import doit.cmd_base
import doit.doit_cmd  # noqa: F401
import fiona  # noqa: F401
import pydantic  # noqa: F401
import rasterio  # noqa: F401
import torch  # noqa: F401
import torchvision  # noqa: F401

from rvbuild.cli import app
from rvbuild.stages.train import stage as train  # noqa: F401


def do(words: list[str]) -> int:
    """Run the command line `words[1:]` in the directory `words[0]`."""
    os.chdir(words[0])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return app.run(words[1:])
