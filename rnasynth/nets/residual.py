"""The parts of the U-Net: how it is told a noise level, and a residual block that what it is told scales and shifts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnasynth.nets.attention import Attention
from rnasynth.nets.normalise import groups_of, norm_silu

SLOWEST, FASTEST = 1e-3, 8.0  # radians a unit: timesteps of 0..1,000 and EDM's ln(sigma) / 4 of -2..1 are both resolved


class LevelEmbedding(nn.Module):
    """Cosines and sines of a noise level, and two layers; float32 also under autocast, where a level would be rounded.

    Parameters
    ----------
    features : number of cosines and sines, even.
    out : length of the embedding.
    """

    frequencies: Tensor

    def __init__(self, features: int, out: int) -> None:
        super().__init__()
        steps = torch.linspace(math.log(SLOWEST), math.log(FASTEST), features // 2)
        self.register_buffer("frequencies", steps.exp(), persistent=False)
        self.layers = nn.Sequential(nn.Linear(features // 2 * 2, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, level: Tensor) -> Tensor:
        """Embed levels, shape (B,), any float scale up to about 1,000 -> (B, out) float32."""
        with torch.autocast(level.device.type, enabled=False):
            angles = level.float()[:, None] * self.frequencies
            embedded: Tensor = self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))
        return embedded


class NormSilu(nn.Module):
    """GroupNorm with a learnt scale and shift for each channel, then SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.groups = groups_of(channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return norm_silu(image, self.weight[None], self.bias[None], groups=self.groups)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; noise level and profile scale and shift what lies between them.

    GroupNorm, SiLU, 3x3 convolution; GroupNorm, scale and shift, SiLU, (dropout), 3x3 convolution; plus the input,
    through a 1x1 convolution where the number of channels changes (Dhariwal and Nichol 2021, section 3, in the order
    of Saharia et al. 2022, "Imagen", figure A.27). The second convolution begins at zero.

    Parameters
    ----------
    before, after : channels.
    embedding : length of the embedding.
    dropout : share of values dropped before the second convolution, in training.
    """

    def __init__(self, before: int, after: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_before = NormSilu(before)
        self.conv_before = nn.Conv2d(before, after, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, 2 * after)
        self.groups = groups_of(after)
        self.dropout = dropout
        self.conv_after = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Linear(before, after) if before != after else None
        nn.init.zeros_(self.conv_after.weight)
        if self.conv_after.bias is not None:
            nn.init.zeros_(self.conv_after.bias)

    def forward(self, image: Tensor, embedded: Tensor) -> Tensor:
        """(B, before, H, W) and the activated embedding (B, embedding) -> (B, after, H, W)."""
        hidden = self.conv_before(self.norm_before(image))
        scale, shift = self.scale_shift(embedded).chunk(2, dim=1)
        hidden = norm_silu(hidden, 1 + scale.float(), shift, groups=self.groups)
        if self.dropout and self.training:
            hidden = functional.dropout(hidden, self.dropout)
        if self.shortcut is not None:  # as a matrix product: a 1x1 convolution may be slow
            image = self.shortcut(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = self.conv_after(hidden)
        return out.add_(image)


class Stage(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, block: ResidualBlock, attention: Attention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, image: Tensor, embedded: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, before, H, W) -> (B, after, H, W)."""
        image = self.block(image, embedded)
        return image if self.attention is None else self.attention(image, tokens)
