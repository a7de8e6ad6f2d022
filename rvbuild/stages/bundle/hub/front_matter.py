"""The metadata at the top of a card, which the hub reads: its documented keys, as YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.selection import Epoch
from rvbuild.project.networks import TIMM, olmoearth, timm
from rvbuild.project.tasks import SPECS
from rvbuild.stages.bundle.licence import encoder_of

_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""The hub's identifiers among the licences of weights that a model may start from."""


_METRICS = {"mean_iou": "mean_iou", "accuracy": "accuracy", "mean_f1": "f1"}
"""The hub's identifiers of metrics, by our names; it has none for the others."""


def front_matter(info: ModelInfo, name: str, start: str, epoch: Epoch | None, onnx: bool) -> str:
    """Return the metadata of a model, between lines of three dashes.

    Parameters
    ----------
    info
        Describes the model.
    name
        What it is called.
    start
        What its training started from; see `rvbuild.stages.bundle.licence.licence`.
    epoch
        The epoch of the weights; None if the training has no log.
    onnx
        Whether there is a network for onnxruntime.
    """
    pipeline = SPECS[info.task].hub
    content: dict[str, object] = {
        **_licence(encoder_of(info), start),
        "library_name": "rvbuild",
        "pipeline_tag": pipeline,
        "tags": ["rvbuild", "remote-sensing", "earth-observation", pipeline, *(["onnx"] if onnx else [])],
        **_base(encoder_of(info), start),
    }
    scores = {} if epoch is None else {k: v for k, v in (epoch["metrics"] or {}).items() if isinstance(v, int | float)}
    if scores:
        if known := [_METRICS[key] for key in sorted(scores) if key in _METRICS]:
            content["metrics"] = known
        content["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": pipeline},
                        "dataset": {"type": name, "name": f"{name}, chips of the validation scenes"},
                        "metrics": [
                            {"type": _METRICS.get(key, key), "name": key, "value": scores[key]}
                            for key in sorted(scores)
                        ],
                    }
                ],
            }
        ]
    return "\n".join(["---", *_yaml(content), "---"]) + "\n"


def _licence(encoder: str, start: str) -> dict[str, object]:
    """Return the licence of the weights that a model starts from, as far as it is known; the publisher decides."""
    if start != "torchvision":
        return {}
    if encoder.startswith(olmoearth.PREFIX):
        return {
            "license": "other",
            "license_name": "olmoearth-artifact-license",
            "license_link": olmoearth.LICENCE_LINK,
        }
    if encoder.startswith(TIMM):
        known = timm.licence(encoder)
        if known in _LICENCES:
            return {"license": known}
        return {"license": "other", "license_name": known, "license_link": f"https://huggingface.co/{encoder}"}
    return {}


def _base(encoder: str, start: str) -> dict[str, object]:
    """Return the model on the hub that a model was trained from."""
    if start == "torchvision" and encoder.startswith(TIMM):
        return {"base_model": encoder}
    if start == "torchvision" and encoder.startswith(olmoearth.PREFIX):
        return {"base_model": olmoearth.hub_id(encoder)}
    return {}


def _yaml(value: object, indent: str = "") -> list[str]:
    """Return data as YAML; texts and numbers as in JSON, which is YAML, too.

    >>> _yaml({"tags": ["a"], "results": [{"name": "b: c", "values": [1.5]}]})
    ['tags:', '- "a"', 'results:', '- name: "b: c"', '  values:', '  - 1.5']
    """
    lines = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping):
                lines += [f"{indent}{key}:", *_yaml(item, f"{indent}  ")]
            elif _is_list(item):
                lines += [f"{indent}{key}:", *_yaml(item, indent)]
            else:
                lines.append(f"{indent}{key}: {_scalar(item)}")
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, Mapping):
                first, *rest = _yaml(item, f"{indent}  ")
                lines += [f"{indent}- {first[len(indent) + 2 :]}", *rest]
            else:
                lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
