"""Batch norms folded into the convolutions before them, for networks that only infer."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from streamseg.models.nets.deformable import DeformableConv2d


def fold_batch_norms(network: nn.Module) -> None:
    """Multiply every batch norm into the convolution before it, and remove the norm.

    The outputs of a network in evaluation mode stay equal but for rounding. A batch norm belongs to the
    convolution that its parent names just before it, as all of torchvision's blocks have it.
    """
    for parent in list(network.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(norm, nn.BatchNorm2d):
                assert isinstance(conv, nn.Conv2d | DeformableConv2d)
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())


def _fold(conv: nn.Conv2d | DeformableConv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
