"""The model card of a bundle: what it predicts, from which data, how well, under which licence, and its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rvbuild.errors import counted
from rvbuild.geo.raster.stats import ImageFigures
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.selection import Epoch, best_epoch
from rvbuild.project.tasks import SPECS
from rvbuild.stages.bundle.licence import licence
from rvbuild.stages.bundle.settings import BundleStageSettings, PortableSettings

BUNDLE_IN_CARD = "BUNDLE.zip"
"""What commands in a card call the bundle that it is in."""


def card(
    info: ModelInfo,
    settings: BundleStageSettings,
    stats: ImageFigures,
    log: Sequence[Epoch],
    parameters: int,
    *,
    onnx: bool = True,
    two_files: bool = False,
    place: str = BUNDLE_IN_CARD,
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    info, settings
        Of the bundle; without `onnx`, nothing is known of the training.
    stats
        The statistics of the training imagery.
    log
        The epochs of the training.
    parameters
        The number of weights.
    onnx
        Whether there is a network for onnxruntime.
    two_files
        Whether the weights of that network have a file of their own.
    place
        What commands call the bundle.
    """
    spec, about = SPECS[info.task], settings.get("onnx")
    arguments = f" with `{json.dumps(dict(info.model_args), sort_keys=True)}`" if info.model_args else ""
    bands = counted(info.bands, "band")
    lines = [
        f"# {info.model}: {', '.join(info.outputs)}",
        "",
        f"A model that gives {spec.gives}, trained and packed by [rvbuild](https://pypi.org/project/rvbuild/).",
        "",
        "| | |",
        "|---|---|",
        f"| task | {info.task} |",
        f"| model | `{info.model}`{arguments} |",
        f"| parameters | {parameters:,} |",
        f"| input | {bands} of {info.dtype}, windows of {info.chip_px} px |",
        f"| normalisation | `{json.dumps(info.normalize, sort_keys=True)}`{', inside `model.onnx`' if onnx else ''} |",
        "",
        "## Classes",
        "",
        "| output | id | class | colour |",
        "|---:|---:|---|---|",
        *_classes(info, settings),
        "",
        "## Data",
        "",
        *(f"- {split} scenes: {count}" for split, count in (about["splits"] if about else {}).items()),
        *_bands(stats),
        "",
        "## Training and metrics",
        "",
        *_metrics(log, about),
        "",
        "## Licence of the weights",
        "",
        *licence(info, about["start"] if about else "unknown"),
        "",
        "## Limits",
        "",
        f"- It expects imagery like that of the training: {bands} in the same order, {info.dtype}, with "
        "similar values and of a similar resolution. Imagery of other places, sensors and seasons may be predicted "
        "badly.",
        "- It knows the classes above and nothing else: whatever it sees becomes one of them"
        + (", or nothing." if not spec.gives_pixels else "."),
        "- A score is no calibrated probability.",
        "",
        "## Use",
        "",
        "```shell",
        "pip install rvbuild",
        f"rvbuild predict {place} image.tif -o predictions/",
        f"rvbuild bundle --verify {place}",
        "```",
    ]
    if two_files:
        lines += [
            "",
            "`model.onnx` also runs in onnxruntime and OpenVINO, which read its weights from `model.onnx.data` in the "
            "same directory. Programs that take a single file cannot load it. `model.stac.json` describes its input "
            "and output.",
        ]
    elif onnx:
        lines += [
            "",
            "`model.onnx` also runs in QGIS Deepness, GeoDeep and onnxruntime; `model.stac.json` describes its input "
            "and output.",
        ]
    return "\n".join(lines) + "\n"


def _classes(info: ModelInfo, settings: BundleStageSettings) -> Iterator[str]:
    outputs = {name: str(number) for number, name in enumerate(info.outputs)}
    for item in settings["classes"]:
        name = item["name"].replace("|", "\\|")
        yield f"| {outputs.get(item['name'], '(null)')} | {item['id']} | {name} | `{item['color']}` |"


def _bands(stats: ImageFigures) -> Iterator[str]:
    if stats["bands"]:
        yield f"- valid pixels of the training imagery that were measured: {stats['bands'][0]['count']:,}"
        yield ""
        yield "| band | mean | standard deviation | minimum | maximum |"
        yield "|---:|---:|---:|---:|---:|"
    for number, band in enumerate(stats["bands"], start=1):
        yield f"| {number} | {band['mean']:.6g} | {band['std']:.6g} | {_number(band['min'])} | {_number(band['max'])} |"


def _metrics(log: Sequence[Epoch], about: PortableSettings | None) -> Iterator[str]:
    if about is None:
        yield "The bundle that this model is from does not tell."
        return
    if not log:
        yield "The training has no log."
        return
    select, metric = about["select"], about["select_metric"]
    best = best_epoch(log, metric) if select == "best" else log[-1]["epoch"]
    epoch = next(line for line in log if line["epoch"] == best)
    chosen = f"the best of {len(log)} by {metric}" if select == "best" else f"the last of {len(log)}"
    yield f"The weights are those of epoch {best}, {chosen}."
    if "ema" in about:
        decay = f"(decay {about['ema']:g})"
        yield f"They are the exponential moving average of the weights of all steps until then {decay}."
    if not epoch["metrics"]:
        yield "There were no validation chips, so no metric is known."
        return
    yield "On the chips of the validation scenes, not on whole scenes:"
    yield ""
    yield "| metric | value |"
    yield "|---|---:|"
    for name, value in sorted(epoch["metrics"].items()):
        if isinstance(value, Mapping):
            yield from (
                f"| {name} of {key.replace('|', chr(92) + '|')} | {_number(score)} |" for key, score in value.items()
            )
        else:
            yield f"| {name} | {_number(value)} |"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
