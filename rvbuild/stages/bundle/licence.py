"""The licences that a model card states: of the weights that a training started from, and of the network."""

from __future__ import annotations

from rvbuild.learn.model_files import ModelInfo
from rvbuild.project.networks import TIMM, olmoearth, timm

_STARTS = {
    "random": "The training started from random weights. Whoever publishes this model decides about its licence; "
    "rvbuild claims no rights.",
    "torchvision": "The training started from weights that torchvision publishes. They may have a licence or terms of "
    "their own, derived from the data that they were trained on, mostly ImageNet: see "
    "<https://docs.pytorch.org/vision/stable/models.html>. Whoever publishes or uses this model has to determine "
    "whether they may.",
    "file": "The training started from weights in a file of the project. The licence of that file applies.",
    "bundle": "The training started from the weights of another bundle. The licence of that bundle applies.",
    "unknown": "The bundle that this model is from does not tell what its training started from.",
}


def encoder_of(info: ModelInfo) -> str:
    """Return the name of the encoder of a model, or else of the model itself."""
    return str(info.model_args.get("encoder", info.model))


def licence(info: ModelInfo, start: str) -> list[str]:
    """Return the paragraphs about licences.

    Parameters
    ----------
    info
        Describes the model.
    start
        What its training started from: `random`, `torchvision` for the weights of any package, `file`, `bundle` or
        `unknown`.
    """
    name = encoder_of(info)
    text = _STARTS[start]
    if start == "torchvision" and name.startswith(TIMM):
        text = (
            f"The training started from the weights {name.removeprefix(TIMM)} of timm. Their licence: "
            f"{timm.licence(name)}; see <https://huggingface.co/{name}>. Whoever publishes or uses this model has to "
            "comply with it, and with the terms of the data that they were trained on."
        )
    elif start == "torchvision" and name.startswith(olmoearth.PREFIX):
        text = (
            f"The training started from the weights {olmoearth.hub_id(name)}. Their licence: {olmoearth.LICENCE}; see "
            f"<{olmoearth.LICENCE_LINK}>. Whoever publishes or uses this model has to comply with it."
        )
    if not name.startswith(olmoearth.PREFIX):
        return [text]
    code = "The network is that of the package olmoearth-pretrain-minimal (Apache-2.0), which predicting by torch needs"
    return [text, "", f"{code}: `pip install '{olmoearth.EXTRA}'`."]
