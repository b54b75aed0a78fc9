"""A small U-Net that sees where nuclei are and how deep inside one a pixel lies."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

WIDTHS = (16, 24, 32, 48, 64)
LEAK = 0.1  # with plain ReLU and 8 channels the last level was about 0 in the middle of nuclei: no depth above 0.5


class NucleiNet(nn.Module):
    """Five levels, two 3 x 3 convolutions each, 0.25 million weights.

    In: (B, 3, H, W) float32, stains brought to one strength (`rnasynth.evaluation.cells.stain`); H and W are multiples of
    16. Out: (B, 2, H, W) logits: inside a nucleus; depth in it, which is 1 in its middle and near 0 at its border, also at
    the border to a nucleus that touches it.

    Source: Ronneberger et al., MICCAI 2015 (U-Net); the depth map as in Naylor et al., IEEE TMI 38, 448 (2019).
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(_pair(a, b) for a, b in pairwise((3, *widths)))
        upward = widths[::-1]
        self.up = nn.ModuleList(_pair(a + b, b) for a, b in pairwise(upward))
        self.head = nn.Conv2d(widths[0], 2, 1)

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""
        return int(2 ** (len(self.down) - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the two logits of every pixel."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1))
        return cast(Tensor, self.head(x))


def fold_norms(network: NucleiNet) -> NucleiNet:
    """Fold each normalisation into the convolution before it, in place: the same result in less time, for use only."""
    for blocks in (network.down, network.up):
        for place, block in enumerate(blocks):
            layers = list(cast(nn.Sequential, block))
            folded = [fuse_conv_bn_eval(cast(nn.Conv2d, layers[k]), cast(nn.BatchNorm2d, layers[k + 1])) for k in (0, 3)]
            blocks[place] = nn.Sequential(folded[0], layers[2], folded[1], layers[5])
    return network


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for start in (inputs, outputs):
        layers += [nn.Conv2d(start, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.LeakyReLU(LEAK, inplace=True))
    return nn.Sequential(*layers)
