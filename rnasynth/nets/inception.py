"""Inception V3 as the Frechet Inception distance uses it: 2,048 features of the last pooling, and 1,008 logits.

Source: Szegedy et al. 2016 (the network); Heusel et al. 2017 (its use). The weights of that paper came from a TensorFlow
graph (2015-12-05) that differs from the printed network, and a distance is only comparable with theirs:

- average pooling inside the blocks divides by the pixels that are there, not by the zeros around them;
- the last block pools by the maximum, where the paper and the block before it take the mean;
- 1,008 classes; the Inception score's logits are without the last layer's bias (`logits`).

Names of the weights are those of the published PyTorch copy (`pt_inception-2015-12-05`), so that a conversion only
checks and drops, and renames nothing. No weights are part of this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 2048
CLASSES = 1008
INPUT_PX = 299
BN_EPS = 1e-3  # of the TensorFlow graph; torch's own is 1e-5
DROPPED = ("num_batches_tracked", "AuxLogits.")  # counters, and the classifier that is used in training only

Chain = tuple[str | tuple[str, ...], ...]  # convolutions in order; a tuple inside: side by side, joined
Pool = Literal["average", "max", "halve"]


class InceptionV3(nn.Module):
    """Tiles of 299 px in [-1, 1] -> features; see the module for what is peculiar.

    All weights are random until `load_state_dict(convert(published))`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(FEATURES, "max")
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, tiles: Tensor) -> Tensor:
        """Shape (B, 3, 299, 299) in [-1, 1] -> features (B, 2048); any side from 75 px up is computed."""
        maps = tiles
        for name, module in self.named_children():
            if name == "fc":
                break
            maps = module(maps)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                maps = functional.max_pool2d(maps, 3, stride=2)
        return maps.mean(dim=(2, 3))

    def logits(self, features: Tensor, *, bias: bool = False) -> Tensor:
        """Return logits (B, 1008) from features (B, 2048).

        Parameters
        ----------
        bias : False as in the published Inception scores (Salimans et al. 2016, whose code multiplies by the weights only).
        """
        return functional.linear(features, self.fc.weight, self.fc.bias if bias else None)


class Conv(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(
        self, before: int, after: int, kernel: int | tuple[int, int], *, stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=BN_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (B, before, H, W) -> (B, after, H', W')."""
        return functional.relu(self.bn(self.conv(maps)), inplace=True)


class Mixed(nn.Module):
    """Chains of convolutions side by side with a pooling, joined along the channels.

    Parameters
    ----------
    convolutions : by their published names.
    chains : how they follow each other, in the order in which their outputs are joined.
    pool : "average" (3 x 3, zeros around not counted) or "max" (3 x 3), each before the convolution `branch_pool`; "halve"
        (3 x 3 maximum, stride 2, no convolution). It is joined last.
    """

    def __init__(self, convolutions: Mapping[str, Conv], chains: tuple[Chain, ...], pool: Pool) -> None:
        super().__init__()
        for name, module in convolutions.items():
            self.add_module(name, module)
        self.chains, self.pool = chains, pool

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (B, before, H, W) -> (B, after, H', W')."""
        parts = [self._chain(maps, chain) for chain in self.chains]
        if self.pool == "halve":
            parts.append(functional.max_pool2d(maps, 3, stride=2))
        elif self.pool == "max":
            parts.append(self._chain(functional.max_pool2d(maps, 3, stride=1, padding=1), ("branch_pool",)))
        else:
            pooled = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
            parts.append(self._chain(pooled, ("branch_pool",)))
        return torch.cat(parts, dim=1)

    def _chain(self, maps: Tensor, chain: Chain) -> Tensor:
        for step in chain:
            if isinstance(step, tuple):
                maps = torch.cat([cast(Tensor, self.get_submodule(name)(maps)) for name in step], dim=1)
            else:
                maps = self.get_submodule(step)(maps)
        return maps


def prepare(tiles: Tensor, *, antialias: bool = False) -> Tensor:
    """Bring uint8 tiles (B, H, W, 3) to what the network takes: bilinear to 299 px, scaled to [-1, 1].

    Parameters
    ----------
    antialias : blur before making smaller. False as in the published distances; it makes no difference up to 299 px, where
        tiles are made larger. Pixels are centred at half numbers (as PyTorch's FID; TensorFlow's own resizing was not).

    Returns
    -------
    Shape (B, 3, 299, 299), float32.
    """
    pixels = tiles.permute(0, 3, 1, 2).float()
    if pixels.shape[2:] != (INPUT_PX, INPUT_PX):
        pixels = functional.interpolate(
            pixels, size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False, antialias=antialias
        )
    return pixels / 127.5 - 1.0


def convert(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the published weights, by name, into those of `InceptionV3`.

    Parameters
    ----------
    published : state dict of `pt_inception-2015-12-05`; a prefix "module." is dropped, and so are batch counters and the
        auxiliary classifier.

    Returns
    -------
    float32 tensors, complete: `InceptionV3().load_state_dict(convert(published))` needs no `strict=False`. Save it with
    `safetensors.torch.save_file`.

    Raises
    ------
    ValueError : a weight is missing, unknown, of another shape (1,000 classes are another network), or not finite.
    """
    given = {name.removeprefix("module."): tensor for name, tensor in published.items()}
    given = {name: tensor for name, tensor in given.items() if not any(part in name for part in DROPPED)}
    with torch.device("meta"):
        wanted = InceptionV3().state_dict()
    counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith("num_batches_tracked")}
    wanted = {name: tensor for name, tensor in wanted.items() if name not in counters}
    for kind, names in (("missing", set(wanted) - set(given)), ("unknown", set(given) - set(wanted))):
        if names:
            raise ValueError(f"Inception weights: {len(names)} {kind}, first {sorted(names)[0]}")
    converted = {name: given[name].detach().to("cpu", torch.float32).contiguous() for name in wanted}
    for name, tensor in converted.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(f"{name}: expected shape {tuple(wanted[name].shape)}, found {tuple(tensor.shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
    return converted | counters


def _block_a(before: int, pool: int) -> Mixed:
    """35 x 35 (Szegedy et al. 2016, fig. 5)."""
    convolutions = {
        "branch1x1": Conv(before, 64, 1),
        "branch5x5_1": Conv(before, 48, 1),
        "branch5x5_2": Conv(48, 64, 5, padding=2),
        "branch3x3dbl_1": Conv(before, 64, 1),
        "branch3x3dbl_2": Conv(64, 96, 3, padding=1),
        "branch3x3dbl_3": Conv(96, 96, 3, padding=1),
        "branch_pool": Conv(before, pool, 1),
    }
    doubled: Chain = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Mixed(convolutions, (("branch1x1",), ("branch5x5_1", "branch5x5_2"), doubled), "average")


def _block_b(before: int) -> Mixed:
    """To 17 x 17 (fig. 10)."""
    convolutions = {
        "branch3x3": Conv(before, 384, 3, stride=2),
        "branch3x3dbl_1": Conv(before, 64, 1),
        "branch3x3dbl_2": Conv(64, 96, 3, padding=1),
        "branch3x3dbl_3": Conv(96, 96, 3, stride=2),
    }
    return Mixed(convolutions, (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")), "halve")


def _block_c(before: int, inner: int) -> Mixed:
    """17 x 17, with 7 x 7 taken apart (fig. 6)."""
    row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}

    def conv(first: int, last: int, shape: dict[str, tuple[int, int]]) -> Conv:
        return Conv(first, last, shape["kernel"], padding=shape["padding"])

    convolutions = {
        "branch1x1": Conv(before, 192, 1),
        "branch7x7_1": Conv(before, inner, 1),
        "branch7x7_2": conv(inner, inner, row),
        "branch7x7_3": conv(inner, 192, column),
        "branch7x7dbl_1": Conv(before, inner, 1),
        "branch7x7dbl_2": conv(inner, inner, column),
        "branch7x7dbl_3": conv(inner, inner, row),
        "branch7x7dbl_4": conv(inner, inner, column),
        "branch7x7dbl_5": conv(inner, 192, row),
        "branch_pool": Conv(before, 192, 1),
    }
    single: Chain = tuple(f"branch7x7_{number}" for number in (1, 2, 3))
    doubled: Chain = tuple(f"branch7x7dbl_{number}" for number in (1, 2, 3, 4, 5))
    return Mixed(convolutions, (("branch1x1",), single, doubled), "average")


def _block_d(before: int) -> Mixed:
    """To 8 x 8."""
    convolutions = {
        "branch3x3_1": Conv(before, 192, 1),
        "branch3x3_2": Conv(192, 320, 3, stride=2),
        "branch7x7x3_1": Conv(before, 192, 1),
        "branch7x7x3_2": Conv(192, 192, (1, 7), padding=(0, 3)),
        "branch7x7x3_3": Conv(192, 192, (7, 1), padding=(3, 0)),
        "branch7x7x3_4": Conv(192, 192, 3, stride=2),
    }
    long: Chain = tuple(f"branch7x7x3_{number}" for number in (1, 2, 3, 4))
    return Mixed(convolutions, (("branch3x3_1", "branch3x3_2"), long), "halve")


def _block_e(before: int, pool: Pool) -> Mixed:
    """8 x 8, widened (fig. 7)."""
    convolutions = {
        "branch1x1": Conv(before, 320, 1),
        "branch3x3_1": Conv(before, 384, 1),
        "branch3x3_2a": Conv(384, 384, (1, 3), padding=(0, 1)),
        "branch3x3_2b": Conv(384, 384, (3, 1), padding=(1, 0)),
        "branch3x3dbl_1": Conv(before, 448, 1),
        "branch3x3dbl_2": Conv(448, 384, 3, padding=1),
        "branch3x3dbl_3a": Conv(384, 384, (1, 3), padding=(0, 1)),
        "branch3x3dbl_3b": Conv(384, 384, (3, 1), padding=(1, 0)),
        "branch_pool": Conv(before, 192, 1),
    }
    single: Chain = ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b"))
    doubled: Chain = ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return Mixed(convolutions, (("branch1x1",), single, doubled), pool)
