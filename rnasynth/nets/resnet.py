"""Residual networks 18 and 50 of any width, for tiles from 32 px up; the feature vector is the mean of the last maps.

Source: He, Zhang, Ren and Sun 2016, table 1. Where we differ: any number of channels in the first layer (64 as
published), by option a first layer for small tiles (3 x 3, stride 2, no pooling), and the stride of a bottleneck in its
3 x 3 convolution (as everybody does now, not in the first 1 x 1).
"""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

DEPTHS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
EXPANSION = {18: 1, 50: 4}  # channels after a block, in units of its width
Stem = Literal["published", "small"]


class ResNet(nn.Module):
    """Tiles -> features.

    Parameters
    ----------
    depth : 18 (basic blocks) or 50 (bottlenecks).
    width : channels of the first stage, at least 1; doubled at each of the three others. 64 as published.
    stem : "published" (7 x 7, stride 2, then 3 x 3 pooling, stride 2) or "small" (3 x 3, stride 2).

    Attributes
    ----------
    dim : number of features, 8 `width` (18) or 32 `width` (50).

    Raises
    ------
    ValueError : another depth, stem or width.
    """

    def __init__(self, *, depth: int = 18, width: int = 64, stem: Stem = "published") -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth: expected one of {sorted(DEPTHS)}, found {depth}")
        if stem not in ("published", "small"):
            raise ValueError(f"stem: expected 'published' or 'small', found {stem!r}")
        if width < 1:
            raise ValueError(f"width: expected at least 1, found {width}")
        first: list[nn.Module] = [nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)]
        if stem == "small":
            first = [nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)]
        first += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*first, *([nn.MaxPool2d(3, stride=2, padding=1)] if stem == "published" else []))
        stages: list[nn.Module] = []
        channels = width
        for number, blocks in enumerate(DEPTHS[depth]):
            inner = width << number
            after = inner * EXPANSION[depth]
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            layers = []
            for stride in strides:
                layers.append(Block(channels, inner, after, stride))
                channels = after
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.dim = channels
        self.apply(_start)

    def forward(self, tiles: Tensor) -> Tensor:
        """Shape (B, 3, H, W), in [-1, 1] -> (B, dim)."""
        return cast(Tensor, self.stages(self.stem(tiles)).mean(dim=(2, 3)))


class Block(nn.Module):
    """Residual block: basic where `after` equals `inner`, else a bottleneck."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        if inner == after:
            layers = [*_conv(before, inner, 3, stride), nn.ReLU(inplace=True), *_conv(inner, after, 3)]
        else:
            layers = [*_conv(before, inner, 1), nn.ReLU(inplace=True), *_conv(inner, inner, 3, stride)]
            layers += [nn.ReLU(inplace=True), *_conv(inner, after, 1)]
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*_conv(before, after, 1, stride)) if before != after or stride > 1 else nn.Identity()
        self.last = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (B, before, H, W) -> (B, after, H / stride, W / stride)."""
        return cast(Tensor, self.last(self.body(maps) + self.shortcut(maps)))


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
    ]


def _start(module: nn.Module) -> None:
    """He initialisation, by the number of outputs (He et al. 2015, section 2.2)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
