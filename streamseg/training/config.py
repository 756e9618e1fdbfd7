"""Configuration of a training run (YAML)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamseg.config import describe, read_config, set_key
from streamseg.errors import ConfigError
from streamseg.models.input_size import INPUT_MULTIPLE
from streamseg.models.spec import ModelSpec, Positive
from streamseg.training.data.coco import BadAnnotations, Crowds
from streamseg.training.losses import MaskLossName

PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
OptimizerName = Literal["adamw", "sgd"]
Precision = Literal["fp32", "bf16", "fp16"]

_OPTIMIZER_DEFAULTS: dict[object, dict[str, float]] = {
    "adamw": {"learning_rate": 7e-4, "backbone_factor": 0.25, "weight_decay": 0.02},
    "sgd": {"learning_rate": 0.01, "backbone_factor": 1.0, "weight_decay": 1e-4},
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the images are, and which of them are drawn."""

    images: Path
    """Folder of the images."""
    train: Path
    """COCO file."""
    val: Path | None = None
    """COCO file that the weights are scored on."""
    val_images: Path | None = None
    """Folder of the images of ``val``, if it is another one."""
    val_part: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Without ``val``: this part of the images of ``train`` is held back to score the weights on."""
    sampling: Literal["balanced", "shuffled"] = "balanced"
    """``balanced``: drawn at random, images with rare classes more often (LVIS paper, section 5.3).
    ``shuffled``: every image once in an epoch, as the published models were trained."""
    without_objects: bool = True
    """Whether images without objects are drawn (``balanced``: half as often as others)."""
    bad_annotations: BadAnnotations = "refuse"
    """What to do with annotations that cannot be right, such as a box without area."""
    crowds: Crowds = "ignore"
    """Objects marked ``iscrowd``. ``ignore``: neither taught nor background, as COCO means them. ``teach``:
    taught and scored as any other, for tools that mark so whatever was painted instead of outlined."""
    min_size: NotNegative = 12.0
    """Objects with a smaller sqrt(box area), in canvas pixels, are ignored: not taught, nor background."""
    ambiguous: dict[str, tuple[str, ...]] = {}
    """Which objects may be of any of several classes. By a key that annotations of the file have: the names
    of these classes, where the value of the key is true. An object is taught as its own class, and the
    others are not counted against it. The key ``possible_category_ids`` of an annotation, a list of ids,
    says the same without this setting."""
    cache_gib: NotNegative | None = None
    """Decoded images are kept in memory if all of them fit into this; None is a quarter of the
    memory that is free, 0 reads every image from disk each time."""


class AugmentConfig(_Section):
    """Random changes of a training image.

    A model with ``input.canvas`` sees crops of that size, at any scale. Without a canvas an image is
    resized as a whole, as the published models were trained, and a batch padded to its largest.
    """

    flip: Probability = 0.5
    """Probability that an image is mirrored."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.4)
    """With a canvas. Smallest scale, times the one that fits the image into the canvas; largest, times
    the one that fills it."""
    short_sides: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Without a canvas. One of these is drawn for every image; None is ``model.input.short_side``."""
    long_side: Positive | None = None
    """Without a canvas. No longer than this; None is ``model.input.long_side``."""
    colour: Probability = 0.8
    """Probability that its colours are changed."""
    copy_paste: Probability = 0.5
    """Probability that objects of another image are pasted into it."""


class ScheduleConfig(_Section):
    """How long, how fast and with which loss. A step is one change of the weights."""

    steps: Positive | None = None
    """How long it trains."""
    epochs: PositiveFloat | None = None
    """Instead of ``steps``: how often as many images are drawn as there are."""
    batch: Positive = 4
    """Images of a step, over all devices; the learning rate belongs to it."""
    accumulate: Positive = 1
    """Parts that each device takes its share of a step in, one after the other: saves memory."""
    optimizer: OptimizerName = "adamw"
    """AdamW, or SGD as the published models were trained."""
    learning_rate: PositiveFloat
    """Left out: 7e-4 with adamw, 0.01 with sgd."""
    backbone_factor: PositiveFloat
    """The backbone's learning rate, times the others'. Left out: 0.25 with adamw, 1 with sgd."""
    start_factor: PositiveFloat = 1.0
    """The learning rate of the neck and the category branch, times the others': below 1 if they begin
    trained."""
    weight_decay: NotNegative
    """Left out: 0.02 with adamw, which spares norms and biases; 1e-4 with sgd."""
    momentum: Probability = 0.9
    """sgd only."""
    decay: Literal["cosine", "steps"] = "cosine"
    """``cosine``: to 1 % at the end. ``steps``: times ``milestone_factor`` at every milestone."""
    milestones: tuple[PositiveFloat, ...] = ()
    """In steps or epochs, as the length is given."""
    milestone_factor: PositiveFloat = 0.1
    """What the learning rate is multiplied with at a milestone."""
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    """Steps until the learning rate has risen to its full value."""
    warmup_ratio: Probability = 0.005
    """Part of the learning rate that the warm-up begins with; it rises in a straight line."""
    clip_norm: PositiveFloat | None = 10.0
    """Gradients with a larger norm are scaled down to it; None leaves them."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """The averaged weights keep this part of themselves at each step (at the beginning less)."""
    mask_loss: MaskLossName = "dice"
    """What masks are compared by: dice, focal or binary cross-entropy, or dice with cross-entropy."""
    mask_weight: PositiveFloat | None = None
    """None: 3 with dice, 20 with focal and 10 with bce, as in the paper, and 3 with dice_bce."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 1
    """Stages of the backbone that stay as they begin, from the picture on."""
    frozen_depthwise: bool = False
    """Depthwise kernels stay as they are: they hold few of the weights and much of the time of a step."""
    checkpoint_minutes: PositiveFloat = 5.0
    """Minutes between two checkpoints to go on from."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_optimizer(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return _OPTIMIZER_DEFAULTS.get(values.get("optimizer", "adamw"), {}) | values

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if (self.decay == "steps") != bool(self.milestones):
            raise ValueError("milestones belong to decay steps, which needs them")
        return self


class EvaluationConfig(_Section):
    """When the averaged weights are scored on the validation images; always at the end."""

    every_steps: Positive | None = None
    """Steps between two; None for the end alone."""
    every_epochs: PositiveFloat | None = None
    """The same in epochs."""
    images: Positive | None = None
    """At most so many images (evenly picked); None is all. The end takes all, but which weights are the best
    is told by these."""
    overlays: Annotated[int, Field(ge=0, le=64)] = 12
    """Images in the contact sheet."""

    @model_validator(mode="after")
    def _one_interval(self) -> Self:
        if self.every_steps is not None and self.every_epochs is not None:
            raise ValueError("give either every_steps or every_epochs")
        return self


class TrainConfig(_Section):
    """A whole run."""

    model: ModelSpec
    """In a file also the path of a model's YAML file, see :func:`read_train_config`."""
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    schedule: ScheduleConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    output: Path = Path("runs/train")
    """Folder that the weights and reports go to."""
    initial_weights: str | None = None
    """Bundled name or path of a trained model to start from; tensors that do not fit are left out."""
    backbone_weights: str | None = None
    """Without ``initial_weights``, where the backbone's weights come from: ``coco`` (ShuffleNetV2, neck and
    box head of NanoDet-Plus-m, which come with the package), ``torchvision`` (ImageNet's, downloaded), or
    the path of a torchvision model's tensors (.pth or .safetensors)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of all random numbers."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that load images, for each device."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """What computes; auto: an NVIDIA GPU if there is one."""
    devices: Positive = 1
    """How many GPUs, or processes on a CPU."""
    strategy: Literal["auto", "ddp", "ddp_spawn"] = "auto"
    """How they are started: ``ddp_spawn`` (what auto is) from this process, ``ddp`` by running the
    same command again. torchrun and SLURM are recognised, and have to start as many as ``devices`` says."""
    precision: Precision = "fp32"
    """Of the network; weights are kept in fp32."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        parts = self.devices * self.schedule.accumulate
        if self.schedule.batch % parts:
            raise ValueError(
                f"schedule.batch {self.schedule.batch} is not a multiple of devices x accumulate = {parts}"
            )
        if self.model.input.canvas is not None and (self.augment.short_sides or self.augment.long_side):
            raise ValueError(
                "augment.short_sides and long_side belong to models without input.canvas; "
                "with a canvas use augment.scale"
            )
        if self.schedule.frozen_stages and not (self.initial_weights or self.backbone_weights):
            raise ValueError(
                "schedule.frozen_stages freezes a part of the backbone that has not learned anything: give "
                "backbone_weights or initial_weights, or set it to 0"
            )
        self._check_canvas()
        for key, names in self.data.ambiguous.items():
            unknown = [name for name in names if name not in self.model.classes]
            if unknown:
                raise ValueError(
                    f"data.ambiguous.{key}: {', '.join(unknown)} is not among model.classes "
                    f"({', '.join(self.model.classes)})"
                )
        return self

    def _check_canvas(self) -> None:
        canvas = self.model.input.canvas
        if canvas is not None and any(side % INPUT_MULTIPLE for side in canvas):
            nearest = [max(1, round(side / INPUT_MULTIPLE)) * INPUT_MULTIPLE for side in canvas]
            raise ValueError(
                f"model.input.canvas {list(canvas)}: both sides have to be multiples of {INPUT_MULTIPLE}, "
                f"the nearest is {nearest}"
            )

    @property
    def part(self) -> int:
        """Images that a device takes at once."""
        return self.schedule.batch // (self.devices * self.schedule.accumulate)


def read_train_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read and validate a YAML file; ``changes`` are ``dotted.key=value``. Raises ConfigError.

    A mapping with the key ``base``, the whole file or its ``model``, is what the file of that path
    holds, with the other keys changed. ``model`` may also be the path itself. Paths of YAML files are
    relative to the file that names them.
    """
    content = _with_base(read_config(path), path)
    for change in changes:
        set_key(content, change)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, TrainConfig)}") from error


def _with_base(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """``content`` of the file ``path`` with its bases put in."""
    if isinstance(content.get("model"), str):
        content = content | {"model": {"base": content["model"]}}
    if isinstance(content.get("model"), dict):
        content = content | {"model": _with_base(content["model"], path)}
    if "base" not in content:
        return content
    base = path.parent / str(content["base"])
    if base.resolve() == path.resolve():
        raise ConfigError(f"{path}: is its own base")
    changes = {key: value for key, value in content.items() if key != "base"}
    return _merge(_with_base(read_config(base), base), changes)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``changes``, mappings key by key."""
    merged = dict(base)
    for key, value in changes.items():
        inner = base.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted key."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat
