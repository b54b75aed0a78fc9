"""U-Net of the diffusion cascade: told the noise level and an expression profile, it looks at a noisy tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rnasynth.errors import InputError
from rnasynth.nets.attention import Attention, Tokens
from rnasynth.nets.residual import LevelEmbedding, NormSilu, ResidualBlock, Stage


def _row(name: str, values: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Values of the stated shape, or an InputError that names them."""
    if values is None or tuple(values.shape) != shape:
        found = "none" if values is None else f"shape {tuple(values.shape)}"
        raise InputError(name, expected=f"shape {shape}", found=found)
    return values


def _check_design(
    width: int,
    levels: int,
    blocks: Sequence[int],
    self_attention: Sequence[bool],
    cross_attention: Sequence[bool],
    paths: str,
    injection: str,
) -> None:
    """Raise InputError where the arguments of a U-Net do not make one."""
    if width < 2 or width % 2:
        raise InputError("width", expected="an even number of channels", found=str(width))
    for name, values in (("blocks", blocks), ("self_attention", self_attention), ("cross_attention", cross_attention)):
        if len(values) != levels or not levels:
            raise InputError(name, expected=f"one entry for each of the {levels} multipliers", found=f"{len(values)}")
    if min(blocks) < 1:
        raise InputError("blocks", expected="at least 1 a level", found=str(tuple(blocks)))
    if paths not in ("both", "scale-shift", "attention"):
        raise InputError("paths", expected="'both', 'scale-shift' or 'attention'", found=repr(paths))
    if injection not in ("every", "once"):
        raise InputError("injection", expected="'every' or 'once'", found=repr(injection))


class UNet(nn.Module):
    """Efficient U-Net for tiles, conditioned on a noise level and, by two paths, on a profile.

    Down: `blocks[i]` residual blocks a level, halving (2x2 mean) between levels. One block in the middle. Up: as many
    blocks again, each reading the block across through concatenation, doubling (nearest pixel) between levels.
    A level's width is reached in its first block down and left in its last block up, at the smaller image, so
    resampling has no weights and makes no checkerboard. The profile goes into every block's scale and shift, and
    into cross-attention as several different tokens. After Saharia et al. 2022 (Imagen, section 2.4 and appendix B)
    and, for the blocks, Dhariwal and Nichol 2021.

    Parameters
    ----------
    width : channels of the first level; also of a token. The embedding has 4 times as many.
    multipliers : width of each level as a multiple of `width`, from the full image down.
    blocks : residual blocks of each level, in each direction.
    self_attention, cross_attention : at which levels, after each residual block; the middle has what the last level has.
    condition_dim : length of the condition; 0 for none.
    tokens : number of tokens made from the condition.
    head_dim : channels of an attention head.
    paths : by which way the profile enters: scale and shift, cross-attention, or both.
    injection : "every": at every block. "once": the profile enters the first block alone, and the first attention
        block that looks across; the noise level still enters everywhere.
    low_resolution : the net also sees a low-resolution tile, and how much noise was added to it.
    channels : colours.
    dropout : share of values dropped in each residual block, in training.
    checkpointing : keep only each block's input in training and compute the rest again on the way back: less memory,
        about a third more time, the same gradients.
    feed_forward : hidden channels of the feed-forward part of an attention block, as a multiple of the level's.
    patch : side of the squares of pixels that the first level sees as the channels of one (space to depth); 1 for none.
        The same arithmetic at fewer places and more channels, which small machines do faster.

    Raises
    ------
    InputError
        When the lists differ in length, or a number is out of its range, or no path is left for the profile.

    Examples
    --------
    >>> net = UNet(width=16, multipliers=(1, 2), blocks=(1, 1), self_attention=(False, True),
    ...            cross_attention=(False, True), condition_dim=8)
    >>> net(torch.zeros(2, 3, 16, 16), torch.zeros(2), torch.zeros(2, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        *,
        width: int,
        multipliers: Sequence[int],
        blocks: Sequence[int],
        self_attention: Sequence[bool],
        cross_attention: Sequence[bool],
        condition_dim: int,
        tokens: int = 4,
        head_dim: int = 64,
        paths: Literal["both", "scale-shift", "attention"] = "both",
        injection: Literal["every", "once"] = "every",
        low_resolution: bool = False,
        channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
        feed_forward: float = 2.0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        levels = len(multipliers)
        _check_design(width, levels, blocks, self_attention, cross_attention, paths, injection)
        if patch < 1:
            raise InputError("patch", expected="at least 1", found=str(patch))
        self.patch = patch
        self.channels, self.condition_dim, self.checkpointing = channels, condition_dim, checkpointing
        self.low_resolution, self.injection, self.halvings = low_resolution, injection, levels - 1
        widths = [width * multiplier for multiplier in multipliers]
        embedding = 4 * width
        by_shift = condition_dim > 0 and paths in ("both", "scale-shift")
        by_attention = condition_dim > 0 and paths in ("both", "attention")
        across = list(cross_attention) if by_attention else [False] * levels
        if condition_dim > 0 and not by_shift and not any(across):
            raise InputError(
                "paths",
                expected="cross-attention at a level",
                found="none",
                fix="set a level of cross_attention, or paths='both'",
            )

        self.level = LevelEmbedding(width, embedding)
        self.low_level = LevelEmbedding(width, embedding) if low_resolution else None
        self.profile = (
            nn.Sequential(nn.Linear(condition_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
            if by_shift
            else None
        )
        self.null = nn.Parameter(torch.zeros(embedding)) if by_shift else None
        self.tokens = Tokens(condition_dim, tokens, width) if any(across) else None
        looked = False

        def stage(before: int, after: int, at: int) -> Stage:
            nonlocal looked
            looks = across[at] and not (injection == "once" and looked)
            looked |= looks
            attention = None
            if self_attention[at] or looks:
                attention = Attention(
                    after,
                    self_attention=self_attention[at],
                    token_width=width if looks else 0,
                    head_dim=head_dim,
                    feed_forward=feed_forward,
                )
            return Stage(ResidualBlock(before, after, embedding, dropout), attention)

        self.first = nn.Conv2d(channels * (1 + low_resolution) * patch**2, widths[0], 3, padding=1)
        self.down_levels = [at for at in range(levels) for _ in range(blocks[at])]
        self.up_levels = self.down_levels[::-1]
        afters = [widths[at] for at in self.down_levels]
        befores = [widths[0], *afters]
        self.down = nn.ModuleList(map(stage, befores, afters, self.down_levels))
        self.middle = stage(afters[-1], afters[-1], levels - 1)
        # Up, a block writes the width that the next one reads: the narrower one of the level above comes before doubling.
        self.up = nn.ModuleList(map(stage, [2 * after for after in afters[::-1]], befores[:-1][::-1], self.up_levels))
        self.last_norm = NormSilu(widths[0])
        self.last = nn.Conv2d(widths[0], channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def shard_units(self) -> list[nn.Module]:
        """Return the parts whose weights lie whole only while they compute, where several GPUs share the network."""
        return [*self.down, self.middle, *self.up]

    def _check_image(self, image: Tensor) -> None:
        step = self.patch * 2**self.halvings
        if image.ndim != 4 or image.shape[1] != self.channels or image.shape[2] % step or image.shape[3] % step:
            raise InputError(
                "image",
                expected=f"shape (B, {self.channels}, H, W) with H and W divisible by {step}",
                found=str(tuple(image.shape)),
            )

    def _run(self, stage: nn.Module, image: Tensor, embedded: Tensor, tokens: Tensor | None) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(stage, image, embedded, tokens, use_reentrant=False)
        return stage(image, embedded, tokens)

    def forward(
        self,
        image: Tensor,
        level: Tensor,
        condition: Tensor | None,
        *,
        keep: Tensor | None = None,
        low: Tensor | None = None,
        low_level: Tensor | None = None,
    ) -> Tensor:
        """Look at noisy tiles.

        Parameters
        ----------
        image : shape (B, channels, H, W), float, scaled to a variance of about 1; H and W divisible by
            patch * 2 ** (levels - 1).
        level : noise level as the parametrisation says it (`c_noise`), shape (B,), float of any scale up to 1,000.
        condition : shape (B, condition_dim), float; None or no columns where `condition_dim` is 0.
        keep : shape (B,), bool; rows where it is False get the learnt "no profile". None keeps all.
        low : low-resolution tile brought to H x W, shape (B, channels, H, W); needed where `low_resolution`.
        low_level : noise level that was added to `low`, shape (B,), float.

        Returns
        -------
        Shape (B, channels, H, W).

        Raises
        ------
        InputError
            When a shape does not fit, or something needed is missing.
        """
        n = len(image)
        self._check_image(image)
        embedded = self.level(_row("level", level, (n,)))
        if self.low_level is not None:
            low = _row("low", low, tuple(image.shape))
            embedded = embedded + self.low_level(_row("low_level", low_level, (n,)))
            image = torch.cat([image, low.to(image.dtype)], dim=1)
        elif low is not None or low_level is not None:
            raise InputError("low", expected="none: the net has no low-resolution input", found="one")
        timed = with_profile = functional.silu(embedded)
        tokens = None
        if self.condition_dim:
            condition = _row("condition", condition, (n, self.condition_dim))
        elif condition is not None and condition.numel():
            raise InputError("condition", expected="none: the net was made without", found=f"shape {tuple(condition.shape)}")
        keep = torch.ones(n, dtype=torch.bool, device=image.device) if keep is None else _row("keep", keep, (n,))
        if self.profile is not None and self.null is not None:
            profile = self.profile(condition)
            with_profile = functional.silu(embedded + torch.where(keep[:, None], profile, self.null.to(profile.dtype)))
            if self.injection == "every":
                timed = with_profile
        if self.tokens is not None:
            tokens = self.tokens(condition, keep)

        image = functional.pixel_unshuffle(image, self.patch)
        image = self.first(image.contiguous(memory_format=torch.channels_last))
        timed, with_profile = timed.to(image.dtype), with_profile.to(image.dtype)
        across: list[Tensor] = []
        at_before = 0
        for stage, at in zip(self.down, self.down_levels, strict=True):
            if at > at_before:
                image = functional.avg_pool2d(image, 2)
            image = self._run(stage, image, timed if across else with_profile, tokens)
            across.append(image)
            at_before = at
        image = self._run(self.middle, image, timed, tokens)
        for stage, at in zip(self.up, self.up_levels, strict=True):
            if at < at_before:
                image = functional.interpolate(image, scale_factor=2, mode="nearest")
            image = self._run(stage, torch.cat([image, across.pop()], dim=1), timed, tokens)
            at_before = at
        return functional.pixel_shuffle(self.last(self.last_norm(image)), self.patch)
