"""Starting a training with NanoDet-Plus-m's weights for COCO: backbone, neck, box head and class rows."""

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load_file
from torch import Tensor

from streamseg.errors import UsageError
from streamseg.models.classes import COCO_CLASSES, coco_place
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.shufflenet import ShuffleNetV2
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.files import COCO_START, weights_folder


def start_from_coco(detector: Detector) -> list[str]:
    """Fill a detector with what fits; returns the classes that COCO does not know.

    The backbone must be ``shufflenet_v2_x1_0``. A neck ``ghost_pan`` and a category branch ``boxes`` of
    NanoDet-Plus-m's sizes are filled too, with the rows of COCO's classes for classes of the same name; a
    level on P2, which NanoDet-Plus-m does not have, begins anew. Raises UsageError for another backbone.
    """
    if not isinstance(detector.backbone, ShuffleNetV2):
        raise UsageError(
            f"backbone_weights 'coco': for backbone shufflenet_v2_x1_0 only, not {detector.spec.backbone}"
        )
    given = load_file(weights_folder() / f"{COCO_START}.safetensors")
    own = detector.state_dict()
    fitting = {}
    for name, tensor in _renamed(given, detector.spec).items():
        if name in own and own[name].shape == tensor.shape:
            fitting[name] = tensor.float()
    unknown = [name for name in detector.spec.classes if coco_place(name) is None]
    detector.load_state_dict(own | fitting | _class_rows(given, detector.spec, own))
    return unknown


def _renamed(given: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """The tensors by a detector's names, without class rows."""
    renamed = {name: tensor for name, tensor in given.items() if not name.startswith("head.")}
    if spec.head.boxes is None:
        return renamed
    for index, level in enumerate(spec.head.levels):
        source = f"head.{level.pyramid - 3}."
        for name in (name for name in given if name.startswith(source)):
            part = name.removeprefix(source)
            if part.startswith("tower."):
                renamed[f"head.class_tower.{index}.{part.removeprefix('tower.')}"] = given[name]
            else:
                rows = given[name][len(COCO_CLASSES) :]
                renamed[f"head.box_output.{index}.{part.removeprefix('output.')}"] = rows
    return renamed


def _class_rows(given: Mapping[str, Tensor], spec: ModelSpec, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The class outputs of all levels; classes that COCO does not know keep the rows in ``own``."""
    if spec.head.boxes is None:
        return {}
    outputs = {}
    for index, level in enumerate(spec.head.levels):
        for output, classes in (("class_output", spec.classes), ("class_distractors", spec.distractors)):
            for part in ("weight", "bias"):
                name = f"head.{output}.{index}.{part}"
                source = given.get(f"head.{level.pyramid - 3}.output.{part}")
                if classes and source is not None and source.shape[1:] == own[name].shape[1:]:
                    outputs[name] = torch.stack(_rows(source.float(), own[name], classes))
    return outputs


def _rows(source: Tensor, own: Tensor, classes: Sequence[str]) -> list[Tensor]:
    places = [coco_place(name) for name in classes]
    return [own[i] if place is None else source[place] for i, place in enumerate(places)]
