"""Diffusion as mathematics: noise levels, preconditioning, loss and guidance.

One convention for all of it (variance exploding): a noisy image is `clean + sigma * normal noise`, `sigma` being a
standard deviation on the scale of images in [-1, 1]; a denoiser D(noisy, sigma) estimates the clean image. How the network
F gives D is a parametrisation, D = c_skip noisy + c_out F(c_in noisy, c_noise): that of Karras et al. (`EDM`), or the
1,000 linear steps of Ho et al. with the noise predicted (`LinearDDPM`).

Sources: Karras et al., NeurIPS 2022 ("EDM"), table 1, equations 7 and 8; Ho et al., NeurIPS 2020; Ho and Salimans,
2022 (guidance); Kynkaanniemi et al., NeurIPS 2024 (guidance in an interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from rnasynth.errors import InputError

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(noisy images (B, ...), sigma (B,)) -> estimate of the clean images, same shape."""

Scalings = tuple[Tensor, Tensor, Tensor, Tensor]

_EDGE = 2.0**-24  # the step of float32 uniform numbers: keeps the normal quantile finite at 0 and 1


class Parametrisation(Protocol):
    """How a network's output becomes an estimate of the clean image, and at which noise levels it is trained."""

    @property
    def sigma_min(self) -> float:
        """Lowest noise level of sampling above 0."""

    @property
    def sigma_max(self) -> float:
        """Noise level at which sampling begins."""

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return c_skip, c_out, c_in and c_noise, each of the shape of `sigma` (B,)."""

    def draw(self, uniform: Tensor) -> Tensor:
        """Return noise levels for training, shape (B,), from uniform numbers in [0, 1)."""

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the squared error of the clean estimate, shape of `sigma`."""


@dataclass(frozen=True, kw_only=True)
class EDM:
    """Preconditioning, loss weight and noise distribution of EDM (table 1, last column).

    Parameters
    ----------
    sigma_data : standard deviation of the images, positive.
    mean, std : of ln(sigma) in training (the paper's P_mean and P_std); `std` positive.
    sigma_min, sigma_max : where sampling ends and begins, 0 < `sigma_min` < `sigma_max`; training is not cut to them.

    Raises
    ------
    InputError : a number outside its range.
    """

    sigma_data: float = 0.5
    mean: float = -1.2
    std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not (self.sigma_data > 0 and self.std > 0 and 0 < self.sigma_min < self.sigma_max < math.inf):
            raise InputError(
                "EDM", expected="sigma_data > 0, std > 0 and 0 < sigma_min < sigma_max", found=str(self), fix="change it"
            )

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return c_skip, c_out, c_in and c_noise, each of the shape and dtype of `sigma` (equation 7 and table 1).

        They give the network inputs and targets of unit variance where the images have the variance sigma_data^2.
        """
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4

    def draw(self, uniform: Tensor) -> Tensor:
        """Return log-normal noise levels for training, shape (B,), from uniform numbers in [0, 1) by their quantile.

        ln(sigma) ~ N(mean, std^2); strictly increasing in `uniform`, finite for 0 and 1.
        """
        return (self.mean + self.std * torch.special.ndtri(_wide(uniform).clamp(_EDGE, 1 - _EDGE))).exp()

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the loss weight 1 / c_out^2 = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, shape of `sigma`."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


@dataclass(frozen=True, kw_only=True)
class LinearDDPM:
    """The noise levels of a DDPM with linear betas, its network predicting the noise; same interface as `EDM`.

    Its noisy image sqrt(abar_t) clean + sqrt(1 - abar_t) noise, divided by sqrt(abar_t), is the one used here, with
    sigma_t = sqrt((1 - abar_t) / abar_t); c_in takes the division back. For 1,000 steps sigma runs from 0.01 to 157.

    Parameters
    ----------
    steps : number of levels, at least 2; the timestep t runs from 0 (least noise) to steps - 1.
    beta_first, beta_last : 0 < `beta_first` <= `beta_last` < 1.

    Raises
    ------
    InputError : a number outside its range.
    """

    steps: int = 1000
    beta_first: float = 1e-4
    beta_last: float = 0.02

    def __post_init__(self) -> None:
        if not (self.steps >= 2 and 0 < self.beta_first <= self.beta_last < 1):
            raise InputError("LinearDDPM", expected="steps >= 2 and 0 < beta_first <= beta_last < 1", found=str(self))

    @property
    def sigmas(self) -> Tensor:
        """Noise level of each timestep, shape (steps,), float64, increasing; do not write into it."""
        return _linear_sigmas(self.steps, self.beta_first, self.beta_last)

    @property
    def sigma_min(self) -> float:
        """Noise level of the first timestep."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """Noise level of the last timestep."""
        return float(self.sigmas[-1])

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(1 + sigma^2) and c_noise, each of the shape of `sigma`.

        c_noise is the timestep of that level: a whole number on the table, between them linear in ln(sigma), and held at
        its ends outside the table's range.
        """
        table = self.sigmas.to(device=sigma.device, dtype=sigma.dtype).log()
        level = sigma.log()
        right = torch.searchsorted(table, level.contiguous()).clamp(1, self.steps - 1)
        share = ((level - table[right - 1]) / (table[right] - table[right - 1])).clamp(0, 1)
        return torch.ones_like(sigma), -sigma, (1 + sigma.square()).rsqrt(), right - 1 + share

    def draw(self, uniform: Tensor) -> Tensor:
        """Return noise levels of equally likely timesteps, shape (B,), from uniform numbers in [0, 1)."""
        step = (_wide(uniform) * self.steps).long().clamp(0, self.steps - 1)
        return self.sigmas.to(device=uniform.device, dtype=_wide(uniform).dtype)[step]

    def weight(self, sigma: Tensor) -> Tensor:
        """Return 1 / sigma^2, shape of `sigma`: the squared error of the clean image becomes that of the noise."""
        return sigma.square().reciprocal()


@lru_cache(maxsize=8)
def _linear_sigmas(steps: int, first: float, last: float) -> Tensor:
    kept = torch.cumprod(1 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)
    return ((1 - kept) / kept).sqrt()


def level_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of noise levels: float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _wide(values: Tensor) -> Tensor:
    return values.to(level_dtype(values.device))


def _like(values: Tensor, images: Tensor) -> Tensor:
    """Return one number a sample, (B,), in the dtype of `images` and ready to multiply them."""
    return values.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))


def denoise(
    network: Callable[..., Tensor],
    parametrisation: Parametrisation,
    noisy: Tensor,
    sigma: Tensor,
    condition: Tensor | None,
    **more: Any,
) -> Tensor:
    """Return D(noisy, sigma), the estimate of the clean images (EDM, equation 7).

    Parameters
    ----------
    network : called as `network(images, level, condition, **more)`, `level` of shape (B,) being c_noise in float32; its
        output may have a lower precision (autocast).
    noisy : shape (B, C, H, W), the clean images plus sigma times normal noise.
    sigma : shape (B,), positive; float64 keeps the scalings exact.
    condition : shape (B, c), or None if the network takes none.
    **more : handed on: `keep`, `low`, `low_level`.

    Returns
    -------
    Shape of `noisy`, float32 (float64 for float64 images). It is not clipped.
    """
    noisy = noisy.to(torch.promote_types(noisy.dtype, torch.float32))
    c_skip, c_out, c_in, c_noise = parametrisation.scalings(_wide(sigma))
    output = network(_like(c_in, noisy) * noisy, c_noise.float(), condition, **more)
    return _like(c_skip, noisy) * noisy + _like(c_out, noisy) * output.to(noisy.dtype)


def weighted_error(parametrisation: Parametrisation, estimate: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """Return weight(sigma) times the mean squared error of each sample, shape (B,).

    Parameters
    ----------
    estimate, target : shape (B, ...): what `denoise` gives, and the clean images (or, when distilling, what `step_target`
        gives).
    sigma : shape (B,), the level at which `estimate` was made.
    """
    error = (estimate - target).square().flatten(1).mean(dim=1)
    return parametrisation.weight(_wide(sigma)).to(error.dtype) * error


def diffusion_loss(
    network: Callable[..., Tensor],
    parametrisation: Parametrisation,
    clean: Tensor,
    sigma: Tensor,
    noise: Tensor,
    condition: Tensor | None,
    **more: Any,
) -> Tensor:
    """Return the weighted squared error of each sample, shape (B,), mean over pixels and channels (EDM, equation 8).

    Parameters
    ----------
    clean : shape (B, C, H, W), float32 in [-1, 1].
    sigma : shape (B,), from `parametrisation.draw`.
    noise : shape of `clean`, standard normal.
    network, condition, **more : as for `denoise`.

    Notes
    -----
    A network that gives zero has the loss 1 for EDM if the images have mean 0 and the variance sigma_data^2, and for
    LinearDDPM with any images.
    """
    noisy = clean + _like(sigma, clean) * noise
    return weighted_error(parametrisation, denoise(network, parametrisation, noisy, sigma, condition, **more), clean, sigma)


def guided(
    denoise_with: Denoise, denoise_without: Denoise, weight: float, interval: tuple[float, float] | None = None
) -> Denoise:
    """Return a denoiser with classifier-free guidance: D0 + weight (D1 - D0).

    Parameters
    ----------
    denoise_with, denoise_without : D1 with the condition and D0 with the null condition.
    weight : 1 is D1 and 0 is D0 (one evaluation for either); above 1 exaggerates the condition. The weight `w` of Ho and
        Salimans is `weight` - 1.
    interval : guide only where low < sigma <= high; elsewhere D1 alone, and D0 is not evaluated. None: everywhere.

    Raises
    ------
    InputError : a weight that is not finite, or an interval that is empty.
    """
    if not math.isfinite(weight):
        raise InputError("guidance weight", expected="a finite number", found=str(weight))
    low, high = (0.0, math.inf) if interval is None else interval
    if not 0 <= low < high:
        raise InputError("guidance interval", expected="0 <= low < high, as noise levels", found=f"({low}, {high})")

    def denoised(noisy: Tensor, sigma: Tensor) -> Tensor:
        inside = (sigma > low) & (sigma <= high)
        # Without an interval nothing is read back, which would make a GPU wait at every step.
        everywhere = interval is None or bool(inside.all())
        if weight == 1 or not (everywhere or bool(inside.any())):
            return denoise_with(noisy, sigma)
        if weight == 0 and everywhere:
            return denoise_without(noisy, sigma)
        conditional, null = denoise_with(noisy, sigma), denoise_without(noisy, sigma)
        mixed = torch.lerp(null, conditional, weight)
        return mixed if everywhere else torch.where(_like(inside, conditional) > 0, mixed, conditional)

    return denoised
