"""DCGAN generator and critic for square tiles of 32 to 256 px.

Source: Radford, Metz and Chintala 2016 (DCGAN), as RNA-GAN uses it (Cell Reports Methods 2023, STAR Methods). Where we
differ: resize-convolution instead of transposed convolution by default (no checkerboard; Odena, Dumoulin and Olah
2016), normalisation per sample instead of per batch, a critic without BatchNorm (the gradient penalty of WGAN-GP is
defined a sample at a time: Gulrajani et al. 2017, section 4) and with a linear output, and an optional projection
(Miyato and Koyama 2018) that ties a tile to its own profile.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn

TILE_SIZES = (32, 64, 128, 256)
BASE_PX = 4  # the generator starts from, and the critic ends at, a map of 4 x 4
SLOPE = 0.2  # of LeakyReLU in the critic (DCGAN, section 3)
Norm = Literal["batch", "group", "pixel", "none"]
Upsample = Literal["resize", "transposed"]


def levels(image_px: int) -> int:
    """Number of doublings from 4 px to `image_px`.

    Raises
    ------
    ValueError : `image_px` is not 32, 64, 128 or 256.
    """
    if image_px not in TILE_SIZES:
        raise ValueError(f"image_px: expected one of {TILE_SIZES}, found {image_px}")
    return int(math.log2(image_px // BASE_PX))


class PixelNorm(nn.Module):
    """Divide each pixel's channel vector by its root mean square (Karras et al. 2018, section 4.2); no batch statistics."""

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps.float() if maps.dtype == torch.float16 else maps  # there squares overflow, and 1e-8 is 0
        return maps * torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + 1e-8).to(maps.dtype)


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    if kind == "pixel":
        return PixelNorm()
    return nn.Identity()


class Generator(nn.Module):
    """Input vector -> tile.

    Parameters
    ----------
    input_dim : length of the input vector (latent, noise, or label and noise).
    image_px : side of the tile, one of `TILE_SIZES`.
    width : channels at half the tile's resolution; doubled at each lower one (halved for the last layer of "resize").
    max_width : at most this many channels anywhere.
    upsample : "resize" (nearest neighbour, then 3 x 3 convolution) or "transposed" (4 x 4, stride 2; as published).
    norm : "batch" (as published), "group" or "pixel" (per sample), "none".
    """

    def __init__(
        self,
        *,
        input_dim: int,
        image_px: int,
        width: int = 64,
        max_width: int = 2048,
        upsample: Upsample = "resize",
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        if upsample not in ("resize", "transposed"):
            raise ValueError(f"upsample: expected 'resize' or 'transposed', found {upsample!r}")
        self.input_dim, self.image_px = input_dim, image_px
        doublings = levels(image_px)
        channels = [min(width << (doublings - 1 - level), max_width) for level in range(doublings)]
        bias = norm in ("none", "pixel")  # a bias before a normalisation that subtracts the mean would get no gradient
        self.first = nn.ConvTranspose2d(input_dim, channels[0], BASE_PX, bias=bias)
        self.first_norm = nn.Sequential(_norm(norm, channels[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            blocks += [_up(before, after, upsample, bias), _norm(norm, after), nn.ReLU()]
        if upsample == "resize":
            # one hidden layer at full resolution: after nearest-neighbour resizing a single 3 x 3 filter is too blunt
            last = max(4, width // 2)
            blocks += [_up(channels[-1], last, upsample, bias), _norm(norm, last), nn.ReLU()]
            blocks += [nn.Conv2d(last, 3, 3, padding=1)]
        else:
            blocks += [nn.ConvTranspose2d(channels[-1], 3, 4, stride=2, padding=1)]
        self.blocks = nn.Sequential(*blocks)
        self.apply(_start)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (B, input_dim) -> (B, 3, image_px, image_px) in (-1, 1)."""
        return torch.tanh(self.blocks(self.first_norm(_from_one_pixel(self.first, inputs))))


class Critic(nn.Module):
    """Tile (and condition) -> score, unbounded; no batch statistics, linear output.

    Parameters
    ----------
    image_px : side of the tile.
    width : channels after the first halving; doubled at each further one.
    max_width : at most this many channels anywhere.
    norm : "none" or "group" (per sample); batch statistics are refused.
    condition_dim : length of the condition (profile latent or one-hot tissue); 0 where there is none.
    projection : score += <V condition, pooled features> (Miyato and Koyama 2018, eq. 3).
    regress : add a head that predicts the condition from the tile (for the latent-matching term).
    """

    def __init__(
        self,
        *,
        image_px: int,
        width: int = 64,
        max_width: int = 2048,
        norm: Literal["none", "group"] = "none",
        condition_dim: int = 0,
        projection: bool = False,
        regress: bool = False,
    ) -> None:
        super().__init__()
        if norm not in ("none", "group"):
            raise ValueError(f"norm: a critic with a gradient penalty takes 'none' or 'group', found {norm!r}")
        if (projection or regress) and condition_dim < 1:
            raise ValueError("condition_dim: projection and regress need a condition")
        doublings = levels(image_px)
        channels = [min(width << level, max_width) for level in range(doublings)]
        layers: list[nn.Module] = []
        for before, after in zip([3, *channels[:-1]], channels, strict=True):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=norm == "none" or before == 3)]
            layers += [nn.LeakyReLU(SLOPE)] if before == 3 else [_norm(norm, after), nn.LeakyReLU(SLOPE)]
        self.trunk = nn.Sequential(*layers)
        self.feature_dim = channels[-1]
        self.score = nn.Conv2d(channels[-1], 1, BASE_PX)
        self.project = nn.Linear(condition_dim, channels[-1], bias=False) if projection else None
        self.predict = nn.Linear(channels[-1], condition_dim) if regress else None
        self.apply(_start)

    def forward(self, tiles: Tensor, condition: Tensor | None = None) -> Tensor:
        """Shape (B, 3, H, W) in [-1, 1] (and (B, condition_dim)) -> scores (B,).

        Raises
        ------
        ValueError : the critic projects a condition and none is given.
        """
        return self.judge(tiles, condition)[0]

    def judge(self, tiles: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return scores (B,) and, where the critic regresses, the condition it reads from the tiles (B, condition_dim)."""
        maps = self.trunk(tiles)
        scores = self.score(maps).flatten().float()  # half precision would round their means
        pooled = maps.mean(dim=(2, 3))
        if self.project is not None:
            if condition is None:
                raise ValueError("condition: this critic projects one")
            scores = scores + (self.project(condition) * pooled).sum(dim=1)
        return scores, None if self.predict is None else self.predict(pooled)


def pixel_spread(tiles: Tensor) -> Tensor:
    """Mean over tiles and channels of the standard deviation of a tile's pixels, every fourth row and column; shape ().

    0 for tiles of one colour, whatever their colours; `tiles` is (B, C, H, W), at least 5 x 5.
    """
    return tiles.detach()[:, :, ::4, ::4].flatten(2).float().std(dim=2).mean()


class ResizeConvolution(nn.Sequential):
    """Nearest-neighbour doubling, then a 3 x 3 convolution, computed as the one transposed convolution that it equals.

    Of the nine products of an output pixel with the doubled map, some share their source pixel: four remain. Each output
    pixel has its own four whatever its place, so that no checkerboard comes with it.
    """

    #: From a row of 3 weights to the row of 4 of a transposed convolution of stride 2 and padding 1.
    FOLD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __init__(self, before: int, after: int, *, bias: bool) -> None:
        super().__init__(nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(before, after, 3, padding=1, bias=bias))

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (B, before, H, W) -> (B, after, 2 H, 2 W)."""
        convolution = self[1]
        assert isinstance(convolution, nn.Conv2d)
        fold = convolution.weight.new_tensor(self.FOLD)
        with torch.autocast(maps.device.type, enabled=False):
            folded = convolution.weight.flatten(2) @ torch.kron(fold, fold).T
        weight = folded.unflatten(2, (4, 4)).transpose(0, 1)
        return nn.functional.conv_transpose2d(maps, weight, convolution.bias, stride=2, padding=1)


def _from_one_pixel(first: nn.ConvTranspose2d, inputs: Tensor) -> Tensor:
    """Return the transposed convolution of a map of one pixel, (B, in) -> (B, out, k, k), as the matrix product that it is.

    In fp32 whatever the precision: its time goes into reading its weights, which a cast would do twice.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        weight = first.weight.permute(0, 2, 3, 1)  # in whichever order it lies in memory: another would copy it
        if weight.is_contiguous():
            maps = (inputs.to(weight.dtype) @ weight.flatten(1)).unflatten(1, weight.shape[1:]).permute(0, 3, 1, 2)
        else:
            maps = (inputs.to(weight.dtype) @ first.weight.flatten(1)).unflatten(1, first.weight.shape[1:])
        return maps if first.bias is None else maps + first.bias.view(-1, 1, 1)


def _up(before: int, after: int, upsample: Upsample, bias: bool) -> nn.Module:
    if upsample == "resize":
        return ResizeConvolution(before, after, bias=bias)
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)


def _start(module: nn.Module) -> None:
    """He initialisation; without batch statistics the N(0, 0.02) of DCGAN would shrink the signal at every layer."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        # A transposed convolution stores (in, out, kernel), and each output pixel sees kernel / stride of its taps a side
        # (one tap in the generator's first layer, whose input is 1 x 1).
        fan_in = module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose2d) and module.stride[0] > 1:
            fan_in = fan_in * module.kernel_size[0] * module.kernel_size[1] // (module.stride[0] * module.stride[1])
        gain = 1.0 if isinstance(module, nn.Linear) else math.sqrt(2.0)
        nn.init.normal_(module.weight, std=gain / math.sqrt(fan_in))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
