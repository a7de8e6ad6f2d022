"""Which models can be bundled as ONNX: `python -m benchmarks.export [RESULTS] [NAME…]` tries all but timm's networks.

Each has random weights, and statistics of normalisation that fit them, so that it is sure of something. It is saved,
loaded, exported and compared as the bundle stage does it: equal classes, and scores that differ little. RESULTS
(default: cache/benchmarks/export.jsonl) has a line for each model; what was exported is not tried again. The largest
come last: they need several times their size in memory and on disk.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.quick_init import quick_init
from rvbuild.learn import models
from rvbuild.learn.batchnorm import measured
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS, ModelInfo
from rvbuild.learn.models.detectors.heads import LAYERS
from rvbuild.learn.normalize import Normalizer
from rvbuild.project.networks.models import DECODERS, MODELS
from rvbuild.stages.bundle.portable import portable, sample

RESULTS = Path("cache/benchmarks/export.jsonl")
ENCODER = "torchvision/mobilenet_v2"
SIDE_PX = 128
BANDS = 3
OUTPUTS = ("a", "b", "c")

_LARGEST = ("vit_l_16", "vit_l_32", "regnet_y_128gf", "vit_h_14")

_SHOWN = 300
_LAST = re.compile("|".join(map(re.escape, LAYERS)) + r"|classification_head\.module_list\.\d\.1")
_STATS: Any = {"bands": [], "dtype": "uint8"}


def main(arguments: list[str]) -> int:
    path = Path(next((each for each in arguments if each.endswith(".jsonl")), RESULTS))
    wanted = {each for each in arguments if not each.endswith(".jsonl")}
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results = {(result["task"], result["model"], result["encoder"]): result for result in map(json.loads, lines)}
    for task, name, encoder in sorted(listed(), key=lambda each: each[1] in _LARGEST):
        known = results.get((task, name, encoder))
        if (known is not None and not known["problem"]) or (wanted and name not in wanted):
            continue
        result = _result(task, name, encoder)
        results[task, name, encoder] = result
        with path.open("a", encoding="utf-8") as file:
            print(json.dumps(result), file=file)
        print(result, file=sys.stderr, flush=True)
        gc.collect()
    print(table(list(results.values())))
    return 0


def listed() -> Iterator[tuple[str, str, str]]:
    """Yield task, model and encoder (or nothing) of every model of the lists."""
    for task, names in MODELS.items():
        yield from ((task, name, "") for name in names)
    for task, names in DECODERS.items():
        yield from ((task, name, ENCODER) for name in names)


def _result(task: str, name: str, encoder: str) -> dict[str, Any]:
    result = {"task": task, "model": name, "encoder": encoder, "difference": None, "problem": ""}
    start = time.process_time()
    try:
        result["difference"], result["parameters"] = try_model(task, name, encoder)
    except Exception as error:  # whatever fails is what is wanted
        result["problem"] = f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
    result["seconds"] = round(time.process_time() - start, 1)
    return result


def try_model(task: str, name: str, encoder: str = "", side_px: int = SIDE_PX) -> tuple[float, int]:
    """Export a model; return the power of ten that scores differ by less than, and the number of parameters."""
    args: dict[str, Any] = {"encoder": encoder} if encoder else {}
    if name.startswith(("vit_", "maxvit_")):
        patch = 32 if name.startswith("maxvit_") else int(name.rsplit("_", 1)[1])
        side_px = side_px // patch * patch
        args["image_size"] = side_px
    classes: Any = [{"id": number, "name": text} for number, text in enumerate((*OUTPUTS, "null"))]
    normalize: Any = {"kind": "scale", "max": 255}
    info = ModelInfo(task, name, args, BANDS, "uint8", list(OUTPUTS), classes, len(OUTPUTS), side_px, normalize)
    settings: Any = {
        "task": task,
        "classes": classes,
        "chip_px": side_px,
        "predict": {"stride_px": side_px, "score_thresh": 0.5, "merge_thresh": 0.5},
    }
    with tempfile.TemporaryDirectory(prefix="rvbuild-export-") as name_of_folder:
        folder = Path(name_of_folder)
        _save(folder, info)
        files = folder / WEIGHTS, folder / DESCRIPTION
        made = portable(*files, _STATS, settings, {"model": name, "model_args": args}, folder)
    return made.difference, made.parameters


def _save(folder: Path, info: ModelInfo) -> None:
    """Write a model with random weights, and forget it."""
    torch.manual_seed(0)
    with quick_init():
        model = models.build(
            info.task,
            info.model,
            bands=BANDS,
            outputs=len(OUTPUTS),
            args=info.model_args,
            chip_px=info.chip_px,
        )
    if info.task == "object_detection":
        _make_sure(model)
    # Brighter and darker ones: a network may pool an image to one value, and statistics are of differences.
    images = Normalizer(info)(sample(info, _STATS)).repeat(4, 1, 1, 1)
    images *= torch.linspace(0.4, 1.0, len(images)).reshape(-1, 1, 1, 1)
    with measured(model, lambda: model(images)):
        save_model(folder, model.state_dict(), info)


def _make_sure(model: nn.Module) -> None:
    """Let a detector with random weights be sure of some boxes: its last layers begin near zero."""
    with torch.no_grad():
        for part, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and _LAST.search(part):
                layer.weight.copy_(torch.randn_like(layer.weight) / layer.weight[0].numel() ** 0.5)
                layer.bias.zero_()


def table(results: list[Mapping[str, Any]]) -> str:
    """Return how many models of each task can be exported, the largest differences, and what fails, as Markdown."""
    lines = ["| task | models | exported | largest difference of a score |", "|---|---:|---:|---|"]
    for task in MODELS:
        of_task = [result for result in results if result["task"] == task]
        good = [result for result in of_task if not result["problem"]]
        worst = max((result["difference"] for result in good), default=0)
        names = ", ".join(_name(result) for result in good if result["difference"] == worst)
        shown = (
            f"{worst:g}"
            if worst <= min((result["difference"] for result in good), default=0)
            else f"{worst:g}: {names}"
        )
        lines.append(f"| {task} | {len(of_task)} | {len(good)} | {shown} |")
    failed = [result for result in results if result["problem"]]
    return "\n".join([*lines, "", *(f"{_name(result)}: {result['problem']}" for result in failed)])


def _name(result: Mapping[str, Any]) -> str:
    return f"{result['model']} with an encoder" if result["encoder"] else str(result["model"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
