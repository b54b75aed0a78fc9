"""The low-resolution condition of a super-resolution stage: made, brought to size and corrupted in one place.

Training makes the low-resolution tile from the real one, sampling gets it from the stage below. Both go through the same
two functions in the same order, on the same scale: `raise_low`, then `corrupt_low`; so the network sees one distribution.

Sources: Ho et al., JMLR 2022 (cascades: noise and blur on the condition); Saharia et al., NeurIPS 2022 (its level as input).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rnasynth.errors import InputError


def lower(clean: Tensor, factor: int) -> Tensor:
    """Return images smaller by a whole factor, each pixel the mean of the area it covers.

    Parameters
    ----------
    clean : shape (B, C, H, W).
    factor : at least 1, a divisor of H and W.

    Returns
    -------
    Shape (B, C, H / factor, W / factor).

    Raises
    ------
    InputError : the factor does not divide the image.
    """
    height, width = clean.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise InputError(f"image of {height} x {width} px", expected="a factor that divides it", found=str(factor))
    return F.avg_pool2d(clean, factor) if factor > 1 else clean


def raise_low(low: Tensor, px: int) -> Tensor:
    """Return images of shape (B, C, px, px) from smaller ones (B, C, h, w), bilinear between pixel centres.

    Raises
    ------
    InputError : `px` is smaller than the image.
    """
    if px < max(low.shape[-2:]):
        raise InputError(
            f"low-resolution image of {tuple(low.shape[-2:])} px", expected="at most the size asked for", found=f"{px} px"
        )
    return F.interpolate(low, size=(px, px), mode="bilinear", align_corners=False)


def blur(images: Tensor, sigma_px: float) -> Tensor:
    """Return images (B, C, H, W) after a Gaussian blur of `sigma_px` pixels, edges mirrored; 0 leaves them unchanged.

    The kernel reaches 3 sigma (at most the image's side less one pixel) and sums to one.
    """
    if not 0 <= sigma_px < math.inf:
        raise InputError("blur", expected="a standard deviation in pixels, 0 or more", found=str(sigma_px))
    for axis in (-1, -2):
        reach = min(math.ceil(3 * sigma_px), images.shape[axis] - 1)
        if reach == 0:
            continue
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.softmax(-0.5 * (offsets / sigma_px).square(), dim=0)
        pad, shape = ((reach, reach, 0, 0), (1, 1, 1, -1)) if axis == -1 else ((0, 0, reach, reach), (1, 1, -1, 1))
        channels = images.shape[1]
        weight, padded = kernel.view(shape).expand(channels, *shape[1:]), F.pad(images, pad, mode="reflect")
        with torch.autocast(images.device.type, enabled=False):  # bf16 would take grey levels from the condition
            images = F.conv2d(padded, weight, groups=channels)
    return images


def corrupt_low(low: Tensor, level: Tensor, noise: Tensor, *, blur_sigma: float) -> Tensor:
    """Return the low-resolution condition as the network sees it: blurred, then noised.

    The function of both training and sampling (noise augmentation: the next stage must not trust fine grain that the stage
    below may get wrong). The network is told `level` itself, so give it the tensor used here.

    Parameters
    ----------
    low : shape (B, C, px, px), float32 in [-1, 1], already of the size of the images that are made (`raise_low`).
    level : shape (B,), a float in [0, 1): standard deviation of the noise added on that scale; 0 adds none.
    noise : shape of `low`, standard normal.
    blur_sigma : standard deviation of the blur in pixels of `low`, 0 or more.

    Returns
    -------
    Shape of `low`, not clipped: blur(low) + level * noise.

    Raises
    ------
    InputError : a level that is not a float, is outside [0, 1), or not one a sample.
    """
    if not level.is_floating_point() or level.shape != (len(low),):
        raise InputError(
            "low-resolution noise level",
            expected=f"one float a sample, shape ({len(low)},)",
            found=f"{level.dtype} of shape {tuple(level.shape)}",
        )
    if not bool(((level >= 0) & (level < 1)).all()):
        raise InputError(
            "low-resolution noise level", expected="numbers in [0, 1)", found=f"{float(level.min())} to {float(level.max())}"
        )
    return blur(low, blur_sigma) + level.to(low.dtype).view(-1, 1, 1, 1) * noise
