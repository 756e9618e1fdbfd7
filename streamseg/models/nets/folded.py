"""A detector for inference only: with fewer steps, and equal but for rounding."""

import copy

import torch
from torch import Tensor, nn

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folding import fold_batch_norms
from streamseg.models.nets.shufflenet import ShuffleNetV2
from streamseg.models.nets.unshuffled import remove_shuffles, reorder
from streamseg.models.nets.windowed import KernelOutput, SplitKernelOutput, WindowedHead


def folded_copy(detector: Detector) -> Detector:
    """A detector that only infers, in float32 as the first; that one stays as it is and may be trained on."""
    folded = copy.deepcopy(detector).eval().requires_grad_(False)
    fold_batch_norms(folded)
    if isinstance(folded.backbone, ShuffleNetV2):
        orders = remove_shuffles(folded.backbone)[folded.spec.pyramid_first - 2 :]
        for conv, order in zip(folded.neck.entries, orders, strict=True):
            reorder(conv, inputs=order)
    if isinstance(folded.head, WindowedHead):
        fold_mask_output(folded.head)
    return folded


def fold_mask_output(head: WindowedHead) -> None:
    """Leave out the last convolution of the mask feature, the only one behind which there is no activation.

    What a kernel k makes of its output, ``k . (W f + b)``, is ``(W^T k) . f + k . b``: the first is another
    kernel, and the second is the same in all pixels, as is a number that is added to a whole profile. Both
    are linear in k, and k comes out of a convolution: that one gives them at once, for some thousand cells
    instead of for every pixel of the masks.
    """
    output, joined = head.mask_feature.output, head.kernel_output
    assert isinstance(output, nn.Conv2d)
    assert isinstance(joined, KernelOutput)
    assert output.bias is not None
    assert joined.bias is not None
    rows = torch.cat((joined.weight.flatten(1), joined.bias[:, None]), dim=1)
    kernel, along_x, along_y = rows.split(list(joined.sizes))
    profiles = torch.cat((along_x + output.bias @ kernel, along_y))
    head.kernel_output = SplitKernelOutput(_conv(output.weight.flatten(1).T @ kernel), _conv(profiles))
    head.mask_feature.output = nn.Identity()


def _conv(rows: Tensor) -> nn.Conv2d:
    """A pointwise convolution; a row holds the weights of an output, and its bias."""
    conv = nn.Conv2d(rows.shape[1] - 1, rows.shape[0], kernel_size=1).requires_grad_(False)
    conv.weight.copy_(rows[:, :-1, None, None])
    assert conv.bias is not None
    conv.bias.copy_(rows[:, -1])
    return conv
