"""Which program a checkpoint is of that cannot be converted, told by the names of its tensors."""

from collections.abc import Iterable

_KINDS = (
    ("ins_head.", "SOLOv2 of AdelaiDet, whose backbone is another (strides, means of pixels)"),
    ("blender.", "BlendMask of AdelaiDet"),
    ("basis_module.", "BlendMask of AdelaiDet"),
    ("mask_branch.", "CondInst or BoxInst of AdelaiDet"),
    ("proposal_generator.fcos_head.", "FCOS of AdelaiDet"),
    ("sem_seg_head.", "Mask2Former, MaskFormer or a panoptic model of detectron2"),
    ("proposal_generator.", "Faster or Mask R-CNN of detectron2"),
    ("backbone.bottom_up.", "detectron2"),
    ("mask_head.controller.", "CondInst of AdelaiDet"),
    ("bbox_head.rtm_", "RTMDet of mmdetection"),
    ("roi_head.", "an R-CNN of mmdetection"),
    ("rpn_head.", "an R-CNN of mmdetection"),
    ("roi_heads.", "an R-CNN of torchvision or detectron2"),
    ("panoptic_head.", "Mask2Former of mmdetection"),
    ("transformer.", "DETR"),
    ("image_encoder.", "Segment Anything"),
    ("proto_net.", "YOLACT"),
    ("model.0.conv.", "YOLO"),
    ("layer1.0.conv1.", "a ResNet alone: a backbone without a head"),
)
"""Beginnings of tensors' names; those that only one kind has come before those that several share."""


def whose(keys: Iterable[str]) -> str | None:
    """The model and program that a checkpoint with these tensors is of; None if that is not known."""
    names = list(keys)
    return next((kind for start, kind in _KINDS if any(name.startswith(start) for name in names)), None)
