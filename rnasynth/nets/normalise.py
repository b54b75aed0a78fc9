"""GroupNorm, scale, shift and SiLU in one step that keeps one copy of the image for the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGE = 1024  # pixels from which torch's own GroupNorm is fast in channels_last on a processor, forward only


def groups_of(channels: int) -> int:
    """Groups of a GroupNorm: at most 32, at least 4 channels each where possible, a divisor of the channels."""
    return next(groups for groups in range(max(1, min(32, channels // 4)), 0, -1) if channels % groups == 0)


def norm_silu(image: Tensor, scale: Tensor, shift: Tensor, *, groups: int, eps: float = 1e-5) -> Tensor:
    """Return `silu(group_norm(image) * scale + shift)`.

    In the layout that convolutions like (channels_last), torch's own GroupNorm is slow on the way back and for small
    images (measured on a processor with bf16 units: 40 % of a training step), and the image is kept twice more between
    norm, scale and SiLU. Here the moments are sums over pixels, norm and scale are one multiply-add, and only `image`
    is kept.

    Parameters
    ----------
    image : shape (B, C, H, W), any float, channels_last (else it is copied).
    scale, shift : shape (B, C) or (1, C).
    groups : number of groups of channels that are normalised together, a divisor of C.
    eps : added to the variance.

    Returns
    -------
    Shape (B, C, H, W), dtype and layout of `image`. The moments are summed in float32.

    Source: Wu and He 2018, "Group normalization", equations 1 to 4.
    """
    if image.dtype == torch.float16:  # squares of float16 overflow above 255
        return norm_silu(image.float(), scale, shift, groups=groups, eps=eps).half()
    pixels = image.permute(0, 2, 3, 1).flatten(1, 2)
    wide = _wide(image.dtype)
    if torch.is_grad_enabled() and any(each.requires_grad for each in (image, scale, shift)):
        out: Tensor = _NormSilu.apply(pixels, scale.to(wide), shift.to(wide), groups, eps)
    else:
        out = _without_gradient(pixels, scale.to(wide), shift.to(wide), groups, eps)
    return out.unflatten(1, image.shape[2:]).permute(0, 3, 1, 2)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Type of sums: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def _sums(pixels: Tensor) -> Tensor:
    """Sum over pixels, (B, N, C) -> (B, C) float32 or wider.

    A bfloat16 image of many pixels is summed in runs first, each rounded once: three times faster than making the image
    float32, and the rounding errors of the runs cancel.
    """
    count = pixels.shape[1]
    run = max(16, count // 64)
    if pixels.dtype == torch.bfloat16 and count >= 256 and count % run == 0:
        pixels = pixels.unflatten(1, (-1, run)).sum(2)
    return pixels.sum(1, dtype=_wide(pixels.dtype))


def _moments(pixels: Tensor, scratch: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each group, (B, groups) each, by sums."""
    n, count, channels = pixels.shape
    sums = torch.stack([_sums(pixels), _sums(torch.mul(pixels, pixels, out=scratch))])
    mean, power = sums.view(2, n, groups, -1).sum(3) / (count * channels // groups)
    return mean, (power - mean.square()).clamp(min=0).add(eps).rsqrt()


def _native(pixels: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Torch's GroupNorm with scale and shift, and its moments: (B, N, C), (B, groups), (B, groups)."""
    n, count, channels = pixels.shape
    shared = len(scale) == len(shift) == 1
    weight, bias = (scale[0], shift[0]) if shared else (torch.ones_like(scale[0]), torch.zeros_like(scale[0]))
    image = pixels[:, None].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)  # (B, C, 1, N), not copied
    image, mean, inverse = torch.native_group_norm(image, weight, bias, n, channels, count, groups, eps)
    out = image[:, :, 0].transpose(1, 2)
    if not shared:
        torch.addcmul(shift[:, None].to(out.dtype), out, scale[:, None].to(out.dtype), out=out)
    return out, mean, inverse


def _by_sample(pixels: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float) -> Tensor:
    """Norm, scale, shift and SiLU of one sample after the other: it stays in the processor's cache in between."""
    n, count, channels = pixels.shape
    scales, shifts = scale.expand(n, -1).unbind(), shift.expand(n, -1).unbind()
    out = torch.empty_like(pixels)
    for sample, made, weight, bias in zip(pixels[:, None, None].unbind(), out.unbind(), scales, shifts, strict=True):
        image = sample.permute(0, 3, 1, 2)  # (1, C, 1, N), channels_last
        normed = torch.native_group_norm(image, weight, bias, 1, channels, count, groups, eps)[0]
        torch.ops.aten.silu.out(normed[0, :, 0].t(), out=made)
    return out


def _without_gradient(pixels: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float) -> Tensor:
    """`norm_silu` on pixels (B, N, C) with no way back to keep anything for."""
    if pixels.device.type == "cpu" and pixels.shape[1] >= LARGE:
        return _by_sample(pixels, scale, shift, groups, eps)
    out = torch.empty_like(pixels)
    mean, inverse = (moment[..., None] for moment in _moments(pixels, out, groups, eps))
    factor = inverse * scale.unflatten(1, (groups, -1))
    offset = torch.addcmul(shift.unflatten(1, (groups, -1)), mean, factor, value=-1)
    factor, offset = (part.flatten(1)[:, None].to(pixels.dtype) for part in (factor, offset))
    torch.addcmul(offset, pixels, factor, out=out)
    return torch.nn.functional.silu(out, inplace=True)


def _spread(by_group: Tensor, channels: int) -> Tensor:
    """(B, groups) -> (B, channels)."""
    return by_group.repeat_interleave(channels // by_group.shape[1], dim=1)


class _NormSilu(torch.autograd.Function):
    """`norm_silu` on pixels (B, N, C); scale and shift in the type of sums."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float) -> Tensor:
        channels = pixels.shape[2]
        native = pixels.device.type == "cpu" and pixels.shape[1] >= LARGE
        if native:
            out, mean, inverse = _native(pixels, scale, shift, groups, eps)
        else:
            out = torch.empty_like(pixels)
            mean, inverse = _moments(pixels, out, groups, eps)
        mean, inverse = _spread(mean, channels), _spread(inverse, channels)
        factor = inverse * scale
        offset = shift - mean * factor
        factor, offset = factor[:, None].to(pixels.dtype), offset[:, None].to(pixels.dtype)
        if not native:
            torch.addcmul(offset, pixels, factor, out=out)
        ctx.save_for_backward(pixels, scale, mean, inverse, factor, offset)
        ctx.groups, ctx.rows = groups, (len(scale), len(shift))
        return torch.nn.functional.silu(out, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        pixels, scale, mean, inverse, factor, offset = ctx.saved_tensors
        n, count, channels = pixels.shape
        size = count * channels // ctx.groups
        inner = torch.addcmul(offset, pixels, factor)
        torch.ops.aten.silu_backward.grad_input(gradient, inner, grad_input=inner)
        of_shift = _sums(inner)
        out = torch.mul(inner, pixels)
        of_scale = inverse * (_sums(out) - mean * of_shift)
        by_group = torch.stack([scale * of_shift, scale * of_scale]).view(2, n, ctx.groups, -1).sum(3) / size
        level, slope = (_spread(part, channels) for part in by_group)
        slope = -slope * inverse.square()
        level = -level * inverse - slope * mean
        torch.addcmul(level[:, None].to(pixels.dtype), pixels, slope[:, None].to(pixels.dtype), out=out)
        out.addcmul_(inner, factor)
        if ctx.rows[0] == 1:
            of_scale = of_scale.sum(0, keepdim=True)
        if ctx.rows[1] == 1:
            of_shift = of_shift.sum(0, keepdim=True)
        return out, of_scale, of_shift, None, None
