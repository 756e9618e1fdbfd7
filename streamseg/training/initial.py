"""The weights before the first step."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from streamseg.errors import UsageError, WeightsError
from streamseg.models.convert.checkpoint import read_checkpoint
from streamseg.models.nets.backbones import MobileNetV2, freeze_backbone
from streamseg.models.nets.depthwise import freeze_depthwise
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import BackboneName, ModelSpec
from streamseg.models.weights.coco_start import start_from_coco
from streamseg.models.weights.files import find_weights, load_detector
from streamseg.training.config import ScheduleConfig, TrainConfig, flatten

logger = logging.getLogger(__name__)

_NAMED = 4
"""So many of the tensors and classes that are new are named."""
_LEAST_PART = 0.5
"""Of a model's tensors: another head on the same backbone keeps most of them, another backbone next to
none."""
_OF_CLASSES, _OF_DISTRACTORS = "head.class_output.", "head.class_distractors."
"""Tensors with one row per class, and those with one per class that is not reported."""


def load_initial_weights(detector: Detector, config: TrainConfig) -> None:
    """Start from a trained model, a detector of COCO's boxes, a backbone of ImageNet's classes, or nothing.

    What the schedule freezes is frozen. Raises UsageError if what is wanted cannot be had or does not fit,
    or if a part of the backbone, or the rows of all distractors, would be frozen as chance made them.
    """
    before = {key: tensor.detach().clone() for key, tensor in detector.backbone.named_parameters()}
    distractors = _distractor_rows(detector)
    _load(detector, config)
    _check_distractors(detector.spec.distractors, distractors, _distractor_rows(detector))
    freeze_backbone(detector.backbone, stages=config.schedule.frozen_stages)
    if config.schedule.frozen_depthwise:
        freeze_depthwise(detector)
    _check_frozen(detector, before, config.schedule)


def _check_frozen(detector: Detector, before: Mapping[str, Tensor], schedule: ScheduleConfig) -> None:
    # Offsets of deformable convolutions begin with zeros, and norms with ones and zeros: not by chance.
    random = [
        key
        for key, tensor in detector.backbone.named_parameters()
        if not tensor.requires_grad
        and key in before
        and tensor.ndim > 1
        and tensor.any()
        and torch.equal(tensor, before[key])
    ]
    if random:
        raise UsageError(
            f"schedule.frozen_stages {schedule.frozen_stages}, frozen_depthwise {schedule.frozen_depthwise}: "
            f"{len(random)} tensors of the backbone would be frozen that took nothing over ({_some(random)})"
            ": give weights that fit the backbone, or set the two to 0 and false"
        )


def _distractor_rows(detector: Detector) -> list[Tensor]:
    """(D, channels, 1, 1) per level: what each class that is not reported is found with."""
    state = detector.state_dict()
    keys = (key for key in state if key.startswith(_OF_DISTRACTORS) and key.endswith(".weight"))
    return [state[key].clone() for key in keys]


def _check_distractors(names: Sequence[str], before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    levels = list(zip(before, after, strict=True))
    random = [name for i, name in enumerate(names) if any(torch.equal(b[i], a[i]) for b, a in levels)]
    if not random:
        return
    what = f"the start does not know {len(random)} of {len(names)} classes ({_some(random)})"
    knowing = "initial_weights: demo, and backbone_weights: coco with a ghost_pan of the default sizes, do"
    if len(random) == len(names):
        raise UsageError(
            f"model.head.boxes.distractors: {what}; {knowing}. Take one of these, or set it to false"
        )
    logger.warning("model.head.boxes.distractors: %s, they stay as chance made them; %s", what, knowing)


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _load(detector: Detector, config: TrainConfig) -> None:
    if config.initial_weights is not None:
        _load_fitting(detector, find_weights(config.initial_weights))
    elif config.backbone_weights == "coco":
        unknown = start_from_coco(detector)
        if unknown:
            logger.info("classes that COCO does not know begin anew: %s", ", ".join(unknown))
    elif config.backbone_weights is not None:
        backbone = config.model.backbone
        _load_backbone(detector, _backbone_tensors(config.backbone_weights, backbone), config)


def _load_fitting(detector: Detector, path: Path) -> None:
    """Take over every tensor of the same name and shape, and of the last layer the classes by name."""
    source = load_detector(path)
    trained, own = source.state_dict(), detector.state_dict()
    wanted, known = detector.spec.classes, source.spec.classes + source.spec.distractors
    fitting = {}
    for key, tensor in own.items():
        if key.startswith((_OF_CLASSES, _OF_DISTRACTORS)):
            of_rows = wanted if key.startswith(_OF_CLASSES) else detector.spec.distractors
            rows = _rows_by_name(source.spec, trained, key.split(".", 2)[2])
            if rows and all(row.shape == tensor.shape[1:] for row in rows.values()):
                fitting[key] = torch.stack([rows.get(name, tensor[i]) for i, name in enumerate(of_rows)])
        elif key in trained and trained[key].shape == tensor.shape:
            fitting[key] = trained[key]
    # Norms of any ResNet fit those of any other by name and size, whatever the kernels beside them are.
    alike = source.spec.backbone == detector.spec.backbone
    if not alike or len(fitting) < _LEAST_PART * len(own):
        raise UsageError(
            f"initial_weights {path}: fit the model too little, {len(fitting)} of {len(own)} tensors "
            f"(half of them and the same backbone are needed): its {_other_model(source.spec, detector.spec)}"
        )
    new = [key for key in own if key not in fitting] + [name for name in wanted if name not in known]
    logger.info(
        "%d of %d tensors taken from %s%s", len(fitting), len(own), path, f"; new: {_some(new)}" * bool(new)
    )
    detector.load_state_dict(own | fitting)


def _other_model(trained: ModelSpec, wanted: ModelSpec) -> str:
    """In what a trained model is another one: ``architecture is solov2, not solo``."""
    others = {"input", "test", "classes"}
    there, here = (flatten(s.model_dump(mode="json", exclude=others)) for s in (trained, wanted))
    differing = [
        f"{key} is {there.get(key)}, not {here.get(key)}"
        for key in {**here, **there}
        if there.get(key) != here.get(key)
    ]
    return "; ".join(differing[:_NAMED]) + ("; ..." if len(differing) > _NAMED else "")


def _rows_by_name(spec: ModelSpec, trained: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """One part of the last layer of a trained model, row by row, under the names of what each tells."""
    rows: dict[str, Tensor] = {}
    for layer, names in ((_OF_DISTRACTORS, spec.distractors), (_OF_CLASSES, spec.classes)):
        if layer + part in trained:
            rows |= zip(names, trained[layer + part], strict=True)
    return rows


def _backbone_tensors(where: str, backbone: BackboneName) -> dict[str, Tensor]:
    """An ImageNet classifier's tensors by torchvision's names."""
    if where == "torchvision":
        return _downloaded(backbone)
    path = Path(where)
    if path.suffix != ".safetensors":
        return read_checkpoint(path).tensors
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error


def _downloaded(backbone: BackboneName) -> dict[str, Tensor]:
    """torchvision's published weights, the ones that the papers' models start from."""
    weights = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        tensors: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, no space; a broken file
        raise UsageError(
            f"backbone_weights 'torchvision': {weights.url} cannot be downloaded ({error}); give the path of "
            "a file instead"
        ) from error
    return tensors


def _load_backbone(detector: Detector, tensors: Mapping[str, Tensor], config: TrainConfig) -> None:
    if isinstance(detector.backbone, MobileNetV2):
        try:
            detector.backbone = MobileNetV2(imagenet=dict(tensors))
        except ValueError as error:
            raise UsageError(
                f"backbone_weights {config.backbone_weights!r}: do not fit mobilenet_v2 ({error})"
            ) from error
        return
    own = detector.backbone.state_dict()
    # Deformable convolutions begin with offsets of zero: as the plain ones that they take the place of.
    wanted = [key for key in own if "conv_offset" not in key]
    for key in wanted:
        given = tuple(tensors[key].shape) if key in tensors else None
        if given != tuple(own[key].shape):
            raise UsageError(
                f"backbone_weights {config.backbone_weights!r}: do not fit {config.model.backbone}: tensor "
                f"{key} is {given or 'missing'}, not {tuple(own[key].shape)}"
            )
    detector.backbone.load_state_dict(own | {key: tensors[key] for key in wanted})
