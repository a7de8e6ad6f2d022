"""The `[train]` table: the model and how it is trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, Strict, Tag

from rvbuild.project.networks import TIMM, models
from rvbuild.project.networks.models import ALL_MODELS, DECODERS, MODELS, NEED_ENCODER
from rvbuild.project.networks.timm import with_weights
from rvbuild.project.tables.device import Device
from rvbuild.project.tables.normalize import Normalize, without_figures
from rvbuild.project.tables.own_chips import ChipsTable
from rvbuild.project.tables.references import Reference, named, names_schema
from rvbuild.project.tasks import SPECS, losses
from rvbuild.project.tasks.losses import LOSSES
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
    wrong,
)
from rvbuild.settings.train import BackendSettings, Optimizer, Schedule, TrainSettings

METRICS = {spec.name: spec.metrics for spec in SPECS.values()}
"""The metrics that can select the best epoch, by task; the first is the default."""

AUGMENTATIONS = ("flip", "rotate90", "brightness", "contrast", "saturation", "hue")
"""The named augmentations."""


def _amp(value: object) -> object:
    """Reject numbers, which Python would take for booleans."""
    return value if isinstance(value, str | bool) else expected('"auto", true or false')


def _increasing(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(b <= a for a, b in itertools.pairwise(value)):
        return wrong(f"expected epochs in increasing order, found {show(value)}")
    return value


Pretrained: TypeAlias = Annotated[
    Annotated[bool, Tag("<switch>")] | Annotated[PathText, Tag("<file>")],
    by_type({bool: "<switch>", str: "<file>"}, "true, false or a path to weights"),
]


ClassWeights: TypeAlias = Annotated[
    Annotated[Literal["none", "balanced"], Tag("<named>")]
    | Annotated[dict[str, Annotated[float, Field(ge=0)]], Tag("<weights>")],
    by_type({str: "<named>", dict: "<weights>"}, '"none", "balanced" or a table { class = weight }'),
]
Sampling: TypeAlias = Annotated[
    Annotated[Literal["all", "balanced"], Tag("<named>")]
    | Annotated[dict[str, Annotated[float, Field(ge=0)]], Tag("<weights>")],
    by_type({str: "<named>", dict: "<weights>"}, '"all", "balanced" or a table { class = weight }'),
]
Augmentation: TypeAlias = Annotated[
    str, named(AUGMENTATIONS, "augmentation", "package.module:function"), names_schema(AUGMENTATIONS)
]

WITH_BACKEND = ("backend", "backend_args", "chips", "max_chips", "validation")
"""The keys of `[train]` that apply with a training backend."""


class TrainTable(Table):
    """The model and how it is trained."""

    not_settings = ("chips", "validation", "encoder")  # chips are an input, and the encoder is one of model_args
    omitted_defaults = (
        "max_chips",
        "sampling",
        "normalize",
        "checkpoints",
        "threads",
        "backend",
        "backend_args",
        "clip_norm",
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
        f"package.module:name. With an encoder: {', '.join(DECODERS['semantic_segmentation'])}; for "
        f"object_detection {', '.join(DECODERS['object_detection'])}; for "
        "chip_classification also any network of timm, such as timm/convnext_tiny. unet (without an encoder) and cnn "
        "train from scratch in minutes. Default: deeplabv3_resnet50; for "
        "chip_classification, resnet18; for object_detection, fasterrcnn_resnet50_fpn.",
    )
    encoder: str | None = Field(
        None,
        description="The encoder of a segmentation model or a detector: a network of timm or torchvision, such as "
        "timm/convnext_tiny, timm/resnet50.a1_in1k (with certain weights) or torchvision/mobilenet_v2; "
        "`rvbuild models` lists them, and docs/models.md tells more. Needs the extra rvbuild[timm].",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the model, for example { width = 16, depth = 4 } for unet."
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
        "package:file for a file in an installed package, or a path to a bundle of rvbuild (.zip), of which every "
        "tensor of the same name and shape is taken. Default: true for models that have such weights.",
    )
    epochs: int = Field(10, ge=1, description="Number of passes over the training chips.")
    batch_size: int = Field(8, ge=1, description="Chips per step.")
    optimizer: Optimizer = Field("adam", description="The optimizer.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="With optimizer = sgd: its momentum.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="Gradients are scaled down to this norm, over all weights, if it is larger. Default: never.",
    )
    lr: float = Field(1e-4, gt=0, description="Learning rate; with schedule = one_cycle, the highest.")
    schedule: Schedule = Field(
        "one_cycle",
        description="How the learning rate changes: one_cycle, cosine, step (a tenth at step_epochs) or constant.",
    )
    step_epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False), AfterValidator(_increasing)] = Field(
        (), description="With schedule = step: the epochs after which the learning rate falls to a tenth."
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
    loss: Annotated[str, named(tuple(LOSSES), "loss", "package.module:factory"), names_schema(tuple(LOSSES))] = Field(
        "cross_entropy",
        description=f"The loss: {losses.described()}; or your own factory as package.module:name, called with "
        "loss_args. See docs/losses.md.",
    )
    loss_args: dict[str, Any] = Field(
        default_factory=dict,
        description=f"Arguments of the loss, or of your factory. {losses.described_arguments()}",
    )
    augment: Annotated[tuple[Augmentation, ...], Strict(False)] = Field(
        ("flip", "rotate90"),
        description=f"Random changes of training chips: {', '.join(AUGMENTATIONS)}, or package.module:function.",
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
    workers: int = Field(0, ge=0, description="Processes that read chips; does not change the result.")

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes, keys without effect, and what needs validation scenes."""
        yield from self._check_backend(context)
        if self.backend is not None:
            return
        yield from self._check_model(context)
        if "loss" not in SPECS[context.task].unused.get("train", {}):
            yield from self._check_loss(context)
        yield from self._check_schedule()
        yield from self._check_selection(context)
        yield from self._check_weights(context)
        yield from duplicates(self.augment, "augment")
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
        known_of = models.has_pretrained(model, self.encoder)
        if self.normalize == "pretrained" and self.bundle is None:
            random = self.pretrained is False or (self.pretrained is None and not known_of)
            yield from without_figures(model, random, known_of)
        if self.pretrained is True and not known_of and not REFERENCE.fullmatch(model):
            yield Finding(
                ("pretrained",),
                f"{show(self.encoder or model)} has no pretrained weights; give a path to a file, or remove the key",
                (("model",),),
            )

    def _check_loss(self, context: Context) -> Iterator[Finding]:
        loss, names = LOSSES.get(self.loss), SPECS[context.task].losses
        if loss is None:
            if self.class_weights != "none":
                message = f"loss = {show(self.loss)} must weigh classes itself; give it the weights in loss_args"
                yield Finding(("class_weights",), message, (("loss",),))
            yield from json_problem(self.loss_args, ("loss_args",))
        elif loss.name not in names:
            message = f"{show(loss.name)} compares regions of pixels; for {context.task}: {', '.join(names)}"
            yield Finding(("loss",), f'{message}, or "package.module:factory"')
        elif self.loss_args and not loss.arguments:
            yield no_effect("loss_args", f"with loss = {show(loss.name)}, which takes no arguments", "loss")
        else:
            for name, problem in loss.problems(self.loss_args):
                yield Finding(("loss_args", name), problem, (("loss",),))

    def _check_schedule(self) -> Iterator[Finding]:
        if self.is_set("momentum") and self.optimizer != "sgd":
            yield no_effect("momentum", f"with optimizer = {show(self.optimizer)}", "optimizer")
        if self.schedule != "step":
            if self.is_set("step_epochs"):
                yield no_effect(
                    "step_epochs",
                    f'with schedule = {show(self.schedule)}; set schedule = "step", or remove it',
                    "schedule",
                )
        elif not self.step_epochs:
            yield Finding(
                ("step_epochs",),
                'schedule = "step" needs the epochs of the steps, for example step_epochs = [6, 9]',
                (("schedule",),),
            )
        elif self.step_epochs[-1] >= self.epochs:
            yield Finding(
                ("step_epochs",),
                f"{self.step_epochs[-1]} is not before the end: training has {self.epochs} epochs",
                (("epochs",),),
            )

    def _check_selection(self, context: Context) -> Iterator[Finding]:
        metrics = METRICS[context.task]
        if self.select_metric is not None and self.select_metric not in metrics:
            choice = " or ".join(show(name) for name in metrics)
            yield Finding(("select_metric",), f"expected {choice} for {context.task}, found {show(self.select_metric)}")
        if not context.has_validation:
            if self.select == "best":
                yield Finding(
                    ("select",), '"best" needs validation scenes to choose by; add some, or set select = "last"'
                )
            if self.patience:
                yield Finding(
                    ("patience",), "early stopping needs validation scenes to watch; add some, or set patience = 0"
                )
        elif not self.validation:
            for key in ("select", "patience"):
                if self.is_set(key) and getattr(self, key) not in ("last", 0):
                    message = (
                        f"{show(getattr(self, key))} looks at the scores of epochs, and validation = false scores none"
                    )
                    yield Finding((key,), message, (("validation",),))
        if self.is_set("select_metric") and self.select == "last" and not self.patience:
            yield no_effect("select_metric", 'with select = "last" and patience = 0', "select", "patience")
        if self.patience >= self.epochs:
            yield Finding(
                ("patience",),
                f"{self.patience} can never be used up: training has {self.epochs} epochs",
                (("epochs",),),
            )

    def _check_weights(self, context: Context) -> Iterator[Finding]:
        trained = [name for name in context.classes if name != context.null]
        for key, weights, consequence in (
            ("class_weights", self.class_weights, "nothing would be learnt"),
            ("sampling", self.sampling, "no chip would be drawn"),
        ):
            if isinstance(weights, str):
                continue
            for name in weights:
                problem = context.class_problem(name, null=False)
                if problem:
                    yield Finding((key, name), problem)
            if trained and not any(weights.get(name, 1.0) for name in trained):
                yield Finding((key,), f"every class weighs 0, so {consequence}")

    @property
    def weights(self) -> str | None:
        """The path of the user's weights, or None; expanded once the project is loaded."""
        return self.pretrained if isinstance(self.pretrained, str) else None

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
        if self.loss in LOSSES:
            settings["loss_args"] = LOSSES[self.loss].not_default(self.loss_args)
        return settings
